"""Schedules as a source: `rate(5 minutes)`, `cron(0 8 ? * MON-FRI *)`, `*/5 * * * *`, `at(2027-01-01T00:00:00)`.

Here: the event that a function sees (`events.py`, PURE), the settings, and the trigger that waits (`trigger.py`). Not
here: when a schedule is due (eventfn/schedules); the queue that events wait in and the retries of a function, which are
the host's.
"""

from eventfn_cron.trigger import CronTrigger

__all__ = ["CronTrigger"]

"""Schedules as a source: `rate(5 minutes)`, `cron(0 8 ? * MON-FRI *)`, `*/5 * * * *`, `at(2027-01-01T00:00:00)`.

Here: the grammar of fields (`fields.py`), when a schedule is due (`schedule.py`) and the event that a function sees
(`events.py`), all PURE; the settings, and the trigger that waits (`trigger.py`). Not here: the queue that events wait
in and the retries of a function; they are the host's.
"""

from eventfn_cron.trigger import CronTrigger

__all__ = ["CronTrigger"]

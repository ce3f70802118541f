"""When something is due: `rate(5 minutes)`, `cron(0 8 ? * MON-FRI *)`, `*/5 * * * *`, `at(2027-01-01T00:00:00)`.

PURE, and part of the contract: connectors that follow schedules import this. Here: the grammar of fields (`fields.py`)
and the ticks of a schedule (`schedule.py`). Not here: who waits for a tick, and what happens at one.
"""

from eventfn.schedules.schedule import FORMS, Schedule, latest_ticks, parse

__all__ = ["FORMS", "Schedule", "latest_ticks", "parse"]

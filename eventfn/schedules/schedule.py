"""When a schedule is due. A moment is a whole number of seconds since the epoch.

PURE: the time zone and every "now" are passed in. What belongs here: the four forms of a schedule, the next tick after
a moment, the ticks between two moments. What does not: the fields of a cron expression (fields.py), waiting.

Local time and daylight saving: a tick whose local time is skipped comes once, at the first moment after the gap; a tick
whose local time is repeated comes once, the first time. `rate` counts seconds and knows no local time.
"""

from __future__ import annotations

import datetime
import re
from typing import Protocol

import msgspec

from eventfn.schedules.fields import (
    AWS,
    CRONTAB,
    FIRST_YEAR,
    HOUR,
    LAST_YEAR,
    MINUTE,
    MONTH,
    YEAR,
    Days,
    aws_days,
    crontab_days,
    numbers,
)

_SHORTHANDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_UNITS = {"minute": 60, "hour": 3600, "day": 86_400}
_MINUTE = datetime.timedelta(minutes=1)


class Schedule(Protocol):
    def next_after(self, moment: int, origin: int, zone: datetime.tzinfo) -> int | None:
        """The first tick later than `moment`; None when there is none. `origin` is when the schedule began."""
        ...


class Rate(msgspec.Struct, frozen=True):
    """Every so many seconds since the schedule began: the first tick is one interval after that."""

    every: int

    def next_after(self, moment: int, origin: int, zone: datetime.tzinfo) -> int | None:
        return moment + self.every - (moment - origin) % self.every


class At(msgspec.Struct, frozen=True):
    """Once, at a local time."""

    local: datetime.datetime

    def next_after(self, moment: int, origin: int, zone: datetime.tzinfo) -> int | None:
        tick = _moment_of(self.local, zone)
        return tick if tick > moment else None


class Cron(msgspec.Struct, frozen=True):
    """At the minutes of local time that its fields name. Hours and minutes ascend."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: Days
    months: frozenset[int]
    years: frozenset[int]

    def next_after(self, moment: int, origin: int, zone: datetime.tzinfo) -> int | None:
        local = datetime.datetime.fromtimestamp(moment, zone).replace(tzinfo=None, second=0, fold=0)
        # Local times in order are moments in order, gaps and repeats included, so the first one that lies after
        # `moment` is the answer. A few are tried in vain only where the clock was set back.
        while (found := self._next_local(local)) is not None:
            tick = _moment_of(found, zone)
            if tick > moment:
                return tick
            local = found + _MINUTE
        return None

    def _next_local(self, start: datetime.datetime) -> datetime.datetime | None:
        """The first matching minute of local time at or after `start`."""
        for year in range(max(start.year, FIRST_YEAR), LAST_YEAR + 1):
            if year not in self.years:
                continue
            for month in range(start.month if year == start.year else 1, 13):
                if month not in self.months:
                    continue
                for day in self.days.of(year, month):
                    if day < start.day and (year, month) == (start.year, start.month):
                        continue
                    date = datetime.date(year, month, day)
                    time = self._first_time(start.time() if date == start.date() else datetime.time.min)
                    if time is not None:
                        return datetime.datetime.combine(date, time)
        return None

    def _first_time(self, earliest: datetime.time) -> datetime.time | None:
        for hour in self.hours:
            if hour < earliest.hour:
                continue
            for minute in self.minutes:
                if hour > earliest.hour or minute >= earliest.minute:
                    return datetime.time(hour, minute)
        return None


def _moment_of(local: datetime.datetime, zone: datetime.tzinfo) -> int:
    """When the clocks of `zone` show `local`: the first time if they do twice, right after the gap if they never do."""
    moment = int(local.replace(tzinfo=zone).timestamp())
    if datetime.datetime.fromtimestamp(moment, zone).replace(tzinfo=None) == local:
        return moment
    # In a gap the two readings of `local`, by the offset before it and by the one after it, enclose its end.
    before, after = int(local.replace(tzinfo=zone, fold=1).timestamp()), moment
    offset = datetime.datetime.fromtimestamp(after, zone).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after


# --- reading one ------------------------------------------------------------------------------------------------------

FORMS = '"rate(5 minutes)", "cron(0 8 ? * MON-FRI *)", "*/5 * * * *", "@daily" or "at(2027-01-01T00:00:00)"'


def parse(text: str) -> Schedule:
    """Raises ValueError with what was expected, also for a schedule that can never be due (30 February)."""
    form = re.fullmatch(r"(rate|cron|at)\((.*)\)", text)
    if form is None:
        return _crontab(text)
    match form[1]:
        case "rate":
            return _rate(form[2])
        case "at":
            return _at(form[2])
        case _:
            return _aws_cron(form[2])


def _rate(text: str) -> Rate:
    form = re.fullmatch(r"([0-9]{1,9}) (minute|hour|day)(s?)", text)
    if form is None or int(form[1]) < 1:
        raise ValueError(
            "expected rate(VALUE UNIT): a whole number of at least 1, one space, and minutes, hours or days, "
            f'as in "rate(5 minutes)", not "rate({text})"'
        )
    value, unit = int(form[1]), form[2]
    if (value == 1) == bool(form[3]):
        raise ValueError(f'expected "rate({value} {unit if value == 1 else unit + "s"})", not "rate({text})"')
    return Rate(value * _UNITS[unit])


def _at(text: str) -> At:
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", text, re.ASCII):
            return At(datetime.datetime.fromisoformat(text))
    except ValueError:
        pass  # the right shape, but no such date or time
    raise ValueError(f'expected at(yyyy-mm-ddThh:mm:ss), a date and time that exist, not "at({text})"')


def _aws_cron(text: str) -> Cron:
    fields = text.split()
    if len(fields) != 6:
        raise ValueError(
            f'expected six fields in cron(minute hour day-of-month month day-of-week year), as in "{AWS.example}", '
            f"not {len(fields)}"
        )
    minute, hour, of_month, month, of_week, year = fields
    return _possible(
        Cron(
            tuple(sorted(numbers(minute, MINUTE, AWS))),
            tuple(sorted(numbers(hour, HOUR, AWS))),
            aws_days(of_month, of_week),
            numbers(month, MONTH, AWS),
            numbers(year, YEAR, AWS),
        )
    )


def _crontab(text: str) -> Cron:
    fields = _SHORTHANDS.get(text, text).split()
    if len(fields) != 5:
        raise ValueError(f"expected a schedule such as {FORMS}, not {text!r}")
    minute, hour, of_month, month, of_week = fields
    return _possible(
        Cron(
            tuple(sorted(numbers(minute, MINUTE, CRONTAB))),
            tuple(sorted(numbers(hour, HOUR, CRONTAB))),
            crontab_days(of_month, of_week),
            numbers(month, MONTH, CRONTAB),
            frozenset(range(FIRST_YEAR, LAST_YEAR + 1)),
        )
    )


def _possible(cron: Cron) -> Cron:
    if not any(cron.days.of(year, month) for year in cron.years for month in cron.months):
        raise ValueError("this schedule can never be due: no year that it names has such a day")
    return cron


# --- several ticks ----------------------------------------------------------------------------------------------------


def latest_ticks(
    schedule: Schedule, after: int, until: int, origin: int, zone: datetime.tzinfo, count: int
) -> list[int]:
    """The last `count` ticks later than `after` and not later than `until`, in order.

    Looks back over ever longer spans from `until`, so a year of missed minutes costs no more than a day of them.
    """
    span = 3600
    while True:
        start = max(after, until - span)
        ticks: list[int] = []
        tick = schedule.next_after(start, origin, zone)
        while tick is not None and tick <= until:
            ticks.append(tick)
            tick = schedule.next_after(tick, origin, zone)
        if start == after or len(ticks) >= count:
            return ticks[-count:]
        span *= 2

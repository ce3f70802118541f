"""The fields of a cron expression, in both dialects: AWS's six and the five of a crontab.

PURE. What belongs here: text to sets of numbers, with errors that say what was expected; which days of a month a rule
names. What does not: clock times, time zones (schedule.py).

Sources: Amazon EventBridge, "Cron expressions" (six fields, L, W, #, ?); crontab(5) of cronie (five fields). AWS counts
days of the week 1-7 from Sunday, crontab 0-6 from Sunday with 7 as Sunday again; here they are 0-6 from Sunday.
"""

from __future__ import annotations

import calendar
import datetime
import functools
import re

import msgspec

FIRST_YEAR, LAST_YEAR = 1970, 2199  # AWS's range; crontab's five fields have no year and get the same

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


class Dialect(msgspec.Struct, frozen=True):
    """What one of the two grammars allows between the commas."""

    wraps: bool  # 22-2 is 22, 23, 0, 1, 2
    open_step: bool  # 5/10 is 5, 15, 25 ... to the field's end
    example: str


AWS = Dialect(wraps=True, open_step=True, example="cron(0 8 ? * MON-FRI *)")
CRONTAB = Dialect(wraps=False, open_step=False, example="*/5 * * * *")


class Field(msgspec.Struct, frozen=True):
    """One field's name, bounds (both included) and names for numbers."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()  # for low, low + 1 ...

    def number(self, text: str) -> int:
        """Raises ValueError when `text` is neither a number of this field nor one of its names."""
        if text.upper() in self.names:
            return self.low + self.names.index(text.upper())
        if re.fullmatch(r"[0-9]{1,4}", text) and self.low <= int(text) <= self.high:
            return int(text)
        names = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        raise ValueError(f"{self.name}: expected {self.low}-{self.high}{names}, not {text!r}")


MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DAY = Field("day of month", 1, 31)
MONTH = Field("month", 1, 12, MONTHS)
YEAR = Field("year", FIRST_YEAR, LAST_YEAR)
AWS_WEEKDAY = Field("day of week", 1, 7, WEEKDAYS)
CRONTAB_WEEKDAY = Field("day of week", 0, 7, WEEKDAYS)


def numbers(text: str, field: Field, dialect: Dialect) -> frozenset[int]:
    """The numbers that a field without L, W, # and ? names. Raises ValueError."""
    return frozenset(number for element in text.split(",") for number in _element(element, field, dialect))


def _element(text: str, field: Field, dialect: Dialect) -> list[int]:
    base, slash, step_text = text.partition("/")
    step = _step(step_text, field) if slash else 1
    if base == "*":
        low, high = field.low, field.high
    elif "-" in base:
        first, _, last = base.partition("-")
        low, high = field.number(first), field.number(last)
    elif slash and not dialect.open_step:
        raise ValueError(f"{field.name}: a step needs a range: write {base}-{field.high}/{step_text}, not {text!r}")
    else:
        low = field.number(base)
        high = field.high if slash else low
    if low <= high:
        return list(range(low, high + 1, step))
    if not dialect.wraps or field is YEAR:
        raise ValueError(f"{field.name}: the range {base!r} ends before it starts")
    size = field.high - field.low + 1
    return [(value - field.low) % size + field.low for value in range(low, high + size + 1, step)]


def _step(text: str, field: Field) -> int:
    size = field.high - field.low + 1
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= size:
        # A larger step is a mistake: */90 in minutes runs every hour, not every 90 minutes.
        raise ValueError(f"{field.name}: expected a step of 1 to {size} after '/', not {text!r}")
    return int(text)


# --- days -------------------------------------------------------------------------------------------------------------


class DaysOfMonth(msgspec.Struct, frozen=True):
    """15, L (the last day), 15W (the weekday next to the 15th, in the same month)."""

    days: frozenset[int]
    last: bool = False
    near: frozenset[int] = frozenset()

    def of(self, year: int, month: int) -> set[int]:
        length = calendar.monthrange(year, month)[1]
        found = {day for day in self.days if day <= length}
        found |= {_nearest_weekday(year, month, day, length) for day in self.near if day <= length}
        return found | {length} if self.last else found


class DaysOfWeek(msgspec.Struct, frozen=True):
    """TUE, 6L (the last Friday of the month), 3#2 (its second Tuesday); numbered 0-6 from Sunday."""

    days: frozenset[int]
    last: frozenset[int] = frozenset()
    nth: tuple[int, int] | None = None  # (weekday, which one)

    def of(self, year: int, month: int) -> set[int]:
        length = calendar.monthrange(year, month)[1]
        first = (datetime.date(year, month, 1).weekday() + 1) % 7  # date.weekday() counts from Monday
        weekday = {day: (first + day - 1) % 7 for day in range(1, length + 1)}
        return {
            day
            for day, name in weekday.items()
            if name in self.days or (name in self.last and day + 7 > length) or (name, (day + 6) // 7) == self.nth
        }


class Days(msgspec.Struct, frozen=True):
    """Which days of a month: by its days, by its weekdays, or by both (crontab's: see `crontab_days`)."""

    of_month: DaysOfMonth | None
    of_week: DaysOfWeek | None
    either: bool = False  # with both: any of them, not only where they meet

    def of(self, year: int, month: int) -> tuple[int, ...]:
        """Ascending."""
        return _days_of(self, year, month)


@functools.lru_cache(maxsize=256)  # a schedule asks for the same month at every tick
def _days_of(days: Days, year: int, month: int) -> tuple[int, ...]:
    every = set(range(1, calendar.monthrange(year, month)[1] + 1))
    of_month = every if days.of_month is None else days.of_month.of(year, month)
    of_week = every if days.of_week is None else days.of_week.of(year, month)
    return tuple(sorted(of_month | of_week if days.either else of_month & of_week))


def aws_days(of_month: str, of_week: str) -> Days:
    """Exactly one of the two fields is `?`. Raises ValueError."""
    if (of_month == "?") == (of_week == "?"):
        raise ValueError("exactly one of day of month and day of week must be '?', as in cron(0 8 ? * MON-FRI *)")
    if of_week == "?":
        return Days(_aws_days_of_month(of_month), None)
    return Days(None, _aws_days_of_week(of_week))


def _aws_days_of_month(text: str) -> DaysOfMonth:
    days: set[int] = set()
    near: set[int] = set()
    last = False
    for element in text.split(","):
        if element == "L":
            last = True
        elif element.endswith("W"):
            near.add(DAY.number(element[:-1]))
        else:
            days |= numbers(element, DAY, AWS)
    return DaysOfMonth(frozenset(days), last, frozenset(near))


def _aws_days_of_week(text: str) -> DaysOfWeek:
    if "#" in text:
        weekday, _, which = text.partition("#")
        if which not in ("1", "2", "3", "4", "5"):
            raise ValueError(f"day of week: expected one weekday, '#' and 1 to 5, as in 3#2, not {text!r}")
        return DaysOfWeek(frozenset(), nth=(AWS_WEEKDAY.number(weekday) - 1, int(which)))
    days: set[int] = set()
    last: set[int] = set()
    for element in text.split(","):
        if element == "L":
            days.add(6)  # the last day of the week
        elif element.endswith("L"):
            last.add(AWS_WEEKDAY.number(element[:-1]) - 1)
        else:
            days |= {number - 1 for number in numbers(element, AWS_WEEKDAY, AWS)}
    return DaysOfWeek(frozenset(days), frozenset(last))


def crontab_days(of_month: str, of_week: str) -> Days:
    """crontab(5): with both fields restricted a day matches if either does; a field that starts with `*` does not
    count as restricted, so both must match then. Raises ValueError."""
    month_days = DaysOfMonth(numbers(of_month, DAY, CRONTAB))
    week_days = DaysOfWeek(frozenset(number % 7 for number in numbers(of_week, CRONTAB_WEEKDAY, CRONTAB)))
    return Days(
        None if of_month == "*" else month_days,
        None if of_week == "*" else week_days,
        either=not of_month.startswith("*") and not of_week.startswith("*"),
    )


def _nearest_weekday(year: int, month: int, day: int, length: int) -> int:
    weekday = datetime.date(year, month, day).weekday()
    if weekday == 5:  # Saturday: the Friday before, unless that is in the month before
        return day - 1 if day > 1 else day + 2
    if weekday == 6:  # Sunday: the Monday after, unless that is in the month after
        return day + 1 if day < length else day - 2
    return day

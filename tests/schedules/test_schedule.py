"""When a schedule is due: tables from the manuals, and a walker that tries every minute."""

from __future__ import annotations

import contextlib
import datetime
import zoneinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfn.schedules import latest_ticks, parse
from eventfn.schedules.schedule import Cron

UTC = datetime.UTC
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
NEW_YORK = zoneinfo.ZoneInfo("America/New_York")
LORD_HOWE = zoneinfo.ZoneInfo("Australia/Lord_Howe")  # its clocks move by half an hour
APIA = zoneinfo.ZoneInfo("Pacific/Apia")  # had no 30 December 2011
KATHMANDU = zoneinfo.ZoneInfo("Asia/Kathmandu")  # 5:45 off
ZONES = [UTC, BERLIN, NEW_YORK, LORD_HOWE, APIA, KATHMANDU, zoneinfo.ZoneInfo("America/Sao_Paulo")]


def moment(text: str, zone: datetime.tzinfo = UTC) -> int:
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())


def ticks(schedule: str, after: str, count: int, zone: datetime.tzinfo = UTC, origin: str | None = None) -> list[str]:
    """The next ticks in local time, with the offset where the zone has one."""
    parsed, at = parse(schedule), moment(after, zone)
    begun = at if origin is None else moment(origin, zone)
    found: list[str] = []
    for _ in range(count):
        following = parsed.next_after(at, begun, zone)
        if following is None:
            break
        at = following
        local = datetime.datetime.fromtimestamp(at, zone)
        found.append(local.isoformat(timespec="minutes") if zone is not UTC else f"{local:%Y-%m-%dT%H:%M}")
    return found


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        # the examples of the EventBridge manual
        ("cron(0 10 * * ? *)", "2026-11-21T10:00", ["2026-11-22T10:00", "2026-11-23T10:00"]),
        ("cron(15 12 * * ? *)", "2026-11-21T12:00", ["2026-11-21T12:15", "2026-11-22T12:15"]),
        ("cron(0 18 ? * MON-FRI *)", "2026-11-20T18:00", ["2026-11-23T18:00", "2026-11-24T18:00"]),
        ("cron(0 8 1 * ? *)", "2026-11-21T00:00", ["2026-12-01T08:00", "2027-01-01T08:00"]),
        ("cron(0/15 * * * ? *)", "2026-11-21T10:59", ["2026-11-21T11:00", "2026-11-21T11:15"]),
        ("cron(0/10 * ? * MON-FRI *)", "2026-11-20T23:50", ["2026-11-23T00:00", "2026-11-23T00:10"]),
        ("cron(0/5 8-17 ? * MON-FRI *)", "2026-11-20T17:55", ["2026-11-23T08:00", "2026-11-23T08:05"]),
        ("cron(0 9 ? * 2#1 *)", "2026-11-21T00:00", ["2026-12-07T09:00", "2027-01-04T09:00"]),
        # open steps, ranges that wrap, lists, names
        ("cron(5/20 0 * * ? *)", "2026-11-21T00:00", ["2026-11-21T00:05", "2026-11-21T00:25", "2026-11-21T00:45"]),
        ("cron(0 22-1 * * ? *)", "2026-11-21T00:30", ["2026-11-21T01:00", "2026-11-21T22:00", "2026-11-21T23:00"]),
        ("cron(58-1 0 * * ? *)", "2026-11-21T00:00", ["2026-11-21T00:01", "2026-11-21T00:58", "2026-11-21T00:59"]),
        ("cron(0 20-2/2 * * ? *)", "2026-11-21T00:00", ["2026-11-21T02:00", "2026-11-21T20:00", "2026-11-21T22:00"]),
        ("cron(0 0 ? * FRI-MON *)", "2026-11-23T00:00", ["2026-11-27T00:00", "2026-11-28T00:00", "2026-11-29T00:00"]),
        ("cron(0 0 1 NOV-FEB ? *)", "2026-11-21T00:00", ["2026-12-01T00:00", "2027-01-01T00:00", "2027-02-01T00:00"]),
        ("cron(0 0 30-2 6 ? *)", "2026-01-01T00:00", ["2026-06-01T00:00", "2026-06-02T00:00", "2026-06-30T00:00"]),
        ("cron(0 0 ? * 1,7 *)", "2026-11-21T00:00", ["2026-11-22T00:00", "2026-11-28T00:00"]),
        ("cron(0 0 ? * sun *)", "2026-11-21T00:00", ["2026-11-22T00:00"]),
        ("cron(1,3 0 * * ? *)", "2026-11-21T00:00", ["2026-11-21T00:01", "2026-11-21T00:03"]),
        # L, W, #
        ("cron(0 0 L * ? *)", "2026-01-31T00:00", ["2026-02-28T00:00", "2026-03-31T00:00"]),
        ("cron(0 0 L 2 ? *)", "2027-03-01T00:00", ["2028-02-29T00:00"]),
        ("cron(0 0 1,L * ? *)", "2026-04-01T00:00", ["2026-04-30T00:00", "2026-05-01T00:00"]),
        ("cron(0 0 15W * ? *)", "2026-08-01T00:00", ["2026-08-14T00:00", "2026-09-15T00:00"]),
        ("cron(0 0 15W 11 ? *)", "2026-11-01T00:00", ["2026-11-16T00:00"]),
        ("cron(0 0 1W * ? *)", "2026-08-01T00:00", ["2026-08-03T00:00", "2026-09-01T00:00"]),
        ("cron(0 0 31W 5 ? *)", "2026-05-01T00:00", ["2026-05-29T00:00"]),
        ("cron(0 0 31W 4 ? *)", "2026-01-01T00:00", None),
        ("cron(0 0 ? * L *)", "2026-11-21T00:00", ["2026-11-28T00:00", "2026-12-05T00:00"]),
        ("cron(0 0 ? * 6L *)", "2026-11-21T00:00", ["2026-11-27T00:00", "2026-12-25T00:00"]),
        ("cron(0 0 ? * FRIL *)", "2026-11-21T00:00", ["2026-11-27T00:00"]),
        ("cron(0 0 ? * 3#2 *)", "2026-11-21T00:00", ["2026-12-08T00:00", "2027-01-12T00:00"]),
        ("cron(0 0 ? * 1#5 *)", "2026-11-01T00:00", ["2026-11-29T00:00", "2027-01-31T00:00"]),
        # years
        ("cron(0 0 1 1 ? 2028)", "2026-11-21T00:00", ["2028-01-01T00:00"]),
        (
            "cron(0 0 1 1 ? 2027-2031/2)",
            "2026-11-21T00:00",
            ["2027-01-01T00:00", "2029-01-01T00:00", "2031-01-01T00:00"],
        ),
        ("cron(0 0 1 1 ? 2020)", "2026-11-21T00:00", []),
        ("cron(59 23 31 12 ? 2199)", "2026-11-21T00:00", ["2199-12-31T23:59"]),
        ("cron(0 0 29 2 ? *)", "2096-03-01T00:00", ["2104-02-29T00:00"]),
        # a crontab's
        ("*/5 * * * *", "2026-11-21T10:02", ["2026-11-21T10:05", "2026-11-21T10:10"]),
        ("0 0 * * 0", "2026-11-21T00:00", ["2026-11-22T00:00"]),
        ("0 0 * * 7", "2026-11-21T00:00", ["2026-11-22T00:00"]),
        ("0 0 * * 6-7", "2026-11-20T00:00", ["2026-11-21T00:00", "2026-11-22T00:00", "2026-11-28T00:00"]),
        ("0 0 * * mon-fri", "2026-11-20T00:00", ["2026-11-23T00:00"]),
        ("0 4 1,15 jan,jul *", "2026-11-21T00:00", ["2027-01-01T04:00", "2027-01-15T04:00", "2027-07-01T04:00"]),
        ("30 9-17/4 * * *", "2026-11-21T00:00", ["2026-11-21T09:30", "2026-11-21T13:30", "2026-11-21T17:30"]),
        # both days given: either of them; with a star in one, both
        ("0 0 13 * 5", "2026-11-01T00:00", ["2026-11-06T00:00", "2026-11-13T00:00", "2026-11-20T00:00"]),
        ("0 0 1 * 1", "2026-11-20T00:00", ["2026-11-23T00:00", "2026-11-30T00:00", "2026-12-01T00:00"]),
        ("0 0 */2 * 1", "2026-11-01T00:00", ["2026-11-09T00:00", "2026-11-23T00:00", "2026-12-07T00:00"]),
        ("@hourly", "2026-11-21T10:00", ["2026-11-21T11:00"]),
        ("@daily", "2026-11-21T10:00", ["2026-11-22T00:00"]),
        ("@weekly", "2026-11-21T10:00", ["2026-11-22T00:00", "2026-11-29T00:00"]),
        ("@monthly", "2026-11-21T10:00", ["2026-12-01T00:00"]),
        ("@yearly", "2026-11-21T10:00", ["2027-01-01T00:00"]),
        ("at(2027-01-01T12:30:00)", "2026-11-21T10:00", ["2027-01-01T12:30"]),
        ("at(2026-01-01T12:30:00)", "2026-11-21T10:00", []),
    ],
)
def test_a_schedule_is_due(schedule: str, after: str, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="never be due"):
            parse(schedule)
    else:
        assert ticks(schedule, after, max(len(expected), 1)) == expected


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "expected"),
    [
        # the hour from 2 to 3 is skipped: right after the gap, once
        ("30 2 * * *", BERLIN, "2026-03-28T03:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
        ("*/20 2 * * *", BERLIN, "2026-03-28T03:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]),
        (
            "*/30 * * * *",
            BERLIN,
            "2026-03-29T01:00",
            ["2026-03-29T01:30+01:00", "2026-03-29T03:00+02:00", "2026-03-29T03:30+02:00"],
        ),
        ("cron(30 2 ? * SUN *)", NEW_YORK, "2026-03-07T00:00", ["2026-03-08T03:00-04:00", "2026-03-15T02:30-04:00"]),
        ("at(2026-03-29T02:30:00)", BERLIN, "2026-01-01T00:00", ["2026-03-29T03:00+02:00"]),
        # the hour from 2 to 3 comes twice: the first time, once
        ("30 2 * * *", BERLIN, "2026-10-24T03:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        (
            "*/30 * * * *",
            BERLIN,
            "2026-10-25T01:30",
            ["2026-10-25T02:00+02:00", "2026-10-25T02:30+02:00", "2026-10-25T03:00+01:00"],
        ),
        ("at(2026-10-25T02:30:00)", BERLIN, "2026-01-01T00:00", ["2026-10-25T02:30+02:00"]),
        # half an hour is skipped and repeated
        ("15 2 * * *", LORD_HOWE, "2026-10-03T12:00", ["2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"]),
        ("45 1 * * *", LORD_HOWE, "2026-04-04T12:00", ["2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"]),
        # a day is skipped
        ("0 12 * * *", APIA, "2011-12-29T12:00", ["2011-12-31T00:00+14:00", "2011-12-31T12:00+14:00"]),
        ("0 0 * * *", KATHMANDU, "2026-11-21T00:00", ["2026-11-22T00:00+05:45"]),
    ],
)
def test_local_time_with_gaps_and_repeats(
    schedule: str, zone: datetime.tzinfo, after: str, expected: list[str]
) -> None:
    assert ticks(schedule, after, len(expected), zone) == expected


def test_the_second_time_of_a_repeated_hour_is_quiet() -> None:
    second_pass = int(datetime.datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1).timestamp())
    following = parse("*/5 * * * *").next_after(second_pass, 0, BERLIN)
    assert following == moment("2026-10-25T03:00", BERLIN)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("rate(1 minute)", ["2026-11-21T10:01", "2026-11-21T10:02"]),
        ("rate(90 minutes)", ["2026-11-21T11:30", "2026-11-21T13:00"]),
        ("rate(1 hour)", ["2026-11-21T11:00", "2026-11-21T12:00"]),
        ("rate(2 days)", ["2026-11-23T10:00", "2026-11-25T10:00"]),
    ],
)
def test_a_rate_counts_from_where_it_began(schedule: str, expected: list[str]) -> None:
    assert ticks(schedule, "2026-11-21T10:00", 2) == expected


def test_a_rate_stays_on_its_grid() -> None:
    assert ticks("rate(5 minutes)", "2026-11-21T10:07", 2, origin="2026-11-21T10:01") == [
        "2026-11-21T10:11",
        "2026-11-21T10:16",
    ]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("", "expected a schedule such as"),
        ("hello", "expected a schedule such as"),
        ("* * * *", "expected a schedule such as"),
        ("* * * * * *", "expected a schedule such as"),
        ("@reboot", "expected a schedule such as"),
        (" rate(5 minutes)", "expected a schedule such as"),
        ("rate(0 minutes)", "at least 1"),
        ("rate(5)", "VALUE UNIT"),
        ("rate(5  minutes)", "one space"),
        ("rate( 5 minutes)", "one space"),
        ("rate(5 minutes )", "one space"),
        ("rate(5 Minutes)", "minutes, hours or days"),
        ("rate(5 seconds)", "minutes, hours or days"),
        ("rate(1.5 hours)", "whole number"),
        ("rate(-5 minutes)", "whole number"),
        ("rate(1 minutes)", r'expected "rate\(1 minute\)"'),
        ("rate(5 minute)", r'expected "rate\(5 minutes\)"'),
        ("cron(0 10 * * ?)", "six fields"),
        ("cron(0 10 * * * *)", "exactly one of"),
        ("cron(0 10 ? * ? *)", "exactly one of"),
        ("cron(60 10 * * ? *)", "minute: expected 0-59"),
        ("cron(0 24 * * ? *)", "hour: expected 0-23"),
        ("cron(0 0 0 * ? *)", "day of month: expected 1-31"),
        ("cron(0 0 32W * ? *)", "day of month: expected 1-31"),
        ("cron(0 0 1 13 ? *)", "month: expected 1-12 or JAN-DEC"),
        ("cron(0 0 ? * 0 *)", "day of week: expected 1-7 or SUN-SAT"),
        ("cron(0 0 ? * 8 *)", "day of week: expected 1-7"),
        ("cron(0 0 ? * 3#6 *)", "day of week: expected one weekday"),
        ("cron(0 0 ? * 3#2,4#1 *)", "day of week: expected one weekday"),
        ("cron(0 0 ? * 3#0 *)", "day of week: expected one weekday"),
        ("cron(0 0 1 1 ? 1969)", "year: expected 1970-2199"),
        ("cron(0 0 1 1 ? 2200)", "year: expected 1970-2199"),
        ("cron(0 0 1 1 ? 2030-2028)", "ends before it starts"),
        ("cron(*/0 * * * ? *)", "a step of 1 to 60"),
        ("cron(*/90 * * * ? *)", "a step of 1 to 60"),
        ("cron(/5 * * * ? *)", "minute: expected 0-59"),
        ("cron(1,,2 * * * ? *)", "minute: expected 0-59"),
        ("cron(1- * * * ? *)", "minute: expected 0-59"),
        ("cron(\u0661 * * * ? *)", "minute: expected 0-59"),
        ("cron(0 0 30 2 ? *)", "never be due"),
        ("cron(0 0 29 2 ? 2027)", "never be due"),
        ("cron(0 0 31 4,6,9,11 ? *)", "never be due"),
        ("0 0 30 2 *", "never be due"),
        ("5/15 * * * *", "write 5-59/15"),
        ("0 22-2 * * *", "ends before it starts"),
        ("0 0 L * *", "day of month: expected 1-31"),
        ("0 0 ? * *", "day of month: expected 1-31"),
        ("0 0 * * 8", "day of week: expected 0-7"),
        ("0 0 * * 3#2", "day of week: expected 0-7"),
        ("at(2027-01-01)", "yyyy-mm-ddThh:mm:ss"),
        ("at(2027-02-29T00:00:00)", "that exist"),
        ("at(2027-01-01T24:00:00)", "that exist"),
        ("at(2027-01-01T00:00:00Z)", "yyyy-mm-ddThh:mm:ss"),
    ],
)
def test_a_mistake_says_what_was_expected(schedule: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(schedule)


# --- against a walker -------------------------------------------------------------------------------------------------


def walk(cron: Cron, start: int, minutes: int, zone: datetime.tzinfo) -> list[int]:
    """Every local minute once, in the order of the calendar: its moment, or the end of the gap that it lies in."""
    local = datetime.datetime.fromtimestamp(start, zone).replace(tzinfo=None, second=0)
    found: set[int] = set()
    for _ in range(minutes):
        local += datetime.timedelta(minutes=1)
        if (
            local.minute in cron.minutes
            and local.hour in cron.hours
            and local.month in cron.months
            and local.day in cron.days.of(local.year, local.month)
        ):
            at = int(local.replace(tzinfo=zone).timestamp())
            if datetime.datetime.fromtimestamp(at, zone).replace(tzinfo=None) != local:
                # In a gap: step back a second at a time for as long as the offset is the one after it.
                offset = datetime.datetime.fromtimestamp(at, zone).utcoffset()
                while datetime.datetime.fromtimestamp(at - 60, zone).utcoffset() == offset:
                    at -= 60
            found.add(at)
    return sorted(at for at in found if at > start)


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    ranges = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    steps = st.tuples(ranges, st.integers(1, high - low + 1)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    stars = st.integers(1, high - low + 1).map(lambda step: f"*/{step}")
    one = st.one_of(number.map(str), ranges, steps, stars)
    return st.one_of(st.just("*"), st.lists(one, min_size=1, max_size=3).map(",".join))


# Two days before a change of the clocks in one of the zones, or anywhere.
STARTS = [
    moment("2026-03-27T22:00"),
    moment("2026-10-23T22:00"),
    moment("2026-03-06T22:00"),
    moment("2026-10-02T10:00"),
    moment("2026-04-03T10:00"),
    moment("2011-12-28T20:00"),
    moment("2018-11-02T20:00"),
    moment("2028-02-27T00:00"),
]


@settings(max_examples=120, deadline=None)
@given(
    fields=st.tuples(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6)),
    zone=st.sampled_from(ZONES),
    start=st.sampled_from(STARTS),
    shift=st.integers(0, 86_400),
)
def test_a_walker_finds_the_same_ticks(fields: tuple[str, ...], zone: datetime.tzinfo, start: int, shift: int) -> None:
    expression = " ".join(fields)
    cron = None
    with contextlib.suppress(ValueError):
        cron = parse(expression)
    if cron is None:
        with pytest.raises(ValueError, match="never be due"):
            parse(expression)
        return
    assert isinstance(cron, Cron)
    at = start + shift
    minutes = 3 * 1440
    expected = walk(cron, at, minutes, zone)
    horizon = at + (minutes - 1500) * 60  # within it the walker has surely seen every minute, a skipped day included
    found: list[int] = []
    following = cron.next_after(at, 0, zone)
    while following is not None and following <= horizon:
        found.append(following)
        following = cron.next_after(following, 0, zone)
    assert found == [tick for tick in expected if tick <= horizon]


@settings(max_examples=50, deadline=None)
@given(
    schedule=st.sampled_from(["* * * * *", "*/7 3 * * *", "0 0 1 * *", "rate(7 minutes)", "30 2 * * 0"]),
    span=st.integers(0, 40 * 86_400),
    count=st.integers(1, 50),
)
def test_the_latest_ticks_are_the_last_of_all_ticks(schedule: str, span: int, count: int) -> None:
    parsed, after = parse(schedule), moment("2026-03-15T12:34")
    all_ticks: list[int] = []
    following = parsed.next_after(after, after, BERLIN)
    while following is not None and following <= after + span:
        all_ticks.append(following)
        following = parsed.next_after(following, after, BERLIN)
    assert latest_ticks(parsed, after, after + span, after, BERLIN, count) == all_ticks[-count:]


def test_a_year_of_quarters_has_every_one_once() -> None:
    parsed, at = parse("*/15 * * * *"), moment("2026-01-01T00:00")
    until, count = moment("2027-01-01T00:00"), 0
    while (following := parsed.next_after(at, 0, UTC)) is not None and following <= until:
        assert following == at + 900
        at, count = following, count + 1
    assert count == 365 * 96

"""The cron trigger under a host that dies between any two of its steps, and under clocks that jump."""

from __future__ import annotations

import asyncio
import datetime
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventfn.errors import EngineFull
from eventfn.testing import FakeClock
from eventfn.testing.contexts import MemoryPositions, trigger_context
from eventfn.trigger import DONE, Reject, Retry
from eventfn_cron import CronTrigger
from eventfn_cron.settings import CronSettings
from eventfn_cron.trigger import MOST_MISSED

START = int(datetime.datetime(2026, 11, 21, 10, 0, 30, tzinfo=datetime.UTC).timestamp()) * 1000


class Machine:
    """What outlives a process: the clock on the wall, and the disk with the positions and the accepted events."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.settings = CronSettings(**settings)
        self.clock = FakeClock(START)
        self.positions = MemoryPositions()
        self.accepted: list[dict[str, Any]] = []

    @property
    def times(self) -> list[str]:
        return [event["time"][11:16] for event in self.accepted]

    async def started(self) -> CronTrigger:
        context = trigger_context(self.folder, clock=self.clock, positions=self.positions)
        trigger = CronTrigger(self.settings, None, context)
        await trigger.connect()
        return trigger

    async def handle_one(self, trigger: CronTrigger, dies_after: str = "") -> None:
        """read, accept with the position in one step, settle; `dies_after` names the step that is the last one."""
        batch = await trigger.read(10)
        if dies_after == "read":
            return
        (record,) = batch.records
        self.accepted.append(msgspec.json.decode(record.payload))
        assert record.position is not None
        await self.positions.put(record.position.key, record.position.value)
        if dies_after == "accept":
            return
        await trigger.settle(batch, [DONE])

    async def run(self, trigger: CronTrigger, seconds: float) -> None:
        """The host's loop, for as long as this on the clock."""

        async def serve() -> None:
            while True:
                await self.handle_one(trigger)

        serving = asyncio.ensure_future(serve())
        await self.clock.advance(seconds)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    def jump(self, seconds: float) -> None:
        """The wall clock moves, and nothing else does."""
        self.clock._start_ms += round(seconds * 1000)


async def test_every_tick_is_an_event(tmp_path: Path) -> None:
    machine = Machine(tmp_path, schedule="*/5 * * * *")
    await machine.run(await machine.started(), 1200)
    assert machine.times == ["10:05", "10:10", "10:15", "10:20"]


async def test_the_event_is_eventbridges(tmp_path: Path) -> None:
    machine = Machine(tmp_path, schedule="@hourly")
    await machine.run(await machine.started(), 3600)
    (event,) = machine.accepted
    assert len(event.pop("id")) == 36
    assert event == {
        "version": "0",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": "2026-11-21T11:00:00Z",
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:000000000000:rule/hello-test-0"],
        "detail": {},
    }


@pytest.mark.parametrize("given", [{"report": "daily"}, ["a"], "text", 7, False])
async def test_an_input_is_the_whole_event(tmp_path: Path, given: Any) -> None:
    machine = Machine(tmp_path, schedule="@hourly", input=given)
    trigger = await machine.started()
    await machine.clock.advance(3600)
    (record,) = (await trigger.read(1)).records
    assert msgspec.json.decode(record.payload) == given


@pytest.mark.parametrize("dies_after", ["read", "accept", "settle"])
async def test_a_tick_comes_once_whenever_the_host_dies(tmp_path: Path, dies_after: str) -> None:
    machine = Machine(tmp_path, schedule="* * * * *", missed="all")
    for _ in range(5):
        trigger = await machine.started()
        await machine.clock.advance(60)
        await machine.handle_one(trigger, dies_after)
    await machine.run(await machine.started(), 60)
    assert machine.times == ["10:01", "10:02", "10:03", "10:04", "10:05", "10:06"]


async def test_a_rate_keeps_its_grid_over_restarts(tmp_path: Path) -> None:
    machine = Machine(tmp_path, schedule="rate(10 minutes)")
    await machine.run(await machine.started(), 601)
    await machine.clock.advance(240)
    await machine.run(await machine.started(), 601)
    assert [event["time"][11:19] for event in machine.accepted] == ["10:10:30", "10:20:30"]


async def test_a_tick_that_the_host_cannot_take_comes_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path, schedule="@hourly")
    trigger = await machine.started()
    await machine.clock.advance(3600)
    first = await trigger.read(1)
    await trigger.settle(first, [Retry(after=30)])
    again = asyncio.ensure_future(trigger.read(1))
    await machine.clock.advance(29)
    assert not again.done()
    await machine.clock.advance(2)
    assert [record.id for record in (await again).records] == [record.id for record in first.records]


async def test_a_tick_that_is_given_up_is_remembered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine(tmp_path, schedule="@hourly")
    trigger = await machine.started()
    await machine.clock.advance(3600)
    await trigger.settle(await trigger.read(1), [Reject("no room")])
    assert "no room" in caplog.text
    await machine.run(await machine.started(), 60)
    assert machine.accepted == []


async def test_a_schedule_goes_on_although_a_tick_given_up_could_not_be_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(key: str, value: bytes | None) -> None:
        raise EngineFull("no space left in the data folder")

    machine = Machine(tmp_path, schedule="@hourly")
    trigger = await machine.started()
    await machine.clock.advance(3600)
    batch = await trigger.read(1)
    with monkeypatch.context() as patch:
        patch.setattr(machine.positions, "put", full)
        with pytest.raises(EngineFull):
            await trigger.settle(batch, [Reject("no room")])
    await machine.clock.advance(3600)
    following = await asyncio.wait_for(trigger.read(1), 60)
    assert following.records[0].id != batch.records[0].id


@pytest.mark.parametrize(
    ("missed", "expected"),
    [("skip", ["13:10"]), ("once", ["13:00", "13:10"]), ("all", ["10:10", "10:20", "10:30"])],
)
async def test_what_becomes_of_missed_ticks(tmp_path: Path, missed: str, expected: list[str]) -> None:
    machine = Machine(tmp_path, schedule="*/10 * * * *", missed=missed)
    await (await machine.started()).close(1)
    await machine.clock.advance(3 * 3600 + 300)  # 13:05:30
    await machine.run(await machine.started(), 300)
    assert machine.times[: len(expected)] == expected
    assert len(machine.times) == {"skip": 1, "once": 2, "all": 19}[missed]


async def test_a_tick_half_a_minute_ago_was_not_missed(tmp_path: Path) -> None:
    machine = Machine(tmp_path, schedule="@hourly", missed="skip")
    await (await machine.started()).close(1)
    await machine.clock.advance(3600)  # 11:00:30
    await machine.run(await machine.started(), 1)
    assert machine.times == ["11:00"]


async def test_a_year_of_missed_minutes_is_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine(tmp_path, schedule="* * * * *", missed="all")
    await (await machine.started()).close(1)
    await machine.clock.advance(365 * 86_400)
    trigger = await machine.started()
    for _ in range(MOST_MISSED):
        await machine.handle_one(trigger)
    assert machine.times[-1] == "10:00"
    assert len({event["time"] for event in machine.accepted}) == MOST_MISSED
    assert "the latest 1000 come now" in caplog.text
    await machine.run(trigger, 60)
    assert machine.times[-1] == "10:01"
    assert len(machine.times) == MOST_MISSED + 1


async def test_a_suspended_laptop_catches_up_within_a_minute(tmp_path: Path) -> None:
    machine = Machine(tmp_path, schedule="0 12 * * *")
    trigger = await machine.started()
    waiting = asyncio.ensure_future(machine.handle_one(trigger))
    await machine.clock.advance(1)
    machine.jump(8 * 3600)  # it slept from 10:00 to 18:00; sleeps do not count that time
    await machine.clock.advance(60)
    await waiting
    assert machine.times == ["12:00"]


async def test_a_clock_that_is_set_back_repeats_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, schedule="*/5 * * * *")
    trigger = await machine.started()
    await machine.run(trigger, 600)
    machine.jump(-480)
    await machine.run(trigger, 900)
    await machine.run(await machine.started(), 300)
    assert machine.times == ["10:05", "10:10", "10:15", "10:20"]


async def test_a_clock_that_was_years_ahead_does_not_silence_the_schedule(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine(tmp_path, schedule="*/5 * * * *")
    machine.jump(4 * 365 * 86_400)
    await machine.run(await machine.started(), 300)
    machine.jump(-4 * 365 * 86_400)
    await machine.run(await machine.started(), 600)
    assert machine.times == ["10:05", "10:10", "10:15"]
    assert "the clock was wrong" in caplog.text


async def test_a_changed_schedule_begins_anew(tmp_path: Path) -> None:
    machine = Machine(tmp_path, schedule="*/5 * * * *", missed="all")
    await machine.run(await machine.started(), 300)
    machine.settings = CronSettings(schedule="* * * * *", missed="all")
    await machine.run(await machine.started(), 120)
    assert machine.times == ["10:05", "10:06", "10:07"]


@pytest.mark.parametrize("schedule", ["at(2026-11-21T09:00:00)", "cron(0 0 1 1 ? 2020)"])
async def test_a_schedule_that_is_over_says_so_and_rests(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, schedule: str
) -> None:
    machine = Machine(tmp_path, schedule=schedule)
    caplog.set_level(logging.WARNING)
    await machine.run(await machine.started(), 7200)
    assert machine.accepted == []
    assert "no tick left" in caplog.text


async def test_local_time_decides(tmp_path: Path) -> None:
    machine = Machine(tmp_path, schedule="at(2026-11-21T12:30:00)", timezone="Europe/Berlin")
    await machine.run(await machine.started(), 86_400)
    assert machine.times == ["11:30"]


async def test_the_next_tick_waits_until_the_last_one_is_settled(tmp_path: Path) -> None:
    machine = Machine(tmp_path, schedule="* * * * *")
    trigger = await machine.started()
    await machine.clock.advance(60)
    batch = await trigger.read(10)
    ahead = asyncio.ensure_future(trigger.read(10))
    await machine.clock.advance(60)
    assert not ahead.done()
    await trigger.settle(batch, [DONE])
    (record,) = (await ahead).records
    assert msgspec.json.decode(record.payload)["time"] == "2026-11-21T10:02:00Z"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"schedule": "rate(1 minutes)"}, r'schedule: expected "rate\(1 minute\)"'),
        ({"schedule": "@daily", "timezone": "Europe/Belin"}, r"timezone: .* did you mean 'Europe/Berlin'"),
        ({"schedule": "@daily", "timezone": "../etc/passwd"}, "timezone: expected an IANA name"),
        ({"schedule": "@daily", "timezone": ""}, "timezone: expected an IANA name"),
        ({"schedule": "@daily", "missed": "never"}, "never"),
        ({}, "schedule"),
    ],
)
def test_a_mistake_in_the_settings_names_the_key(table: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(table, CronSettings)

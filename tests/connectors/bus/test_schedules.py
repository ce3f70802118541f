"""Scheduled rules: one event for each tick, for one rule, whoever notices it and however often."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from eventfn.errors import EngineFull
from eventfn.testing import FakeClock, lint, memory_queues
from eventfn.trigger import ListenContext, QueueMessage, Queues
from eventfn_bus import BusTrigger
from eventfn_bus.settings import BusShared, RuleSettings, TargetSettings

NOON = 1_767_268_800_000  # 2026-01-01T12:00:00Z
OWN = "arn:aws:events:us-east-1:000000000000:rule/"


class Bench:
    """The buses of one or two nodes on one clock and one engine."""

    def __init__(self, queues: Queues, clock: FakeClock, folder: Path) -> None:
        self.queues = queues
        self.clock = clock
        self.delivered: dict[str, tuple[str, Any]] = {}
        self.buses: list[BusTrigger] = []
        self._folder = str(folder)

    def context(self) -> ListenContext:
        log = logging.getLogger("eventfn.bus")
        return ListenContext(self._folder, "us-east-1", "000000000000", self.clock, log, self.queues, self._deliver)

    async def start(self, **expressions: str) -> BusTrigger:
        rules = {
            name: RuleSettings(schedule_expression=text, targets=[TargetSettings(uri=f"queue:{name}")])
            for name, text in expressions.items()
        }
        everything = [TargetSettings(uri="queue:everything")]
        rules["every_source"] = RuleSettings(event_pattern={"source": [{"prefix": ""}]}, targets=everything)
        bus = BusTrigger(BusShared(rules=rules), self.context())
        self.buses.append(bus)
        bus.mount([])
        await bus.open()
        return bus

    async def _deliver(self, uri: str, record_id: str, payload: bytes, attributes: dict[str, str]) -> None:
        self.delivered[record_id] = uri, msgspec.json.decode(payload)

    async def wait(self, seconds: int) -> None:
        """Second by second, and a little: time for whatever a tick sets off."""
        for _ in range(seconds):
            await self.clock.advance(1)
        for _ in range(5):
            await self.clock.advance(0.001)

    def times(self, rule: str) -> list[str]:
        return [event["time"] for uri, event in self.delivered.values() if uri == f"queue:{rule}"]


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = FakeClock(NOON + 10_000)
    async with memory_queues(clock) as queues:
        bench = Bench(queues, clock, tmp_path)
        yield bench
        for bus in bench.buses:
            await bus.drain(5)
            await bus.close()


async def test_a_tick_is_an_event_for_its_rule(bench: Bench) -> None:
    await bench.start(often="rate(5 minutes)", half="cron(30 * * * ? *)")
    await bench.wait(1800)
    assert bench.times("often") == [f"2026-01-01T12:{minute:02}:00Z" for minute in (0, 5, 10, 15, 20, 25, 30)]
    assert bench.times("half") == ["2026-01-01T12:30:00Z"]
    assert bench.times("everything") == []
    ((_, event),) = [found for found in bench.delivered.values() if found[0] == "queue:half"]
    assert event == {
        "version": "0",
        "id": event["id"],
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": "2026-01-01T12:30:00Z",
        "region": "us-east-1",
        "resources": [f"{OWN}half"],
        "detail": {},
    }


async def test_two_nodes_and_a_restart_make_one_event_of_a_tick(bench: Bench) -> None:
    first = await bench.start(r="rate(1 minute)")
    await bench.start(r="rate(1 minute)")
    await bench.wait(55)
    await first.drain(5)
    await first.close()
    await bench.start(r="rate(1 minute)")
    await bench.wait(65)
    assert bench.times("r") == [f"2026-01-01T12:{minute:02}:00Z" for minute in range(3)]


async def test_a_tick_during_a_restart_is_not_missed(bench: Bench) -> None:
    first = await bench.start(r="cron(5 12 * * ? *)")
    await bench.wait(280)
    await first.drain(5)
    await first.close()
    await bench.wait(30)
    assert not bench.times("r")
    await bench.start(r="cron(5 12 * * ? *)")
    await bench.wait(5)
    assert bench.times("r") == ["2026-01-01T12:05:00Z"]


async def test_what_passed_while_nobody_looked_is_not_made_up_for(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.start(r="rate(5 minutes)")
    await bench.wait(1)
    bench.clock._start_ms += 3_600_000  # the machine slept
    await bench.wait(240)
    assert bench.times("r") == ["2026-01-01T12:00:00Z"]
    await bench.wait(60)
    assert bench.times("r") == ["2026-01-01T12:00:00Z", "2026-01-01T13:05:00Z"]
    assert "the clock went from" in caplog.text


async def test_a_clock_that_is_set_back_stops_no_schedule(bench: Bench) -> None:
    await bench.start(r="rate(5 minutes)")
    await bench.wait(1)
    bench.clock._start_ms -= 600_000
    await bench.wait(400)
    assert bench.times("r") == ["2026-01-01T12:00:00Z", "2026-01-01T11:55:00Z"]


async def test_a_tick_that_cannot_be_kept_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    send, tries = bench.queues.send, 0

    async def full_at_first(queue: str, messages: list[QueueMessage]) -> list[str]:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise EngineFull("no space left")
        return await send(queue, messages)

    monkeypatch.setattr(bench.queues, "send", full_at_first)
    await bench.start(r="rate(5 minutes)")
    await bench.wait(10)
    assert tries == 4
    assert bench.times("r") == ["2026-01-01T12:00:00Z"]


async def test_a_rule_that_is_switched_off_ticks_not(bench: Bench) -> None:
    off = RuleSettings(schedule_expression="rate(1 minute)", targets=[TargetSettings(uri="queue:r")], enabled=False)
    bus = BusTrigger(BusShared(rules={"r": off}), bench.context())
    bench.buses.append(bus)
    bus.mount([])
    await bus.open()
    await bench.wait(120)
    assert not bench.delivered


TARGETS = [{"uri": "queue:x"}]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "rules.r: expected either an event_pattern or a schedule_expression"),
        (
            {"event_pattern": {"a": [1]}, "schedule_expression": "rate(1 day)"},
            "rules.r: expected either an event_pattern or a schedule_expression",
        ),
        ({"schedule_expression": "rate(1 days)"}, 'schedule_expression: expected "rate(1 day)"'),
        ({"schedule_expression": "cron(0 8 * * *)"}, "schedule_expression: expected six fields"),
        ({"schedule_expression": "@daily"}, 'schedule_expression: expected "rate(...)" or "cron(...)", got "@daily"'),
        (
            {"schedule_expression": "rate(1 day)", "bus": "orders"},
            "schedule_expression: is supported only on the default event bus",
        ),
    ],
)
def test_a_schedule_that_is_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError) as refused:
        lint.load_settings(BusShared, {"rules": {"r": rule | {"targets": TARGETS}}}, {})
    assert message in str(refused.value)

"""How idle environments end: asked first, and ended for certain half a second later."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eventfn.clock import SystemClock
from eventfn.sandbox.probe import Sandbox
from eventfn.sandbox.walls import Tier
from eventfn.testing.clock import FakeClock
from eventfn.units import Duration
from eventfn.workers import environment
from tests.processes import alive, descendants_of, handlers, parent_of, state_of

from .conftest import Workbench, until, workbench

PUTS_AWAY = """
import signal, sys
def put_away(number, frame):
    print("put away")
    sys.exit()
signal.signal(signal.SIGTERM, put_away)
def handler(event, context): return event
"""


@pytest.fixture
def time_to_put_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as a busy machine takes: that it is half a second is for those who ignore it."""
    monkeypatch.setattr(environment, "_SHUTDOWN", 30)


@pytest.mark.usefixtures("time_to_put_away")
async def test_a_function_puts_away_what_it_has_when_its_time_is_over(
    timeless: Workbench, fake_clock: FakeClock
) -> None:
    timeless.deploy("fn", PUTS_AWAY)
    await timeless.result("fn")
    (handler,) = handlers(os.getpid(), "fn")
    await fake_clock.advance(301)
    assert await timeless.sink.saw("put away")
    await until(lambda: not alive(handler))
    assert timeless.sink.messages().count("put away") == 1


@pytest.mark.usefixtures("time_to_put_away")
@pytest.mark.parametrize("tier", ["full", "landlock", "none"])
async def test_a_function_puts_away_what_it_has_when_the_node_stops(
    tmp_path: Path, sandbox: Sandbox, tier: Tier
) -> None:
    async with workbench(tmp_path, SystemClock(), sandbox.lowered(tier)) as bench:
        bench.deploy("awake", PUTS_AWAY)
        bench.deploy("asleep", PUTS_AWAY)
        await bench.result("asleep")
        (handler,) = handlers(os.getpid(), "asleep")
        await until(lambda: state_of(handler) == "T")
        await bench.result("awake")
        await bench.pool.close()
        for name in ("awake", "asleep"):
            assert bench.sink.messages(name).count("put away") == 1


@pytest.mark.usefixtures("time_to_put_away")
async def test_of_a_function_with_snap_start_the_original_and_its_copies_put_away(bench: Workbench) -> None:
    bench.deploy("fn", PUTS_AWAY, snap_start=True)
    await bench.result("fn")
    (handler,) = handlers(os.getpid(), "fn")
    await until(lambda: state_of(handler) == "T")
    await bench.pool.close()
    assert bench.sink.messages().count("put away") == 2


async def test_who_ignores_it_is_ended(bench: Workbench) -> None:
    bench.deploy(
        "fn",
        """
        import os, signal
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))
        if os.fork() == 0:
            os.setsid()
            while True:
                pass
        def handler(event, context): return event
        """,
    )
    await bench.result("fn")
    (handler,) = handlers(os.getpid(), "fn")
    everybody = {parent_of(handler), *descendants_of(parent_of(handler))}
    bench.pool.retire("fn")
    assert all(map(alive, everybody))
    await until(lambda: not any(map(alive, everybody)))
    await until(lambda: bench.pool.stats("fn").environments == 0)


async def test_nobody_is_asked_twice(bench: Workbench) -> None:
    bench.deploy(
        "fn",
        """
        import signal, sys, time
        def put_away(number, frame):
            print("asked")
            time.sleep(0.2)
            sys.exit()
        signal.signal(signal.SIGTERM, put_away)
        def handler(event, context): return event
        """,
    )
    await bench.result("fn")
    bench.pool.retire("fn")
    await bench.sink.saw("asked")
    await bench.pool.close()
    assert bench.sink.messages().count("asked") == 1


async def test_an_environment_that_takes_its_time_to_end_costs_no_provisioned_one(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    clock = FakeClock()
    async with workbench(tmp_path, clock, sandbox, idle_timeout=Duration(10)) as bench:
        bench.deploy(
            "fn",
            """
            import signal, time
            from who import ME
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            def handler(event, context):
                time.sleep(event)
                return ME
            """,
            provisioned_concurrency=1,
        )
        await until(lambda: bench.pool.stats("fn").idle == 1)
        first, second = bench.begin("fn", 0.5), bench.begin("fn", 1)
        await first
        await clock.advance(1)
        await second
        processes = handlers(os.getpid(), "fn")
        assert len(processes) == 2
        await clock.advance(9.5)  # one is due, and takes its half second
        await clock.advance(5)  # and now the other one
        await until(lambda: sum(map(alive, processes)) == 1)
        await until(lambda: bench.pool.stats("fn").environments == 1)
        assert sum(message.startswith("I am") for message in bench.sink.messages()) == 2, "none was started for it"

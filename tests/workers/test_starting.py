"""How environments come to be: slowly, in vain, many at once, and when the machine has no room for them."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from pathlib import Path

import msgspec
import pytest

from eventfn.clock import SystemClock
from eventfn.errors import ConfigError
from eventfn.functions.model import Function
from eventfn.sandbox.probe import Sandbox
from eventfn.testing.clock import FakeClock
from eventfn.units import Duration
from eventfn.workers import blanks
from eventfn.workers.runtimes import python
from tests.processes import alive, handlers, zygote

from .conftest import Workbench, error_of, until, workbench

NAMED = "import time\nfrom who import ME\ndef handler(event, context):\n    time.sleep(event or 0)\n    return ME\n"


def starts(bench: Workbench) -> int:
    return sum(message.startswith("INIT_START") for message in bench.sink.messages())


async def test_a_crashing_init_is_tried_three_times_and_then_now_and_again(
    timeless: Workbench, fake_clock: FakeClock
) -> None:
    timeless.deploy("fn", "raise RuntimeError('no')")
    for tried in (1, 2, 3, 3, 3):
        outcome = await timeless.invoke("fn")
        assert outcome.error_type == "RuntimeError"
        assert error_of(outcome)["errorMessage"] == "no"
        assert starts(timeless) == tried
    for back_off, tried in ((1, 4), (2, 5), (4, 6)):
        await fake_clock.advance(back_off * 0.9)
        assert (await timeless.invoke("fn")).error_type == "RuntimeError"
        assert starts(timeless) == tried - 1
        await fake_clock.advance(back_off * 0.11)
        for _ in range(2):
            assert (await timeless.invoke("fn")).error_type == "RuntimeError"
        assert starts(timeless) == tried


async def test_held_back_starts_leave_what_runs_to_those_who_wait(timeless: Workbench, fake_clock: FakeClock) -> None:
    root = timeless.deploy(
        "fn",
        """
        import os, time
        from who import ME
        if os.path.exists("/var/task/broken"):
            raise RuntimeError("no")
        def handler(event, context):
            while os.path.exists("/var/task/busy"):
                time.sleep(0.001)
            return ME
        """,
    ).task_root
    first = await timeless.result("fn")
    busy, broken = Path(root, "busy"), Path(root, "broken")
    busy.touch()
    broken.touch()
    running = timeless.begin("fn")
    for _ in range(3):
        assert (await timeless.invoke("fn")).error_type == "RuntimeError"
    waiting = [timeless.begin("fn") for _ in range(5)]
    assert timeless.pool.stats("fn").starting == 0
    busy.unlink()
    for answer in (running, *waiting):
        assert msgspec.json.decode((await answer).payload) == first
    assert starts(timeless) == 4
    os.kill(timeless.process_of(first), signal.SIGKILL)
    await until(lambda: timeless.pool.stats("fn").environments == 0)
    assert (await timeless.invoke("fn")).error_type == "RuntimeError"
    assert starts(timeless) == 4
    broken.unlink()
    await fake_clock.advance(1.01)
    assert await timeless.result("fn") != first


async def test_a_slow_init_is_run_again_within_the_invocation(tmp_path: Path, sandbox: Sandbox) -> None:
    async with workbench(tmp_path, SystemClock(), sandbox, init_timeout=Duration(1)) as bench:
        bench.deploy("fn", "import time\ntime.sleep(1.5)\ndef handler(event, context): return 1", timeout=Duration(30))
        assert await bench.result("fn") == 1
        (report,) = [message for message in bench.sink.messages() if message.startswith("INIT_REPORT")]
        assert report == "INIT_REPORT Init Duration: 1000.00 ms\tPhase: init\tStatus: timeout"
        assert starts(bench) == 2

        bench.deploy("never", "import time\ntime.sleep(60)\ndef handler(event, context): return 1", timeout=Duration(2))
        outcome = await bench.invoke("never")
        assert error_of(outcome)["errorMessage"].endswith("Task timed out after 2.00 seconds")
        assert [message for message in bench.sink.messages("never") if message.startswith("INIT_REPORT")] == [
            "INIT_REPORT Init Duration: 1000.00 ms\tPhase: init\tStatus: timeout",
            "INIT_REPORT Init Duration: 2000.00 ms\tPhase: invoke\tStatus: timeout",
        ]


async def test_a_thousand_at_once_share_what_is_started_within_bounds(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfn.workers.pool._SLOT_SECONDS", 60)  # a busy machine makes no start a slow one
    slots, most_starting, most_alive = bench.pool._slots, 0, 0
    bench.deploy("fn", "def handler(event, context): return event")
    answers = [bench.begin("fn", number) for number in range(1000)]
    while not all(answer.done() for answer in answers):
        stats = bench.pool.stats("fn")
        most_starting = max(most_starting, stats.starting)
        most_alive = max(most_alive, stats.environments + stats.starting)
        await asyncio.wait(answers, timeout=0.005)
    outcomes = [answer.result() for answer in answers]
    assert [msgspec.json.decode(outcome.payload) for outcome in outcomes] == list(range(1000))
    assert most_starting <= slots
    assert most_alive < 100, "an environment that is ready serves those who wait"


async def test_where_memory_is_short_the_longest_idle_give_way(tmp_path: Path, sandbox: Sandbox) -> None:
    free = 0.5
    clock = FakeClock()
    async with workbench(tmp_path, clock, sandbox, available=lambda: free) as bench:
        bench.deploy("provisioned", NAMED, provisioned_concurrency=1)
        await until(lambda: bench.pool.stats("provisioned").idle == 1)
        for name in ("first", "second", "third", "busy"):
            await clock.advance(1)
            bench.deploy(name, NAMED)
            await bench.result(name)
        busy = bench.begin("busy", 2)
        idle = {name: handlers(os.getpid(), name) for name in ("provisioned", "first", "second", "third")}
        free = 0.09
        bench.deploy("new", NAMED)
        await bench.result("new")
        await until(lambda: not any(map(alive, idle["first"] | idle["second"])))
        assert all(map(alive, idle["provisioned"] | idle["third"]))
        assert (await busy).ok
        free = 0.5
        bench.deploy("newer", NAMED)
        await bench.result("newer")
        assert all(map(alive, idle["provisioned"] | idle["third"]))


async def test_more_functions_run_in_turn_than_there_are_descriptors_for(bench: Workbench) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    bench.deploy("fn", NAMED)
    await bench.result("fn")
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + 300, before[1]))
    try:
        for number in range(80):  # of which each takes five
            bench.deploy(f"fn{number}", NAMED)
            await bench.result(f"fn{number}")
        assert 0 < sum(bench.pool.stats(f"fn{number}").idle for number in range(80)) < 60
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_the_blanks_of_a_dead_zygote_go_when_another_starts(bench: Workbench) -> None:
    bench.deploy("fn", "def handler(event, context): return event")
    assert await bench.result("fn", 1) == 1
    (old,) = bench.pool._sandboxes._blanks
    await until(lambda: len(old._ready) >= 2)
    standing = {blank.process.pid for blank in old._ready}
    os.kill(zygote(os.getpid()), signal.SIGKILL)
    await until(lambda: old.orphaned)  # until it is known, those that stand are as good as any
    bench.deploy("new", "def handler(event, context): return event")
    assert await bench.result("new", 2) == 2
    assert not any(map(alive, standing))
    assert old._forgetting.done()


@pytest.mark.parametrize("runtime", ["python3.12", "python3.13"])
async def test_functions_run_on_other_interpreters(bench: Workbench, runtime: str) -> None:
    try:
        interpreter = python.find(Function(name="fn", handler="main.handler", code="/", runtime=runtime))
    except ConfigError as error:
        pytest.skip(str(error))
    code = "import sys\ndef handler(event, context): return 'python%d.%d' % sys.version_info[:2]"
    for name, snap_start in (("fn", False), ("copied", True)):
        bench.deploy(name, code, interpreter=interpreter, runtime=runtime, snap_start=snap_start)
        assert await bench.result(name) == runtime


async def test_a_burst_makes_as_many_blanks_at_once_as_there_are_cores(bench: Workbench) -> None:
    bench.deploy("fn", "def handler(event, context): return event")
    assert await bench.result("fn", 1) == 1
    (its,) = bench.pool._sandboxes._blanks
    functions = [f"fn{number}" for number in range(16)]
    for name in functions:
        bench.deploy(name, "def handler(event, context): return event")
    answers = [bench.begin(name, 2) for name in functions]
    most = 0
    while not all(answer.done() for answer in answers):
        most = max(most, len(its._making))
        await asyncio.sleep(0)
    assert [(await answer).payload for answer in answers] == [b"2"] * len(functions)
    assert 1 <= most <= (os.cpu_count() or 1)
    await until(lambda: not its._making)
    assert len(its._ready) >= 2


async def test_a_blank_that_does_not_stand_in_time_is_given_away_as_it_is(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blanks, "_STANDS_WITHIN", 0.0)
    for number in range(4):
        bench.deploy(f"fn{number}", "def handler(event, context): return event")
        assert await bench.result(f"fn{number}", number) == number


async def test_who_starts_when_blanks_have_died_waits_for_the_next_one(bench: Workbench) -> None:
    bench.deploy("fn", "def handler(event, context): return event")
    assert await bench.result("fn", 1) == 1
    (its,) = bench.pool._sandboxes._blanks
    await until(lambda: len(its._ready) >= 2 and not its._making)
    for blank in list(its._ready):
        blank.process.kill()
    await until(lambda: not its._ready)
    bench.deploy("other", "def handler(event, context): return event")
    assert await bench.result("other", 2) == 2

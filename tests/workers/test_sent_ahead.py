"""Requests that a quick function's environment has beyond the one that it runs: in order, each run once, and by
somebody else when it is held up or ends."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import signal
from typing import Any

import msgspec
import pytest

from eventfn.event import Outcome, OutcomeKind
from eventfn.units import Duration

from .conftest import Workbench, until

# Counts what it runs. A dict is something to do, anything else what to answer.
COUNTING = """
import fcntl, os, signal, sys, time
from who import ME
runs = 0
def handler(event, context):
    global runs
    runs += 1
    if isinstance(event, dict):
        {deed}
    return [ME, runs, event]
"""
GATE = 5
MANY = 12


async def quick(bench: Workbench, deed: str = "pass", **settings: Any) -> None:
    """Deployed, and known to be quick and silent."""
    bench.deploy("fn", COUNTING.format(deed=deed), **settings)
    for number in range(40):
        await bench.result("fn", number)


def sent_ahead(bench: Workbench) -> int:
    return sum(len(environment.ahead) for environment in bench.pool._environments)


def begin(bench: Workbench, *events: object) -> list[asyncio.Future[Outcome]]:
    """All of them in one turn of the loop, so that some are sent ahead."""
    answers = [bench.begin("fn", event) for event in events]
    assert sent_ahead(bench) > 0
    return answers


async def values(answers: list[asyncio.Future[Outcome]]) -> list[Any]:
    async with asyncio.timeout(60):
        outcomes = await asyncio.gather(*answers)
    assert all(outcome.ok for outcome in outcomes), outcomes
    return [msgspec.json.decode(outcome.payload) for outcome in outcomes]


def runs(found: list[Any]) -> int:
    """In all environments together, as far as these answers tell."""
    most: dict[str, int] = {}
    for me, count, _ in found:
        most[me] = max(most.get(me, 0), count)
    return sum(most.values())


async def test_each_is_run_once_and_answered_in_order(bench: Workbench) -> None:
    await quick(bench)
    order: list[int] = []
    found: list[Any] = []
    ahead = 0

    def note(number: int, _: asyncio.Future[Outcome]) -> None:
        order.append(number)

    for _ in range(20):
        answers = [bench.begin("fn", number) for number in range(MANY)]
        ahead += sent_ahead(bench)
        for number, answer in enumerate(answers):
            answer.add_done_callback(functools.partial(note, number))
        found = await values(answers)
        assert [event for _, _, event in found] == list(range(MANY))
        await until(lambda: len(order) == MANY)
        if len({me for me, _, _ in found}) == 1:
            assert order == list(range(MANY))
        order.clear()
    assert ahead > 0
    assert runs(found) <= 40 + 20 * MANY
    assert bench.pool.stats("fn").waiting == bench.pool.stats("fn").in_flight == 0


async def test_whoever_is_behind_a_slow_one_does_not_wait_for_it(bench: Workbench) -> None:
    await quick(bench, "time.sleep(5)", timeout=Duration(30))
    slow, *others = begin(bench, {}, *range(MANY))
    found = await values(others)
    assert not slow.done()
    found += await values([slow])
    assert runs(found) == 40 + MANY + 1


async def test_whoever_is_behind_one_that_hangs_outlives_it(bench: Workbench) -> None:
    await quick(bench, "time.sleep(60)", timeout=Duration(0.5))
    first, hangs, *others = begin(bench, 0, {}, *range(MANY))
    found = await values([first, *others])
    outcome = await hangs
    assert outcome.error_type == "Sandbox.Timedout"
    assert outcome.duration_ms == 500
    assert runs(found) <= 40 + MANY + 2


@pytest.mark.parametrize("deed", ["sys.exit(3)", "os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)", "os.close(3)"])
@pytest.mark.parametrize("place", [0, 3])
async def test_of_an_environment_that_ends_only_the_one_that_ran_fails(bench: Workbench, deed: str, place: int) -> None:
    await quick(bench, f"{deed}\n        time.sleep(60)", timeout=Duration(30))
    events: list[object] = list(range(MANY))
    events.insert(place, {})
    answers = begin(bench, *events)
    bad = answers.pop(place)
    assert [event for _, _, event in await values(answers)] == list(range(MANY))
    outcome = await bad
    assert outcome.kind is OutcomeKind.FUNCTION_ERROR
    assert outcome.error_type == "Runtime.ExitError"


async def test_of_an_environment_that_is_killed_only_the_one_that_ran_fails(bench: Workbench) -> None:
    await quick(bench, "time.sleep(60)", timeout=Duration(30))
    me = (await bench.result("fn"))[0]
    process = bench.process_of(me)
    for _ in range(10):
        answers = [bench.begin("fn", number) for number in range(MANY)]
        os.kill(process, signal.SIGKILL)
        async with asyncio.timeout(60):
            outcomes = await asyncio.gather(*answers)
        failed = [outcome for outcome in outcomes if not outcome.ok]
        assert len(failed) <= 1
        assert all(outcome.error_type == "Runtime.ExitError" for outcome in failed)
        found = [msgspec.json.decode(outcome.payload) for outcome in outcomes if outcome.ok]
        assert len({event for _, _, event in found}) == MANY - len(failed)
        for number in range(40):
            me = (await bench.result("fn", number))[0]
        process = bench.process_of(me)


async def test_what_a_stopped_environment_has_not_begun_is_somebody_elses(bench: Workbench) -> None:
    await quick(bench)
    process = bench.process_of((await bench.result("fn"))[0])
    os.kill(process, signal.SIGSTOP)
    first, *others = begin(bench, *range(MANY))
    found = await values(others)
    assert not first.done()
    os.kill(process, signal.SIGCONT)
    found += await values([first])
    assert runs(found) == 41 + MANY


@pytest.mark.parametrize(
    "deed",
    [
        f"os.eventfd_read({GATE})",
        f"os.eventfd_write({GATE}, 2**63)",
        f"fcntl.fcntl({GATE}, fcntl.F_SETFL, 0); os.eventfd_read({GATE})",
        f"fcntl.fcntl({GATE}, fcntl.F_SETFL, 0); os.eventfd_write({GATE}, 2**64 - 100)",
        f"os.close({GATE})",
    ],
)
async def test_a_function_that_meddles_with_its_gate_harms_itself_only(bench: Workbench, deed: str) -> None:
    bench.deploy("good", "def handler(event, context): return event")
    await quick(bench, f"{deed}\n        time.sleep(0.3)", timeout=Duration(2))
    bad, *others = begin(bench, {}, *range(MANY))
    assert await bench.result("good", 1) == 1
    async with asyncio.timeout(60):
        outcomes = await asyncio.gather(bad, *others)
    assert {outcome.kind for outcome in outcomes} <= {OutcomeKind.SUCCESS, OutcomeKind.FUNCTION_ERROR}
    assert await bench.result("good", 2) == 2
    while not (await bench.invoke("fn", 3)).ok:
        pass  # one of those that it has meddled with, which end by it
    stats = bench.pool.stats("fn")
    assert stats.waiting == stats.in_flight == 0


@pytest.mark.parametrize("how", ["print('line of', context.aws_request_id)", "os.write(1, b'line of %b\\n' % own)"])
async def test_each_line_is_of_the_request_that_wrote_it(bench: Workbench, how: str) -> None:
    await quick(bench, f"own = context.aws_request_id.encode(); {how}")
    ahead = 0
    for number in range(30):
        events: list[object] = [*range(number % 5), {}, *range(MANY), {}, {}, 1]
        answers = [bench.begin("fn", event) for event in events]
        ahead += sent_ahead(bench)
        await values(answers)
        for each in range(20):
            await bench.result("fn", each)
    streams = {stream for _, stream, _ in bench.sink.lines}
    written = 0
    for stream in streams:
        current = None
        for _, of, message in bench.sink.lines:
            if of != stream:
                continue
            if found := re.match(r"START RequestId: (\S+)", message):
                assert current is None
                current = found[1]
            elif message.startswith("END RequestId: "):
                assert message == f"END RequestId: {current}"
            elif message.startswith("REPORT RequestId: "):
                assert message.startswith(f"REPORT RequestId: {current}\t")
                current = None
            elif message.startswith("line of "):
                assert message == f"line of {current}"
                written += 1
    assert written == 30 * 3
    assert ahead > 0


async def test_each_is_billed_its_own_time(bench: Workbench) -> None:
    await quick(bench, "pass")
    bench.deploy(
        "fn",
        """
        import time
        def handler(event, context):
            until = time.monotonic() + 0.0002
            while time.monotonic() < until: pass
            return context.get_remaining_time_in_millis()
        """,
        timeout=Duration(3),
    )
    for number in range(40):
        await bench.result("fn", number)
    outcomes = await asyncio.gather(*begin(bench, 1, 2, 3, 4))
    assert all(outcome.duration_ms >= 0.2 for outcome in outcomes)
    assert all(2900 <= msgspec.json.decode(outcome.payload) <= 3000 for outcome in outcomes)


async def test_closing_answers_those_that_were_sent_ahead(bench: Workbench) -> None:
    await quick(bench, "time.sleep(60)", timeout=Duration(100))
    answers = begin(bench, {}, *range(MANY))
    await bench.pool.close()
    outcomes = await asyncio.gather(*answers)
    assert all(outcome.kind is OutcomeKind.SYSTEM_ERROR or outcome.ok for outcome in outcomes)
    assert outcomes[0].kind is OutcomeKind.SYSTEM_ERROR


async def test_a_new_version_takes_over_what_the_old_one_gives_back(bench: Workbench) -> None:
    await quick(bench, "time.sleep(2)", timeout=Duration(30))
    slow, *others = begin(bench, {}, *range(MANY))
    bench.deploy("fn", "def handler(event, context): return ['new', 0, event]")
    assert [event for _, _, event in await values(others)] == list(range(MANY))
    await values([slow])


async def test_an_async_handler_is_sent_nothing_ahead_and_runs_one_at_a_time(bench: Workbench) -> None:
    bench.deploy(
        "fn",
        """
        import asyncio
        running = most = 0
        async def handler(event, context):
            global running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            return most
        """,
    )
    for number in range(40):
        await bench.result("fn", number)
    answers = [bench.begin("fn", number) for number in range(MANY)]
    assert sent_ahead(bench) == 0
    assert await values(answers) == [1] * MANY


@pytest.mark.parametrize("before", [0, 1], ids=["the gate was shut", "it was open"])
async def test_what_a_killed_environment_was_given_and_had_not_begun_is_run_by_another(
    bench: Workbench, before: int
) -> None:
    await quick(bench)
    me = (await bench.result("fn"))[0]
    process = bench.process_of(me)
    if before == 0:
        for environment in bench.pool._environments:
            environment.take_back()
    os.kill(process, signal.SIGSTOP)
    answers = begin(bench, *range(MANY))  # the first one too is not read
    os.kill(process, signal.SIGKILL)
    found = await values(answers)
    assert [event for _, _, event in found] == list(range(MANY))
    assert me not in {each for each, _, _ in found}
    assert runs(found) <= MANY


async def test_what_has_ended_two_environments_before_it_began_is_not_run_a_third_time(bench: Workbench) -> None:
    """As the gate has it, with which a function may do what it likes."""
    lie = f"os.eventfd_write({GATE}, 1); os.eventfd_read({GATE})"
    await quick(bench, f"{lie}\n        os.kill(os.getpid(), signal.SIGKILL)", timeout=Duration(30))
    outcome = await bench.begin("fn", {})
    assert outcome.error_type == "Runtime.ExitError"
    assert sum("START" in message for message in bench.sink.messages()) >= 41

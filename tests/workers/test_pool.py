"""Who gets which environment, when there are more, when fewer."""

from __future__ import annotations

import asyncio
import os
import signal

import msgspec
import pytest

from eventfn.event import Invocation, Outcome, OutcomeKind
from eventfn.testing.clock import FakeClock
from eventfn.units import Duration
from tests.processes import alive

from .conftest import Workbench, until

NAMED = "import time\nfrom who import ME\ndef handler(event, context):\n    time.sleep(event or 0)\n    return ME\n"


async def test_the_environment_used_last_is_used_next(bench: Workbench) -> None:
    bench.deploy("fn", NAMED)
    both = await asyncio.gather(bench.result("fn", 0.2), bench.result("fn", 0.4))
    assert len(set(both)) == 2
    assert [await bench.result("fn") for _ in range(3)] == [both[1]] * 3
    assert bench.pool.stats("fn").idle == 2


async def test_two_hundred_at_once_are_all_answered(bench: Workbench) -> None:
    bench.deploy("fn", "def handler(event, context): return event")
    answers = await asyncio.gather(*(bench.result("fn", n) for n in range(200)))
    assert answers == list(range(200))
    stats = bench.pool.stats("fn")
    assert stats.in_flight == stats.waiting == 0


async def test_one_functions_cold_starts_do_not_hold_up_another(bench: Workbench) -> None:
    bench.deploy("slow", "import time\ntime.sleep(3)\ndef handler(event, context): return event")
    bench.deploy("quick", "def handler(event, context): return event")
    many = [bench.begin("slow", n) for n in range(20)]
    assert await bench.result("quick", 1) == 1
    assert not any(answer.done() for answer in many)


async def test_idle_environments_go_after_their_time_the_oldest_first(
    timeless: Workbench, fake_clock: FakeClock
) -> None:
    timeless.deploy("fn", NAMED)
    names = await asyncio.gather(timeless.result("fn", 0.2), timeless.result("fn", 0.4))
    first, second = map(timeless.process_of, names)
    await fake_clock.advance(200)
    assert await timeless.result("fn") == names[1]
    assert alive(first)
    await fake_clock.advance(101)
    await until(lambda: not alive(first))
    assert alive(second)
    await fake_clock.advance(200)
    await until(lambda: not alive(second))
    await until(lambda: timeless.pool.stats("fn").environments == 0)


async def test_provisioned_environments_are_started_kept_and_replaced(
    timeless: Workbench, fake_clock: FakeClock
) -> None:
    code = """
        import os
        from who import ME
        def handler(event, context):
            return [ME, os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]]
    """
    timeless.deploy("fn", code, provisioned_concurrency=2)
    await until(lambda: timeless.pool.stats("fn").idle == 2)
    name, kind = await timeless.result("fn")
    assert kind == "provisioned-concurrency"
    await fake_clock.advance(10_000)
    assert timeless.pool.stats("fn").idle == 2
    pid = timeless.process_of(name)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not alive(pid))
    await until(lambda: timeless.pool.stats("fn").idle == 2)


async def test_a_crashing_init_does_not_spin(timeless: Workbench, fake_clock: FakeClock) -> None:
    timeless.deploy("fn", "raise RuntimeError('no')", provisioned_concurrency=1)

    def starts() -> int:
        return sum(1 for message in timeless.sink.messages() if message.startswith("INIT_REPORT"))

    for count, pause in ((1, 1.01), (2, 2.01), (3, 4.01), (4, 8.01)):
        await until(lambda count=count: starts() == count and timeless.pool.stats("fn").starting == 0)  # type: ignore[misc]
        await fake_clock.advance(pause * 0.9)
        assert starts() == count
        await fake_clock.advance(pause * 0.1)
    await until(lambda: starts() == 5)


async def test_a_new_version_under_load_loses_nothing(bench: Workbench) -> None:
    code = "import time\ndef handler(event, context):\n    time.sleep(0.005)\n    return [event, {version}]\n"
    bench.deploy("fn", code.format(version=0))
    answers = []
    for number in range(120):
        answers.append(bench.begin("fn", number))
        if number % 20 == 19:
            bench.deploy("fn", code.format(version=number))
            await asyncio.wait(answers[-10:], return_when=asyncio.FIRST_COMPLETED)
    outcomes = await asyncio.gather(*answers)
    assert [int(outcome.payload.strip(b"[]").split(b",")[0]) for outcome in outcomes] == list(range(120))
    assert await bench.result("fn", "last") == ["last", 119]
    await until(lambda: bench.pool.stats("fn").environments == bench.pool.stats("fn").idle)


async def test_a_retired_function_finishes_what_it_runs_and_goes(bench: Workbench) -> None:
    bench.deploy("fn", NAMED)
    idle = await bench.result("fn")
    process = bench.process_of(idle)
    busy = bench.begin("fn", 0.3)
    bench.pool.retire("fn")
    outcome = await busy
    assert msgspec.json.decode(outcome.payload) == idle
    await until(lambda: not alive(process))
    refused = await bench.invoke("fn")
    assert refused.kind is OutcomeKind.SYSTEM_ERROR
    assert refused.error_message == "Function not found: fn"
    await until(lambda: bench.pool.stats("fn").environments == 0)


async def test_drain_waits_for_what_is_in_flight(bench: Workbench) -> None:
    bench.deploy("fn", NAMED)
    answer = bench.begin("fn", 0.2)
    await bench.pool.drain(30)
    assert answer.done()
    await bench.pool.drain(30)


async def test_drain_gives_up_at_its_deadline_and_close_answers_everybody(bench: Workbench) -> None:
    bench.deploy("fn", NAMED, timeout=Duration(60))
    answer = bench.begin("fn", 50)
    await until(lambda: bench.pool.stats("fn").in_flight == 1)
    waiting = [bench.begin("fn", 50) for _ in range(30)]
    await bench.pool.drain(0.05)
    assert not answer.done()
    await bench.pool.close()
    outcomes = [await future for future in (answer, *waiting)]
    assert {outcome.kind for outcome in outcomes} == {OutcomeKind.SYSTEM_ERROR}
    late = await bench.invoke("fn")
    assert late.error_message == "the workers are closed"


async def test_a_caller_that_cannot_take_its_answer_harms_nobody_else(
    bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    def careless(outcome: Outcome) -> None:
        raise ValueError("a bug of the caller")

    prepared = bench.deploy("fn", NAMED)
    first = await bench.result("fn", 0)
    bench.pool.invoke(Invocation("careless", "fn", b"0", prepared.arn), careless)
    await until(lambda: "a bug of the caller" in caplog.text)
    assert await bench.result("fn", 0) == first

    for _ in range(2):
        bench.pool.invoke(Invocation("careless", "fn", b"50", prepared.arn), careless)
    await bench.pool.close()
    assert bench.pool.stats("fn").environments == 0


async def test_many_requests_share_an_environment_of_an_async_handler(bench: Workbench) -> None:
    bench.deploy(
        "fn",
        """
        import asyncio, contextvars
        from who import ME
        var = contextvars.ContextVar("var")
        inside = 0
        full = asyncio.Event()
        async def handler(event, context):
            global inside
            var.set(event)
            inside += 1
            if inside == 5:
                full.set()
            await full.wait()
            return [ME, var.get(), context.aws_request_id]
        """,
        concurrency_per_environment=5,
        provisioned_concurrency=1,
    )
    await until(lambda: bench.pool.stats("fn").idle == 1)
    answers = await asyncio.gather(*(bench.result("fn", n) for n in range(5)))
    assert len({name for name, _, _ in answers}) == 1
    assert [event for _, event, _ in answers] == list(range(5))
    assert len({request for _, _, request in answers}) == 5


async def test_of_many_the_one_that_times_out_is_cancelled_alone(bench: Workbench) -> None:
    bench.deploy(
        "fn",
        """
        import asyncio
        from who import ME
        async def handler(event, context):
            if event == "hang":
                await asyncio.sleep(0.3)
                print("half its time")
                await asyncio.Event().wait()
            await asyncio.sleep(event)
            return ME
        """,
        concurrency_per_environment=3,
        timeout=Duration(0.5),
    )
    name = await bench.result("fn", 0)
    hang = bench.begin("fn", "hang")
    await bench.sink.saw("half its time")
    beside = bench.begin("fn", 0.4)
    assert (await hang).error_type == "Sandbox.Timedout"
    assert msgspec.json.decode((await beside).payload) == name
    assert await bench.result("fn", 0) == name


async def test_a_blocked_event_loop_is_killed_and_the_others_are_told(bench: Workbench) -> None:
    bench.deploy(
        "fn",
        """
        import asyncio, time
        async def handler(event, context):
            if event == "block":
                await asyncio.sleep(0.8)
                print("most of its time")
                await asyncio.sleep(0.1)
                time.sleep(60)
            await asyncio.sleep(60)
        """,
        concurrency_per_environment=2,
        provisioned_concurrency=1,
        timeout=Duration(1),
    )
    await until(lambda: bench.pool.stats("fn").idle == 1)
    block = bench.begin("fn", "block")
    await bench.sink.saw("most of its time")
    other = bench.begin("fn", "other")
    assert (await block).error_type == "Sandbox.Timedout"
    outcome = await other
    assert outcome.error_type == "Runtime.ExitError"
    assert outcome.error_message is not None
    assert "another request of this environment timed out" in outcome.error_message


async def test_a_sync_handler_cannot_have_many(bench: Workbench) -> None:
    bench.deploy("fn", "def handler(event, context): return 1", concurrency_per_environment=4)
    outcome = await bench.invoke("fn")
    assert outcome.error_type == "Runtime.InvalidConcurrency"
    assert outcome.error_message is not None
    assert "functions.fn.concurrency_per_environment is 4" in outcome.error_message

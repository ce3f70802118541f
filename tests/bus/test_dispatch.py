"""Accepted events are run, retried, settled and never lost: the dispatcher over an engine, with a pool of our own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from eventfn.bus.admission import Admission
from eventfn.bus.bus import Bus
from eventfn.bus.dispatch import Dispatcher
from eventfn.engine.contract import Put, Send
from eventfn.engine.memory import MemoryEngine
from eventfn.errors import (
    EngineFull,
    FunctionNotFound,
    PayloadTooLarge,
    RecursiveInvocation,
    ShuttingDown,
    Throttled,
)
from eventfn.event import Invocation, Outcome, OutcomeKind, Position, ResponseStream
from eventfn.functions.model import Function, Limits
from eventfn.functions.registry import Registry, target
from eventfn.observe.metrics import Metrics
from eventfn.rules.recursion import MOST
from eventfn.testing import FakeClock
from eventfn.workers.contract import Done, PoolStats, Prepared

Behaviour = Callable[[Invocation], Outcome | None]


class ScriptedPool:
    """Answers at once with what the test's `behave` says; None leaves the invocation in flight."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.ran: list[Invocation] = []
        self.in_flight: dict[str, Done] = {}

    async def start(self) -> None: ...

    def deploy(self, prepared: Prepared) -> None: ...

    def retire(self, name: str) -> None: ...

    def invoke(
        self, invocation: Invocation, done: Done, *, log_tail: bool = False, stream: ResponseStream | None = None
    ) -> None:
        self.ran.append(invocation)
        outcome = self.behave(invocation)
        if outcome is None:
            self.in_flight[invocation.request_id] = done
        else:
            asyncio.get_running_loop().call_soon(done, outcome)

    def stats(self, name: str) -> PoolStats:
        return PoolStats(0, 0, 0, len(self.in_flight), 0)

    async def drain(self, deadline: float) -> None: ...

    async def close(self) -> None:
        for request_id, done in self.in_flight.items():
            done(Outcome(OutcomeKind.SYSTEM_ERROR, b"{}", request_id))
        self.in_flight.clear()


def succeed(invocation: Invocation) -> Outcome:
    return Outcome(OutcomeKind.SUCCESS, b'"done"', invocation.request_id)


def fail(invocation: Invocation) -> Outcome:
    return Outcome(OutcomeKind.FUNCTION_ERROR, b'{"errorType":"E"}', invocation.request_id, "E", "no")


def declared(name: str, **fields: Any) -> Prepared:
    return Prepared(
        function=Function(name=name, handler="f.h", code="/f", **fields),
        arn=f"arn:aws:lambda:us-east-1:000000000000:function:{name}",
        version="1",
        task_root="/f",
        interpreter="/python",
        runtime="python3.11",
    )


class Running:
    def __init__(self, behave: Behaviour, functions: list[Prepared], limits: Limits, engine: MemoryEngine) -> None:
        self.clock = FakeClock()
        self.engine = engine
        self.pool = ScriptedPool(behave)
        self.functions = Registry()
        self.functions.declare({prepared.function.name: prepared for prepared in functions})
        self.admission = Admission(limits.concurrency)
        self.admission.declare(prepared.function for prepared in functions)
        self.metrics = Metrics()
        self.bus = Bus(self.functions, self.pool, engine, self.admission, self.metrics, self.clock, limits)
        self.dispatcher = Dispatcher(
            self.functions, self.pool, engine, self.admission, self.metrics, self.clock, in_flight_per_function=4
        )

    async def waiting(self, prefix: str = "fn/") -> dict[str, int]:
        return {stat.queue: stat.total for stat in await self.engine.stats(prefix, self.clock.now_ms()) if stat.total}

    async def claimed(self, function: str) -> int:
        (queue,) = await self.engine.stats(f"fn/{function}", self.clock.now_ms())
        return queue.in_flight

    def end(self, request_id: str) -> None:
        """With success."""
        self.pool.in_flight.pop(request_id)(Outcome(OutcomeKind.SUCCESS, b"1", request_id))

    async def outbox(self, uri: str) -> list[Any]:
        return [json.loads(message.body) for message in await self.engine.peek(f"out/{uri}", 1000)]


@contextlib.asynccontextmanager
async def running(
    behave: Behaviour, *functions: Prepared, limits: Limits | None = None, engine: MemoryEngine | None = None
) -> AsyncIterator[Running]:
    engine = engine or MemoryEngine()
    node = Running(behave, list(functions), limits or Limits(), engine)
    await engine.open(node.clock.now_ms())
    task = asyncio.create_task(node.dispatcher.run())
    try:
        yield node
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await engine.close()


async def test_an_accepted_event_runs_once_and_leaves_a_success_record() -> None:
    async with running(succeed, declared("f", on_success="queue:done")) as node:
        request_id = await node.bus.submit("f", b'{"n":1}')
        await node.clock.advance(1)

        assert [(ran.request_id, ran.payload) for ran in node.pool.ran] == [(request_id, b'{"n":1}')]
        assert await node.waiting() == {}
        (record,) = await node.outbox("queue:done")
        assert record["requestContext"]["condition"] == "Success"


async def test_a_failing_event_is_retried_after_lambdas_delays_and_kept_in_the_end() -> None:
    async with running(fail, declared("f", on_failure="queue:bad")) as node:
        await node.bus.submit("f", b"1")
        tries = []
        for seconds in (0, 59.9, 0.2, 119.8, 0.2, 3600):
            await node.clock.advance(seconds)
            tries.append(len(node.pool.ran))

        assert tries == [1, 1, 2, 2, 3, 3]
        assert await node.waiting() == {}
        (record,) = await node.outbox("queue:bad")
        assert record["requestContext"]["condition"] == "RetriesExhausted"
        assert record["requestContext"]["approximateInvokeCount"] == 3


async def test_each_event_has_a_trace_of_its_own_which_its_tries_share() -> None:
    async with running(fail, declared("f", maximum_retry_attempts=1)) as node:
        for _ in range(2):
            await node.bus.submit("f", b"1")
        await node.clock.advance(61)
        await node.bus.call("f", b"1")

        traces: dict[str, list[str | None]] = {}
        for ran in node.pool.ran:
            traces.setdefault(ran.request_id, []).append(ran.trace_id)
        assert sorted(len(tries) for tries in traces.values()) == [1, 2, 2]
        assert [len(set(tries)) for tries in traces.values()] == [1, 1, 1]
        assert len({tries[0] for tries in traces.values()}) == 3


async def test_without_a_destination_it_ends_in_the_built_in_dead_letters() -> None:
    async with running(fail, declared("f", maximum_retry_attempts=0)) as node:
        await node.bus.submit("f", b"1")
        await node.clock.advance(1)

        assert len(await node.outbox("queue:dead-letters")) == 1


async def test_a_function_with_many_events_does_not_delay_anothers_first() -> None:
    def only_quick(invocation: Invocation) -> Outcome | None:
        return succeed(invocation) if invocation.function == "quick" else None

    async with running(only_quick, declared("slow"), declared("quick")) as node:
        for _ in range(500):
            await node.bus.submit("slow", b"1")
        await node.clock.advance(1)
        await node.bus.submit("quick", b"2")
        await node.clock.advance(1)

        assert [ran.function for ran in node.pool.ran] == ["slow"] * 4 + ["quick"]


async def test_the_next_events_of_a_quick_function_are_claimed_before_they_have_a_place() -> None:
    async with running(lambda _: None, declared("f")) as node:
        accepted = [await node.bus.submit("f", b"%d" % number) for number in range(20)]
        await node.clock.advance(0.01)
        assert await node.claimed("f") == 4
        node.end(accepted[0])
        await node.clock.advance(0.01)

        assert await node.claimed("f") == 19
        assert [ran.request_id for ran in node.pool.ran] == accepted[:5], "no more than may run at once"
        for each in accepted[1:]:
            node.end(each)
        await node.clock.advance(0.01)
        assert [ran.request_id for ran in node.pool.ran] == accepted, "in their order"
        assert await node.waiting() == {}


async def test_of_a_slow_function_no_more_is_claimed_than_runs() -> None:
    async with running(lambda _: None, declared("f")) as node:
        accepted = [await node.bus.submit("f", b"%d" % number) for number in range(20)]
        await node.clock.advance(10)
        node.end(accepted[0])
        await node.clock.advance(1)

        assert await node.claimed("f") == 4
        assert [ran.request_id for ran in node.pool.ran] == accepted[:5]


async def test_a_drain_hands_back_at_once_what_has_no_place() -> None:
    async with running(lambda _: None, declared("f")) as node:
        accepted = [await node.bus.submit("f", b"%d" % number) for number in range(20)]
        await node.clock.advance(0.01)
        node.end(accepted[0])
        await node.clock.advance(0.01)
        assert await node.claimed("f") == 19
        draining = asyncio.create_task(node.dispatcher.drain(30))
        await node.clock.advance(0.01)

        assert await node.claimed("f") == 4
        node.end(accepted[1])
        await node.clock.advance(30)
        await draining
        assert [ran.request_id for ran in node.pool.ran] == accepted[:5], "nothing begins any more"
        again = await node.engine.claim("fn/f", 100, node.clock.now_ms() + 1000, node.clock.now_ms())
        assert [(message.id, message.attempts) for message in again] == [(each, 1) for each in accepted[5:]]


async def test_what_is_claimed_ahead_begins_when_somebody_else_leaves_a_place() -> None:
    async with running(lambda _: None, declared("f"), declared("g"), limits=Limits(concurrency=2)) as node:
        accepted = [await node.bus.submit("f", b"%d" % number) for number in range(2)]
        await node.clock.advance(0.01)
        node.end(accepted[0])
        share = node.admission.enter("g")
        assert share is not None
        accepted += [await node.bus.submit("f", b"%d" % number) for number in range(3)]
        await node.clock.advance(0.01)
        assert await node.claimed("f") == 4
        assert [ran.request_id for ran in node.pool.ran] == accepted[:2]
        node.admission.leave(share)
        await node.clock.advance(0.01)

        assert [ran.request_id for ran in node.pool.ran] == accepted[:3]


async def test_throttled_events_wait_uncounted() -> None:
    async with running(lambda _: None, declared("f"), declared("g"), limits=Limits(concurrency=1)) as node:
        await node.bus.submit("g", b"1")
        await node.clock.advance(1)
        await node.bus.submit("f", b"1")
        await node.clock.advance(600)
        assert [ran.function for ran in node.pool.ran] == ["g"]

        done = node.pool.in_flight.popitem()[1]
        done(Outcome(OutcomeKind.SUCCESS, b"1"))
        await node.clock.advance(600)

        assert [ran.function for ran in node.pool.ran] == ["g", "f"]


async def test_an_event_for_a_function_that_is_gone_is_kept() -> None:
    async with running(succeed, declared("f")) as node:
        with pytest.raises(FunctionNotFound):
            await node.bus.submit("gone", b"1")
        await node.engine.commit([Send("fn/gone", "accepted-before", b"1")], node.clock.now_ms())
        await node.clock.advance(1)

        assert node.pool.ran == []
        assert await node.waiting() == {}
        (record,) = await node.outbox("queue:dead-letters")
        assert record["requestContext"]["condition"] == "FunctionNotFound"


async def test_a_claim_is_held_as_long_as_the_function_runs() -> None:
    async with running(lambda _: None, declared("f", timeout=900)) as node:
        await node.bus.submit("f", b"1")
        await node.clock.advance(899)

        assert len(node.pool.ran) == 1


async def test_a_drain_hands_back_what_does_not_finish() -> None:
    async with running(lambda _: None, declared("f")) as node:
        request_id = await node.bus.submit("f", b"1")
        await node.clock.advance(1)
        draining = asyncio.create_task(node.dispatcher.drain(30))
        await node.clock.advance(31)
        await draining
        await node.pool.close()
        await node.dispatcher.settled()

        (message,) = await node.engine.peek("fn/f", 10)
        assert (message.id, message.visible_ms <= node.clock.now_ms()) == (request_id, True)
        (again,) = await node.engine.claim("fn/f", 1, node.clock.now_ms() + 1000, node.clock.now_ms())
        assert again.attempts == 1, "the attempt that was cut off by us does not count"


async def test_an_idempotency_key_is_accepted_once_in_its_window() -> None:
    async with running(succeed, declared("f")) as node:
        first = await node.bus.submit("f", b"1", dedupe_key="k")
        second = await node.bus.submit("f", b"1", dedupe_key="k")
        await node.clock.advance(86_401)
        third = await node.bus.submit("f", b"1", dedupe_key="k")
        await node.clock.advance(1)

        assert first == second != third
        assert len(node.pool.ran) == 2


async def test_a_position_is_kept_with_its_event_or_not_at_all() -> None:
    async with running(lambda _: None, declared("f"), limits=Limits(queued_events=1)) as node:
        await node.bus.submit("f", b"1", position=Position("position/s/a", b"1"))
        with pytest.raises(Throttled):
            await node.bus.submit("f", b"2", position=Position("position/s/b", b"1"))

        assert await node.engine.scan("position/") == {"position/s/a": b"1"}


async def test_an_outcome_that_cannot_be_kept_yet_is_kept_later(caplog: pytest.LogCaptureFixture) -> None:
    class FullDisk(MemoryEngine):
        full = False

        async def commit(self, operations: Any, now: int) -> list[str | None]:
            if self.full and not any(isinstance(operation, Put) for operation in operations):
                raise EngineFull("no space left in the data folder")
            return await super().commit(operations, now)

    engine = FullDisk()
    async with running(lambda _: None, declared("f"), engine=engine) as node:
        await node.bus.submit("f", b"1")
        await node.clock.advance(1)
        engine.full = True
        with pytest.raises(EngineFull):
            await node.bus.submit("f", b"2")
        node.pool.in_flight.popitem()[1](Outcome(OutcomeKind.SUCCESS, b"1"))
        await node.clock.advance(10)
        assert await node.waiting() == {"fn/f": 1}
        assert [record.name for record in caplog.records] == ["eventfn.dispatch"]  # said once, not with each try

        engine.full = False
        await node.clock.advance(2)

        assert await node.waiting() == {}
        assert len(node.pool.ran) == 1


async def test_the_front_door_says_no_at_once() -> None:
    async with running(lambda _: None, declared("f"), limits=Limits(concurrency=1)) as node:
        first = asyncio.ensure_future(node.bus.call("f", b"1"))
        await asyncio.sleep(0)
        refused = await node.bus.call("f", b"2")

        assert refused.kind is OutcomeKind.THROTTLED
        assert refused.retry_after is not None
        with pytest.raises(PayloadTooLarge):
            await node.bus.call("f", b"x" * 6_291_457)
        with pytest.raises(PayloadTooLarge):
            await node.bus.submit("f", b"x" * 1_048_577)
        node.bus.close()
        with pytest.raises(ShuttingDown):
            await node.bus.submit("f", b"1")
        node.pool.in_flight.popitem()[1](Outcome(OutcomeKind.SUCCESS, b"7"))
        assert (await first).payload == b"7"


# --- chains of invocations --------------------------------------------------------------------------------------------


def terminating(node: Running) -> None:
    """`f` as a function made through the API has it."""
    prepared = declared("f")
    node.functions.declare({})
    node.functions.manage("f", {"f": target(prepared.function, prepared.arn, prepared, terminates=True)})


async def test_a_function_that_invokes_itself_is_stopped() -> None:
    async with running(succeed, declared("f")) as node:
        terminating(node)
        await node.bus.call("f", b"1")
        for _ in range(MOST - 1):
            assert node.pool.ran[-1].trace_id is not None
            await node.bus.call("f", b"1", trace_id=node.pool.ran[-1].trace_id)
        with pytest.raises(RecursiveInvocation, match="recursive loop"):
            await node.bus.call("f", b"1", trace_id=node.pool.ran[-1].trace_id)
        assert len(node.pool.ran) == MOST
        assert (await node.bus.call("f", b"1")).ok  # another chain


async def test_one_that_is_allowed_to_goes_on() -> None:
    async with running(succeed, declared("f")) as node:
        await node.bus.call("f", b"1")
        for _ in range(2 * MOST):
            assert (await node.bus.call("f", b"1", trace_id=node.pool.ran[-1].trace_id)).ok


async def test_an_event_that_has_come_back_too_often_is_given_up() -> None:
    async with running(succeed, declared("f")) as node:
        terminating(node)
        await node.bus.submit("f", b"1")
        await node.clock.advance(1)
        for _ in range(MOST):
            await node.bus.submit("f", b"1", trace_id=node.pool.ran[-1].trace_id)
            await node.clock.advance(1)
        assert len(node.pool.ran) == MOST
        (record,) = await node.outbox("queue:dead-letters")
        assert record["requestContext"]["condition"] == "RecursiveInvocation"
        assert record["requestContext"]["approximateInvokeCount"] == 0
        assert await node.waiting() == {}

"""Durable executions over a store, with a function that never answers, unless it is given what to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from eventfn.durable.running import DOCUMENTS, NAMES, DurableExecutions
from eventfn.engine.memory import MemoryEngine
from eventfn.event import Outcome, OutcomeKind
from eventfn.functions import durable
from eventfn.functions.durable import SUCCEEDED, Execution
from eventfn.functions.managed import Code, Configuration, ManagedFunction, Version
from eventfn.functions.refusals import Refusal
from eventfn.functions.store import Store
from eventfn.testing import FakeClock

DAY_MS = 86_400_000
LATEST = Version(
    number="$LATEST",
    configuration=Configuration(
        role="arn:aws:iam::000000000000:role/r",
        handler="a.b",
        runtime="python3.11",
        durable_config={"ExecutionTimeout": 60, "RetentionPeriodInDays": 1},
    ),
    code=Code(sha256="c2hh", size=1, blob="ab"),
    revision_id="1",
    last_modified_ms=1,
)
FUNCTION = ManagedFunction(name="f", region="us-east-1", account="000000000000", latest=LATEST)


class Node:
    def __init__(self, engine: MemoryEngine, clock: FakeClock) -> None:
        self.invoked = 0
        self.answers: list[bytes] = []  # of its next invocations
        self.store = Store(engine, clock)
        self.executions = DurableExecutions(self.store, self._invoke, clock)

    async def _invoke(self, reference: str, payload: bytes, **more: Any) -> Outcome:
        self.invoked += 1
        if self.answers:
            return Outcome(OutcomeKind.SUCCESS, self.answers.pop(0))
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def begin(self, payload: bytes = b"1", name: str | None = "order") -> Execution:
        return await self.executions.begin(FUNCTION, LATEST, payload, name)


@contextlib.asynccontextmanager
async def running(engine: MemoryEngine, clock: FakeClock) -> AsyncGenerator[Node]:
    node = Node(engine, clock)
    await node.store.load()
    task = asyncio.create_task(node.executions.run())
    await asyncio.sleep(0)  # it has begun
    try:
        yield node
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def engine() -> MemoryEngine:
    engine = MemoryEngine()
    await engine.open(0)
    return engine


async def settled(node: Node, invocations: int) -> None:
    async with asyncio.timeout(10):
        while node.invoked < invocations:
            await asyncio.sleep(0)
    for _ in range(100):  # whatever else would begin has had its turns
        await asyncio.sleep(0)


async def test_of_several_that_begin_with_one_name_at_once_one_does(engine: MemoryEngine) -> None:
    async with running(engine, FakeClock()) as node:
        begun = await asyncio.gather(*(node.begin() for _ in range(5)))
        assert len({execution.id for execution in begun}) == 1
        await settled(node, 1)
        assert node.invoked == 1
        assert [execution.id for execution in node.executions.of("f")] == [begun[0].id]
        others = await asyncio.gather(node.begin(name="a"), node.begin(name="b"), node.begin(name=None))
        assert len({execution.id for execution in (*begun, *others)}) == 4


async def test_of_two_payloads_under_one_name_at_once_one_is_refused(engine: MemoryEngine) -> None:
    async with running(engine, FakeClock()) as node:
        results = await asyncio.gather(node.begin(b"1"), node.begin(b"2"), return_exceptions=True)
        assert [type(result) for result in results if not isinstance(result, Execution)] == [Refusal]
        begun = [result.id for result in results if isinstance(result, Execution)]
        assert [execution.id for execution in node.executions.of("f")] == begun


async def test_a_name_is_known_after_a_restart(engine: MemoryEngine) -> None:
    async with running(engine, FakeClock()) as node:
        execution = await node.begin()
    async with running(engine, FakeClock()) as node:
        assert (await node.begin()).id == execution.id
        with pytest.raises(Refusal):
            await node.begin(b"2")


async def test_a_name_is_known_that_was_given_before_names_were_kept_by_themselves(engine: MemoryEngine) -> None:
    clock = FakeClock()
    async with running(engine, clock) as node:
        first = await node.begin()
        await node.store.put_document(f"{NAMES}f/{LATEST.number}/order", None)
    async with running(engine, clock) as node:
        await settled(node, 1)
        assert (await node.begin()).arn == first.arn


async def test_what_was_kept_for_a_caller_who_has_gone_goes_on(engine: MemoryEngine) -> None:
    async with running(engine, FakeClock()) as node:
        caller = asyncio.create_task(node.begin())
        await asyncio.sleep(0)  # it has begun to keep it
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        assert caller.cancelled()
        await settled(node, 1)
        assert len(node.executions.of("f")) == 1


async def test_a_name_is_free_again_when_its_execution_is_forgotten(engine: MemoryEngine) -> None:
    clock = FakeClock()
    async with running(engine, clock) as node:
        first = await node.begin()
        await settled(node, 1)
        await node.executions.change(first.key, lambda one: durable.over(one, SUCCEEDED, clock.now_ms()))
        await clock.advance(2 * DAY_MS / 1000)
        second = await node.begin(b"2")
        assert second.id != first.id
    async with running(engine, clock) as node:  # a start puts away what is forgotten, and leaves the name where it is
        await settled(node, 1)
        assert list(node.store.documents(DOCUMENTS, Execution)) == [second.key]
        assert (await node.begin(b"2")).id == second.id
        await node.executions.change(second.key, lambda one: durable.over(one, SUCCEEDED, clock.now_ms()))
        await clock.advance(2 * DAY_MS / 1000)
    async with running(engine, clock) as node:
        async with asyncio.timeout(10):
            while node.store.documents(DOCUMENTS, Execution):
                await asyncio.sleep(0)
        assert not node.store.documents(NAMES, msgspec.Struct)


@pytest.mark.parametrize(
    "answer", [b'{"Status":"SUCCEEDED","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"\xff", b"no"]
)
async def test_an_answer_that_nobody_can_read_is_its_own_executions_failure(
    engine: MemoryEngine, answer: bytes
) -> None:
    async with running(engine, FakeClock()) as node:
        node.answers.append(answer)
        execution = await node.begin()
        await settled(node, 1)
        told = node.executions.get(execution.key)
        assert not told.is_over, "it is asked again"
        assert msgspec.json.encode(told).count(b"InvalidOutput") == 1
        other = await node.begin(name="other")
        await settled(node, 2)
        assert not node.executions.get(other.key).is_over


async def test_a_chained_invoke_whose_answer_is_no_text_has_failed(engine: MemoryEngine) -> None:
    async with running(engine, FakeClock()) as node:
        node.answers.append(b'{"Status":"PENDING"}')
        execution = await node.begin()
        await settled(node, 1)
        chained = durable.Operation(
            id="call", type="CHAINED_INVOKE", status="STARTED", start_ms=0, changed=1, function="other"
        )
        node.answers.append(b"\xff")
        await node.executions.change(
            execution.key, lambda one: msgspec.structs.replace(one, operations={**one.operations, "call": chained})
        )
        await settled(node, 2)
        ended = node.executions.get(execution.key).operations["call"]
        assert ended.status == "FAILED"
        assert "Invalid invocation output" in str(ended.error)

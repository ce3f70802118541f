"""Nodes of a group in one process: the real host of streams around the connector, and what their functions handled."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from eventfn.bus.outbox import Outbox
from eventfn.bus.stream import HostAssignments, StreamIntake
from eventfn.clock import SystemClock
from eventfn.engine.memory import MemoryEngine
from eventfn.event import Outcome, OutcomeKind
from eventfn.functions.model import Function, Intake, TriggerBinding
from eventfn.testing import trigger_context
from eventfn.units import Duration
from eventfn_kafka import KafkaTrigger
from eventfn_kafka.settings import Clusters, KafkaSettings
from tests.connectors.kafka.conftest import Peer
from tests.support import until

Answer = Callable[[list[dict[str, Any]]], Awaitable[Any]]


class Ledger:
    """All that was put in, and all that was handled, over all nodes: what a test compares in the end."""

    def __init__(self, peer: Peer, topic: str, group: str) -> None:
        self.topic = topic
        self.group = group
        self._peer = peer
        self.put: dict[int, dict[int, bytes]] = defaultdict(dict)  # partition -> offset -> value
        self.handled: dict[int, list[int]] = defaultdict(list)  # partition -> offsets, in the order they were done
        self.values: dict[tuple[int, int], bytes] = {}

    async def send(self, value: bytes, key: bytes | None = None) -> None:
        """Puts one in, and again until the cluster has taken it."""
        sent = await (await self._peer.producer()).send_and_wait(self.topic, value, key=key)
        self.put[sent.partition][sent.offset] = value

    @property
    def count(self) -> int:
        return sum(map(len, self.put.values()))

    @property
    def seen(self) -> int:
        """How many different ones were handled."""
        return len(self.values)

    def note(self, records: list[dict[str, Any]]) -> None:
        for record in records:
            self.handled[record["partition"]].append(record["offset"])
            self.values[record["partition"], record["offset"]] = base64.b64decode(record["value"])

    def repeats(self) -> int:
        return sum(map(len, self.handled.values())) - self.seen

    async def check(self) -> None:
        """Nothing is lost, nothing is made up, order is kept, and what is committed is done."""
        assert self.values == {
            (partition, offset): value for partition, puts in self.put.items() for offset, value in puts.items()
        }
        for partition, offsets in self.handled.items():
            # At least once: a node that ends goes back to what was committed, and from there on the order is kept.
            reached = -1
            for offset in offsets:
                assert offset <= self._next(partition, reached), f"{partition}: {offset} came before those before it"
                reached = max(reached, offset)

    def _next(self, partition: int, offset: int) -> int:
        return min((each for each in self.put[partition] if each > offset), default=offset)

    async def check_commits(self) -> None:
        """At any time: what is committed of each partition has been handled up to there."""
        for partition, offset in (await self._peer.committed(self.group, self.topic)).items():
            done = set(self.handled[partition])
            missing = [each for each in self.put[partition] if each < offset and each not in done]
            assert not missing, f"{partition}: {offset} is committed, and {missing} were never handled"

    async def all_committed(self) -> bool:
        committed = await self._peer.committed(self.group, self.topic)
        return committed == {partition: max(puts) + 1 for partition, puts in self.put.items()}


class Node:
    """One member: its own trigger and host, and a function that notes in the ledger what it has done."""

    def __init__(
        self,
        folder: Path,
        clusters: Clusters,
        ledger: Ledger,
        answer: Answer | None = None,
        *,
        settings: dict[str, Any] | None = None,
        **intake: Any,
    ) -> None:
        self.ledger = ledger
        self.events: list[Any] = []
        self._answer = answer
        assignments = HostAssignments()
        context = msgspec.structs.replace(trigger_context(folder, clock=SystemClock()), assignments=assignments)
        told: dict[str, Any] = {"starting_position": "TRIM_HORIZON", "batch_size": 10, **intake}
        own: dict[str, Any] = {"session_timeout": Duration(6), "rebalance_timeout": Duration(10), **(settings or {})}
        declared = KafkaSettings(topics=(ledger.topic,), group_id=ledger.group, **own)
        self.trigger = KafkaTrigger(declared, clusters, context)
        engine, clock = MemoryEngine(), SystemClock()
        self.host = StreamIntake(
            Function(name="hello", handler="app.handler", code="/project", timeout=Duration(3)),
            context.function_arn,
            TriggerBinding(
                type="kafka",
                source=f"hello/kafka/{ledger.topic}",
                settings=declared,
                intake=Intake(**told),
            ),
            self.trigger,
            assignments,
            self._invoke,
            engine,
            Outbox(engine, clock),
            clock,
            owner="node",
            log=logging.getLogger("eventfn.tests"),
        )
        self._task: asyncio.Task[None] | None = None

    async def _invoke(self, name: str, payload: bytes) -> Outcome:
        event = msgspec.json.decode(payload)
        self.events.append(event)
        records = [record for some in event["records"].values() for record in some]
        try:
            answer = None if self._answer is None else await self._answer(records)
        except ValueError as error:
            return Outcome(OutcomeKind.FUNCTION_ERROR, b"{}", error_type="ValueError", error_message=str(error))
        self.ledger.note(records)
        return Outcome(OutcomeKind.SUCCESS, msgspec.json.encode(answer))

    @property
    def shards(self) -> set[str]:
        return set(self.trigger._shards)

    def start(self) -> None:
        self._task = asyncio.create_task(self.host.run())

    async def stop(self) -> None:
        """As SIGTERM: what runs comes to its end."""
        assert self._task is not None
        await self.host.drain(10)
        await self._task

    async def end(self) -> None:
        """At once: what runs is left as it is."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


@contextlib.asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    for node in nodes:
        node.start()
    try:
        yield
    finally:
        for node in nodes:
            await node.end()


async def until_done(ledger: Ledger, what: str = "everything was handled") -> None:
    await until(lambda: ledger.seen >= ledger.count, what)
    await until(ledger.all_committed, "all of it is committed")
    await ledger.check()

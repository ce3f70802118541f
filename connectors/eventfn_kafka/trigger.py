"""Topics as a source: one consumer in a group of them, whose partitions are the shards that a function is fed from.

    connect ─▶ joins the group ─▶ brokers assign partitions ─▶ context.assignments.assign
                                  brokers want them back    ─▶ context.assignments.revoke (drain, commit) ─▶ rejoins

The library finds brokers that come back, and joins its group again, by itself. A consumer is thrown away only when it
says that it cannot go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from eventfn.errors import ConnectorError
from eventfn.event import Record
from eventfn.trigger import BatchInfo, Filtering, Shard, ShardReader, Start, Traits, TriggerContext
from eventfn_kafka import shape
from eventfn_kafka.commits import Commits
from eventfn_kafka.connecting import REQUEST, options
from eventfn_kafka.fetching import tune
from eventfn_kafka.library import KafkaError, Partition, aiokafka, outside, said
from eventfn_kafka.reader import PartitionReader
from eventfn_kafka.settings import Clusters, KafkaSettings, group_of

_NEVER = 2**31 - 1  # milliseconds
_NO_PARTITION = Partition("", -1)
_IN_BASE64 = Filtering(base64_keys=("value", "key"), mismatch="ignore")
_IN_TEXT = Filtering(mismatch="ignore")
# Of the rebalance timeout, how much is left for the commits after functions had their time, and for joining again.
_FOR_THE_REST = 0.2
_TASKS = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task")
_BEFORE_IT_TRIES_AGAIN = 5.0  # seconds, when its group has refused it
_TO_LEAVE = 0.6  # of the time to close
_LAST_WORD = 5.0  # seconds to leave the group when a consumer is replaced


class KafkaTrigger:
    Settings: ClassVar[type[msgspec.Struct]] = KafkaSettings
    Shared: ClassVar[type[msgspec.Struct] | None] = Clusters
    traits: ClassVar[Traits] = Traits(
        invocation="request_response", ack="prefix", ordered=True, max_batch_size=10_000, default_batch_size=100
    )
    data_key: ClassVar[str] = "value"
    filtering: Filtering = _IN_BASE64

    @classmethod
    def check(cls, settings: Any, shared: Any) -> tuple[str, str] | None:
        if shared.named(settings.cluster) is None:
            return "cluster", f"no cluster is called '{settings.cluster}': add [kafka.clusters.{settings.cluster}]"
        return None

    def __init__(self, settings: KafkaSettings, shared: Clusters, context: TriggerContext) -> None:
        assert context.assignments is not None, "a stream that cannot list its shards reports to context.assignments"
        self._settings = settings
        self._context = context
        self._assignments = context.assignments
        self._cluster = shared.named(settings.cluster)
        self._group = group_of(settings, context.function)
        self._bootstrap = "" if self._cluster is None else ",".join(self._cluster.bootstrap_servers)
        self.filtering = _IN_BASE64 if settings.event_format == "lambda" else _IN_TEXT
        self._consumer: Any = None
        self._commits: Commits
        self._listening: asyncio.Task[None] | None = None
        self._shards: dict[str, Any] = {}  # those that are ours, as the library names them
        self._readers: set[PartitionReader] = set()

    # --- the group ---------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        if self._consumer is not None and await self._can_go_on():
            return
        if self._cluster is None:
            raise ConnectorError(f"no cluster is called {self._settings.cluster!r}: add [kafka.clusters.NAME]")
        client = f"eventfn-{self._context.function}"
        # Whoever joins a group hears of it when all others have, and one timeout is for all requests.
        timeout = self._settings.rebalance_timeout + REQUEST
        consumer = aiokafka.AIOKafkaConsumer(
            **await options(self._cluster, self._context.folder, client, timeout),
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="none",  # where to start is said when a partition is opened
            isolation_level=self._settings.isolation_level,
            session_timeout_ms=round(self._settings.session_timeout * 1000),
            heartbeat_interval_ms=round(min(3.0, self._settings.session_timeout / 3) * 1000),
            rebalance_timeout_ms=round(self._settings.rebalance_timeout * 1000),
            # What is read, and how fast, is the host's business: it never makes this consumer leave its group.
            max_poll_interval_ms=_NEVER,
            consumer_timeout_ms=1000,  # what matters wakes its fetcher; an idle source has nothing to look for
        )
        self._consumer, self._commits = consumer, Commits(consumer)
        try:
            with outside(f"connecting to {self._bootstrap}"):
                async with asyncio.timeout(REQUEST):  # for what listens there and is no broker, or says nothing
                    await consumer.start()
            tune(consumer)
            await self._ask_for_topics(consumer)
            consumer.subscribe(topics=list(self._settings.topics), listener=_Listener(self, consumer))
            await _joined(consumer, timeout)
        except BaseException:
            await self._give_up(_LAST_WORD)
            raise
        self._listening = asyncio.create_task(self._listen(consumer))

    async def _can_go_on(self) -> bool:
        """Whether the consumer that there is does. Raises ConnectorError when only its brokers are missing."""
        try:
            await self._ask_for_topics(self._consumer)
        except ConnectorError:
            # Where nothing answers, a new connection may: the library would wait for its timeout first.
            for connection in list(self._consumer._client._conns.values()):
                connection.close()
            raise
        try:
            with outside("as a member of the group"):
                self._consumer._coordinator.check_errors()
        except ConnectorError as error:
            self._context.log.warning("group %s: joining it anew: %s", self._group, error)
            await self._give_up(_LAST_WORD)
            return False
        return True

    async def _ask_for_topics(self, consumer: Any) -> None:
        """Before they are subscribed to: brokers may make a topic that somebody asks to read, as nobody wants it."""
        with outside(f"asking {self._bootstrap} for its topics"):
            async with asyncio.timeout(REQUEST):
                known: set[str] = await consumer.topics()
        if missing := sorted(set(self._settings.topics) - known):
            topics = ", ".join(missing)
            raise ConnectorError(f"{self._bootstrap} has no topic {topics}, or does not show it: create or allow it")

    async def _listen(self, consumer: Any) -> None:
        """To what goes wrong with the group. A reader hears it too, but a member without a partition has none; and the
        library does not try again before somebody has heard."""
        while True:
            try:
                await consumer._subscription.wait_for_assignment()
            except KafkaError as error:
                self._assignments.failed(ConnectorError(f"group {self._group}: {said(error)}"))
                await self._context.clock.sleep(_BEFORE_IT_TRIES_AGAIN)
                with contextlib.suppress(KafkaError):
                    consumer._coordinator.check_errors()

    async def assigned(self, consumer: Any, partitions: Sequence[Any]) -> None:
        if consumer is self._consumer:
            self._shards = {shape.shard_id(each.topic, each.partition): each for each in partitions}
            self._assignments.assign([Shard(shard) for shard in self._shards])

    async def revoked(self, consumer: Any) -> None:
        """All of them: this protocol gives back everything before anything is given out."""
        if consumer is not self._consumer or not self._shards:
            return
        shards = list(self._shards)
        if consumer._coordinator.generation < 0:  # no longer a member: too slow, or cut off for too long
            self._assignments.lost(shards)
        else:
            await self._assignments.revoke(shards, self._settings.rebalance_timeout * (1 - _FOR_THE_REST))
        if consumer is self._consumer:
            self._shards.clear()

    async def close(self, deadline: float) -> None:
        await self._give_up(deadline)

    async def _give_up(self, deadline: float) -> None:
        consumer, self._consumer = self._consumer, None
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})
            self._listening = None
        shards = list(self._shards)
        self._shards.clear()
        if shards:
            self._assignments.lost(shards)
        if consumer is not None:
            await _stop(consumer, deadline)

    # --- its partitions --------------------------------------------------------------------------------------------

    async def open_shard(self, shard: Shard, at: str | Start) -> ShardReader:
        partition = self._shards.get(shard.id)
        if partition is None:
            raise ConnectorError(f"{shard.id} is not assigned to this node")
        reader = PartitionReader(
            self._consumer,
            self._commits,
            partition,
            shape.shaping(self._settings.event_format, partition.topic, partition.partition),
            self._context.log,
            closed=self._readers.discard,
        )
        await reader.open(at)
        self._readers.add(reader)
        return reader

    async def pending(self) -> int:
        """Consumer lag: what is in the partitions of this node and not committed."""
        return await PartitionReader.lag(self._consumer, list(self._readers))

    def encode(self, records: Sequence[Record]) -> bytes:
        return shape.event(self._settings.event_format, self._bootstrap, records, self._settings.event_source_arn)

    def describe(self, shard: str, records: Sequence[Record]) -> BatchInfo:
        return shape.batch_info(shard, self._bootstrap, records, self._settings.event_source_arn)


@aiokafka.ConsumerRebalanceListener.register
class _Listener:
    """What the library calls when partitions move; it waits for the end of both before it goes on."""

    def __init__(self, trigger: KafkaTrigger, consumer: Any) -> None:
        self._trigger = trigger
        self._consumer = consumer

    async def on_partitions_assigned(self, assigned: set[Any]) -> None:
        await self._trigger.assigned(self._consumer, sorted(assigned))

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        await self._trigger.revoked(self._consumer)


async def _joined(consumer: Any, timeout: float) -> None:
    """Returns once the consumer is a member of its group, or raises why it is not: a read of no partition does both,
    and takes nothing."""
    with outside("joining the group"):
        async with asyncio.timeout(timeout):
            await consumer.getmany(_NO_PARTITION)


async def _stop(consumer: Any, deadline: float) -> None:
    """It leaves its group, if the brokers are there to hear of it."""
    stopping = asyncio.ensure_future(consumer.stop())
    try:
        await asyncio.wait({stopping}, timeout=deadline * _TO_LEAVE)
    finally:
        if not stopping.done():
            await _tear_down(consumer, stopping, deadline * (1 - _TO_LEAVE))


async def _tear_down(consumer: Any, stopping: asyncio.Future[None], deadline: float) -> None:
    """It waits for an answer of brokers that are not there: its connections are cut, and its tasks ended one by one."""
    own = [consumer._coordinator and getattr(consumer._coordinator, name) for name in _TASKS]
    own.append(consumer._client._sync_task)
    tasks = [stopping, *(task for task in own if task is not None)]
    for task in tasks:
        task.cancel()
    for connection in list(consumer._client._conns.values()):
        connection.close()
    await asyncio.wait(tasks, timeout=deadline / 2)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(deadline / 2):
            if consumer._fetcher is not None:
                await consumer._fetcher.close()
            await consumer._client.close()

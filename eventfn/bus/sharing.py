"""Which shards of a stream this node reads, where the source leaves that to its readers: Kinesis, DynamoDB, SSE.

    shards() ─▶ those that may be read now ─▶ a fair share of them, by leases in the engine ─▶ a ShardHost for each

Nodes with one engine share the shards. Every few seconds each node says that it is there, counts the others, takes
what is free up to its share, and lets go of what is above it. A shard may be read once its parents are done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec

from eventfn.bus.link import Link
from eventfn.bus.marks import EngineMarks, Kept, read_kept
from eventfn.bus.shard import ShardHost
from eventfn.bus.waiting import wait_for, within
from eventfn.clock import Clock
from eventfn.engine.contract import Conflict, Engine, Expect, Lease, Put
from eventfn.errors import ConnectorError, EngineError
from eventfn.trigger import Lists, Shard, Start

LEASE = 30.0  # seconds that a shard stays with a node that is gone
LOOK = 10.0  # seconds between two looks: a third of the lease, so that two may fail

Begin = Callable[[Shard, EngineMarks, Start], ShardHost]


class _Origin(msgspec.Struct, frozen=True):
    """The shards that there were when this source was first looked at: the start that was asked for is theirs. Those
    that came later are read from their beginning."""

    shards: list[str]


class Sharing:
    """`run` it until cancelled, then `let_go`."""

    def __init__(
        self,
        trigger: Lists,
        link: Link,
        engine: Engine,
        clock: Clock,
        *,
        source: str,
        owner: str,
        start: Start,
        begin: Begin,
        log: logging.Logger,
    ) -> None:
        self._trigger = trigger
        self._link = link
        self._engine = engine
        self._clock = clock
        self._source = source
        self._owner = owner
        self._start = start
        self._begin = begin
        self._log = log
        self._held: dict[str, tuple[Lease, ShardHost]] = {}
        self._presence: Lease | None = None
        self._something_ended = asyncio.Event()

    def ended(self) -> None:
        """A shard has come to its end: its children may be read."""
        self._something_ended.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_around())
            tasks.create_task(self._keep())

    async def _keep(self) -> None:
        """What is ours stays ours, also while the source is down, or hangs."""
        while True:
            await self._clock.sleep(LOOK)
            await self._hold()

    async def _look_around(self) -> None:
        while True:
            self._something_ended.clear()
            try:
                if self._link.up.is_set() and (shards := await self._list()) is not None:
                    await self._share(shards)
            except EngineError as error:
                self._log.warning("the shards cannot be shared now: %s", error)
            await wait_for(self._something_ended if self._link.up.is_set() else self._link.up, self._clock, LOOK)

    async def _list(self) -> Sequence[Shard] | None:
        generation = await self._link.until_up()
        try:
            async with self._link.one_at_a_time:
                shards: Any = await within(self._trigger.shards(), self._clock, LOOK)
            if not all(isinstance(shard, Shard) for shard in shards):
                raise ConnectorError("shards() returned what is no shard, which its contract forbids")
            return cast(Sequence[Shard], shards)
        except Exception as error:
            self._link.lost(generation, "cannot list the shards", error)
            return None

    async def let_go(self, deadline: float) -> None:
        """Of all shards at once; others may have them then."""
        await asyncio.gather(*(self._release(shard, deadline) for shard in list(self._held)))
        try:
            if self._presence is not None:
                await self._engine.give_up(self._presence)
            await self._engine.commit([Put(self._node(self._owner), None)], self._clock.now_ms())
        except EngineError as error:
            self._log.warning("the other nodes wait for this one to lapse: %s", error)

    # --- one look ----------------------------------------------------------------------------------------------------

    async def _share(self, shards: Sequence[Shard]) -> None:
        nodes = await self._present()
        kept = await self._kept()
        origin = await self._origin(shards)
        await self._hold()
        open_shards = readable(shards, kept, origin, self._start)
        share = -(-len(open_shards) // nodes)
        # A node that came later has none yet. What runs of them ends first.
        await asyncio.gather(*(self._release(shard_id, LOOK) for shard_id in list(self._held)[share:]))
        for shard in open_shards:
            if len(self._held) >= share:
                break
            if shard.id not in self._held:
                await self._try_to_take(shard, origin)
        await self._forget(shards, kept)

    async def _try_to_take(self, shard: Shard, origin: Sequence[str]) -> None:
        now = self._clock.now_ms()
        lease = await self._engine.acquire(self._lease_name(shard.id), self._owner, now + round(LEASE * 1000), now)
        if lease is None:
            return
        marks = EngineMarks(self._engine, self._clock, self._key(shard.id), lease.epoch)
        start = self._start if shard.id in origin else Start("TRIM_HORIZON")
        self._held[shard.id] = (lease, self._begin(shard, marks, start))

    async def _hold(self) -> None:
        """Renews what is ours. What cannot be renewed before it lapses is lost."""
        now = self._clock.now_ms()
        for shard_id, (lease, host) in list(self._held.items()):
            if host.ended.is_set():
                await self._release(shard_id, 0)
                continue
            try:
                renewed = await self._engine.acquire(lease.name, self._owner, now + round(LEASE * 1000), now)
            except EngineError:
                if now < lease.until_ms:
                    continue
                renewed = None
            if self._held.get(shard_id, (lease, None))[1] is not host:
                continue  # it was let go meanwhile
            if renewed is None or renewed.epoch != lease.epoch:
                self._log.warning("%s went to another node", shard_id)
                host.lose()
                del self._held[shard_id]
            else:
                self._held[shard_id] = (renewed, host)

    async def _release(self, shard_id: str, deadline: float) -> None:
        if shard_id not in self._held:
            return  # somebody else lets it go
        lease, host = self._held.pop(shard_id)
        await host.let_go(deadline)
        try:
            await self._engine.give_up(lease)
        except EngineError as error:
            self._log.warning("%s stays with this node until its lease lapses: %s", shard_id, error)

    async def _present(self) -> int:
        """How many nodes read this source, this one included. Each holds a lease of its own, named by a key: leases
        end with a node that was killed, at once where its successor knows that it is alone with its engine."""
        now = self._clock.now_ms()
        self._presence = await self._engine.acquire(
            self._node(self._owner), self._owner, now + round(LEASE * 1000), now
        )
        known = await self._engine.scan(self._node(""))
        if self._node(self._owner) not in known:
            await self._engine.commit([Put(self._node(self._owner), b"")], now)
        nodes = 1
        for node in known.keys() - {self._node(self._owner)}:
            lapsed = await self._engine.acquire(node, self._owner, now, now)
            if lapsed is None:
                nodes += 1
            else:
                await self._engine.give_up(lapsed)
                await self._engine.commit([Put(node, None)], now)
        return nodes

    async def _kept(self) -> Mapping[str, Kept]:
        prefix = self._key("")
        found = await self._engine.scan(prefix)
        return {key.removeprefix(prefix): read_kept(value) for key, value in found.items()}

    async def _origin(self, shards: Sequence[Shard]) -> Sequence[str]:
        key = f"stream/{self._source}/origin"
        while (value := await self._engine.get(key)) is None:
            first = msgspec.json.encode(_Origin([shard.id for shard in shards]))
            try:
                await self._engine.commit([Expect(key, None), Put(key, first)], self._clock.now_ms())
            except Conflict:
                continue  # another node was quicker
        return msgspec.json.decode(value, type=_Origin).shards

    async def _forget(self, shards: Sequence[Shard], kept: Mapping[str, Kept]) -> None:
        """What is done and not listed any more is of no use to anybody."""
        listed = {shard.id for shard in shards}
        gone = [shard_id for shard_id, each in kept.items() if each.done and shard_id not in listed]
        if gone and listed:
            await self._engine.commit([Put(self._key(shard_id), None) for shard_id in gone], self._clock.now_ms())

    def _node(self, owner: str) -> str:
        return f"stream/{self._source}/node/{owner}"

    def _key(self, shard_id: str) -> str:
        return f"stream/{self._source}/shard/{shard_id}"

    def _lease_name(self, shard_id: str) -> str:
        return f"stream/{self._source}/{shard_id}"


def readable(shards: Iterable[Shard], kept: Mapping[str, Kept], origin: Sequence[str], start: Start) -> list[Shard]:
    """The shards that may be read now: not done, and all of their parents that are still listed are done."""
    listed = {shard.id: shard for shard in shards}
    parents = {parent for shard in listed.values() for parent in shard.parents}

    def done(shard_id: str) -> bool:
        if shard_id in kept:
            return kept[shard_id].done
        # It was closed already when only what is new was asked for: there is nothing new in it.
        return start.position == "LATEST" and shard_id in origin and shard_id in parents

    return [
        shard
        for shard in listed.values()
        if not done(shard.id) and all(done(parent) for parent in shard.parents if parent in listed)
    ]

"""A Redis stream as a source: a function is invoked with batches of its entries, read as a member of a consumer group.

    XREADGROUP BLOCK ──▶ new entries ──┐
                                       ├──▶ read() ──▶ settle(): done: XACK, or due again at its time
    TAKE ──▶ entries that are due ─────┘

The group's pending list on the server is all the state there is: what a dead node had is due when it has been idle for
the visibility timeout, and whoever looks first takes it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Sequence
from math import inf
from typing import Any, ClassVar

import msgspec

from eventfn.destination import ORIGIN, REASON, SHAPE
from eventfn.errors import ConnectorError
from eventfn.event import Batch, Record
from eventfn.trigger import Done, QueueMessage, Reject, Retry, Settlement, Traits, TriggerContext
from eventfn_redis import scripts, shape
from eventfn_redis.server import LONG_POLL, ResponseError, close_client, open_client, outside
from eventfn_redis.settings import Servers, Source

BUILT_IN_DEAD_LETTERS = "dead-letters"  # the host's queue for what has no dead letters of its own
_NAME = "eventfn-"  # of our consumers
_FORGOTTEN_MS = 3_600_000  # a consumer of a node that was killed is removed once it has nothing for so long
# Between two looks at what is due. While much fails at different times, each look does for all of a moment.
_SHORTEST_PAUSE = 0.05


class _Entry(msgspec.Struct, frozen=True):
    id: str
    receives: int
    fields: list[bytes]


class RedisTrigger:
    Settings: ClassVar[type[msgspec.Struct]] = Source
    Shared: ClassVar[type[msgspec.Struct] | None] = Servers
    # Not ordered: several consumers have neighbouring entries at the same time.
    traits: ClassVar[Traits] = Traits(invocation="request_response", ordered=False)
    data_key: ClassVar[str] = "body"

    @classmethod
    def check(cls, settings: Any, shared: Any) -> tuple[str, str] | None:
        if shared.named(settings.server) is None:
            return "server", f"no server is called '{settings.server}': add [redis.servers.{settings.server}]"
        return None

    def __init__(self, settings: Source, shared: Servers, context: TriggerContext) -> None:
        self._settings = settings
        server = shared.named(settings.server)
        assert server is not None, "check() has seen it"
        self._server = server
        self._context = context
        self._clock = context.clock
        self._group = settings.group or context.function
        self._keys = (settings.stream, f"{settings.stream}:eventfn:{self._group}")
        self._consumer = ""
        self._client: Any = None
        self._was_connected = False
        self._ready: list[_Entry] = []  # fetched for a read that was cancelled
        self._open: dict[str, int] = {}  # read and not settled: how often it was received
        self._fetching: asyncio.Task[list[_Entry]] | None = None
        self._blocked: asyncio.Task[list[_Entry]] | None = None  # waits on the server for new entries
        self._look_at = 0.0  # when something may be due, by the monotonic clock
        self._sooner = asyncio.Event()  # _look_at has come nearer

    @property
    def lease(self) -> float:
        return float(self._settings.visibility_timeout)

    # --- its life ----------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        await self._disconnect()
        self._consumer = self._consumer or f"{_NAME}{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._client = open_client(self._server, self._context.folder)
        # All of a stream that vanished and came again is new to us, whatever was said of the first start.
        start = "0" if self._was_connected else self._settings.start
        with outside(self._server):
            try:
                await self._command("XGROUP", "CREATE", self._settings.stream, self._group, start, "MKSTREAM")
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
            await self._forget_the_dead()
        self._was_connected = True
        self._look_at = self._clock.monotonic()

    async def _forget_the_dead(self) -> None:
        found = await self._command("XINFO CONSUMERS", self._settings.stream, self._group)
        for consumer in found:
            name = consumer["name"].decode(errors="replace")
            if name.startswith(_NAME) and not consumer["pending"] and consumer["idle"] > _FORGOTTEN_MS:
                await self._script(scripts.LEAVE, name)

    async def close(self, deadline: float) -> None:
        if self._client is None:
            return
        try:
            async with asyncio.timeout(deadline):
                await self._stop_fetching()
                if self._was_connected:
                    # Nobody works on anything of ours any more: the others may have it at once.
                    await self._due_again([(entry, receives, 0) for entry, receives in self._open.items()])
                    await self._script(scripts.LEAVE, self._consumer)
        except (ConnectorError, TimeoutError):
            pass  # what we had is taken over when it has been idle for its time
        finally:
            self._open.clear()
            self._ready.clear()
            await self._disconnect()

    async def _disconnect(self) -> None:
        await self._stop_fetching()
        client, self._client = self._client, None
        await close_client(client)

    async def _stop_fetching(self) -> None:
        tasks = [task for task in (self._fetching, self._blocked) if task is not None]
        self._fetching = self._blocked = None
        while running := [task for task in tasks if not task.done()]:
            for task in running:
                task.cancel()
            # Python 3.11's wait_for, which the library uses, may swallow a cancel: then once more.
            await asyncio.wait(running, timeout=0.1)
        await asyncio.gather(*tasks, return_exceptions=True)  # what they ended with has been heard

    # --- reading -----------------------------------------------------------------------------------------------------

    async def read(self, limit: int) -> Batch:
        while not self._ready:
            # In a task of its own: what the server has given us by the time of a cancel is for the next read.
            fetching = self._fetching or asyncio.create_task(self._fetch(limit))
            self._fetching = fetching
            await asyncio.wait({fetching})
            self._fetching = None
            self._ready += fetching.result()
        entries, self._ready = self._ready[:limit], self._ready[limit:]
        return Batch(tuple(self._record(entry) for entry in entries))

    def _record(self, entry: _Entry) -> Record:
        return Record(
            id=entry.id,
            payload=shape.record(
                entry.id,
                self._settings.stream,
                entry.fields,
                body_field=self._settings.body_field,
                receives=entry.receives,
            ),
            arrived_ms=shape.sent_ms(entry.id),
            receives=entry.receives,
        )

    async def _fetch(self, limit: int) -> list[_Entry]:
        """What is due again goes before what is new: it has waited longer."""
        while True:
            if self._clock.monotonic() >= self._look_at and (due := await self._take_due(limit)):
                return due
            if self._blocked is None:
                self._blocked = asyncio.create_task(self._read_new(limit))
            await self._until_look_or(self._blocked)
            if self._blocked.done():
                new, self._blocked = self._blocked, None
                return new.result()

    async def _until_look_or(self, reading: asyncio.Task[Any]) -> None:
        self._sooner.clear()
        pause = asyncio.ensure_future(self._clock.sleep(self._look_at - self._clock.monotonic()))
        sooner = asyncio.ensure_future(self._sooner.wait())
        try:
            await asyncio.wait({reading, pause, sooner}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
            sooner.cancel()
            await asyncio.gather(pause, sooner, return_exceptions=True)

    async def _read_new(self, limit: int) -> list[_Entry]:
        settings = self._settings
        with outside(self._server):
            while True:
                found: list[tuple[bytes, list[tuple[bytes, list[bytes] | None]]]] | None = await self._command(
                    *("XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", limit),
                    *("BLOCK", int(LONG_POLL * 1000), "STREAMS", settings.stream, ">"),
                )
                if found:
                    # Fields are nil in the moment in which an entry is deleted: TAKE finds it, and says so.
                    new = [_Entry(entry.decode(), 1, fields) for entry, fields in found[0][1] if fields is not None]
                    self._open.update((entry.id, entry.receives) for entry in new)
                    if new:
                        return new

    async def _take_due(self, limit: int) -> list[_Entry]:
        self._look_at = inf  # what is settled while the script runs may bring it nearer
        taken, trimmed, again_ms = await self._script(scripts.TAKE, self._consumer, limit)
        # Others may hand something back meanwhile, which nobody tells us: hence not later than after a long poll.
        pause = 0 if len(taken) == limit else min(max(again_ms / 1000, _SHORTEST_PAUSE), LONG_POLL)
        self._look_at = min(self._look_at, self._clock.monotonic() + pause)
        self._tell_trimmed(trimmed)
        due = [_Entry(entry.decode(), receives, fields) for entry, receives, fields in taken]
        self._open.update((entry.id, entry.receives) for entry in due)
        most = self._settings.max_receive_count
        if most is None:
            return due
        for entry in due:
            if entry.receives > most:
                await self._give_up(entry, f"received {most} times, and never handled")
        return [entry for entry in due if entry.receives <= most]

    def _tell_trimmed(self, trimmed: Sequence[bytes]) -> None:
        if trimmed:
            self._context.log.error(
                "%d entries of stream %s were removed from it before a function had handled them: %s",
                len(trimmed),
                self._settings.stream,
                ", ".join(entry.decode() for entry in trimmed[:10]),
            )

    async def _give_up(self, entry: _Entry, reason: str) -> None:
        try:
            await self._dead_letter(entry.id, entry.receives, reason)
        except ConnectorError as error:  # it is due again later; what was read with it must not wait for that
            self._context.log.error("entry %s cannot be given to the dead letters: %s", entry.id, error)

    # --- settling ----------------------------------------------------------------------------------------------------

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        told: list[tuple[str, int, float | None]] = []
        rejected: list[tuple[Record, str]] = []
        for record, settlement in zip(batch.records, settlements, strict=True):
            match settlement:
                case Done():
                    told.append((record.id, record.receives, None))
                case Retry(after) if after is not None:
                    told.append((record.id, record.receives, after))
                case Retry():
                    pass  # due when its visibility timeout ends, as in SQS
                case Reject(reason):
                    rejected.append((record, reason))
            if self._open.get(record.id) == record.receives and not isinstance(settlement, Reject):
                del self._open[record.id]
        await self._tell(told)
        # Last: dead letters that take no more must not bring back what is done.
        for record, reason in rejected:
            if self._settings.dead_letter_stream is None:
                await self._to_the_built_in_queue(record, reason)
                await self._tell([(record.id, record.receives, None)])
                self._open.pop(record.id, None)
            else:
                await self._dead_letter(record.id, record.receives, reason)

    async def _tell(self, entries: Sequence[tuple[str, int, float | None]]) -> None:
        """Each entry is done (None), or due again after so many seconds."""
        late = await self._due_again(entries)
        if late:
            self._context.log.warning(
                "%d entries of stream %s were handled after their visibility timeout and may come again: %s",
                len(late),
                self._settings.stream,
                ", ".join(late[:10]),
            )
        first = min((after for _, _, after in entries if after is not None), default=None)
        if first is not None and self._clock.monotonic() + first < self._look_at:
            self._look_at = self._clock.monotonic() + first
            self._sooner.set()

    async def _due_again(self, entries: Sequence[tuple[str, int, float | None]]) -> list[str]:
        if not entries:
            return []
        late, trimmed = await self._script(scripts.SETTLE, self._consumer, *self._settle_arguments(entries))
        self._tell_trimmed(trimmed)
        return [entry.decode() for entry in late]

    def _settle_arguments(self, entries: Sequence[tuple[str, int, float | None]]) -> list[Any]:
        arguments: list[Any] = ["1" if self._settings.delete_after_ack else ""]
        for entry, receives, after in entries:
            arguments += (entry, receives, "" if after is None else round(after * 1000))
        return arguments

    async def _dead_letter(self, entry: str, receives: int, reason: str) -> None:
        """It is there before it leaves the group: it may be there twice, and never nowhere."""
        settings = self._settings
        with outside(self._server):
            found = await self._command("XRANGE", settings.stream, entry, entry)
            if found:
                ours = ("eventfn.stream", settings.stream, "eventfn.id", entry, REASON, reason[:1024])
                await self._command("XADD", settings.dead_letter_stream, "*", *found[0][1], *ours)
        await self._tell([(entry, receives, None)])
        self._open.pop(entry, None)
        if not found:
            self._tell_trimmed([entry.encode()])
            return
        self._context.log.error(
            "entry %s of stream %s is in the dead letters %s: %s",
            entry,
            settings.stream,
            settings.dead_letter_stream,
            reason,
        )

    async def _to_the_built_in_queue(self, record: Record, reason: str) -> None:
        """As the event of a function that failed, so that a redrive gives it to the function again."""
        attributes = {ORIGIN: f"fn:{self._context.function}", SHAPE: "event", REASON: reason[:1024]}
        dead = QueueMessage(
            body=b'{"Records":[' + record.payload + b"]}",
            attributes=attributes,
            dedupe_key=f"{self._settings.stream} {record.id}",
        )
        await self._context.queues.send(BUILT_IN_DEAD_LETTERS, [dead])

    async def extend(self, batch: Batch, seconds: float) -> None:
        """Late ones are left to whoever has them now: nothing is said until they are settled."""
        ours = [(record.id, record.receives, seconds) for record in batch.records]
        await self._due_again(ours)

    async def pending(self) -> int:
        with outside(self._server):
            for group in await self._command("XINFO GROUPS", self._settings.stream):
                if group["name"] == self._group.encode():
                    # Where entries were deleted unread the server does not know the lag: then all there are, at most.
                    lag = group.get("lag")
                    unread = await self._command("XLEN", self._settings.stream) if lag is None else lag
                    return int(unread + group["pending"])
        return 0

    # --- the server --------------------------------------------------------------------------------------------------

    async def _command(self, *arguments: Any) -> Any:
        if self._client is None:
            raise ConnectorError("redis: not connected")
        return await self._client.execute_command(*arguments)

    async def _script(self, script: str, consumer: str, *arguments: Any) -> Any:
        if self._client is None:
            raise ConnectorError("redis: not connected")
        visibility_ms = round(self.lease * 1000)
        with outside(self._server):
            return await self._client.register_script(script)(
                self._keys, (self._group, consumer, visibility_ms, *arguments)
            )

"""How far a shard is done, kept where it survives: by the source itself, or in the engine under the shard's lease.

What belongs here: one shard's mark. Who holds the lease: sharing.py.
"""

from __future__ import annotations

from typing import Protocol, cast

import msgspec

from eventfn.bus.waiting import within
from eventfn.clock import Clock
from eventfn.engine.contract import Conflict, Engine, Expect, Operation, Put
from eventfn.errors import ConnectorError
from eventfn.rules.windows import Window
from eventfn.trigger import Commits, ShardReader, Start

COMMIT_PATIENCE = 30.0  # seconds that a source has to take how far a shard is done


class Overtaken(Exception):
    """Somebody else has the shard by now: nothing of ours counts any more."""


class Marks(Protocol):
    """`reader` is the one that is open now, if there is one."""

    reader: ShardReader | None

    async def opening(self, start: Start) -> tuple[str | Start, Window | None]:
        """Where the shard is to be opened, and the tumbling window that was open. Raises Overtaken, EngineError."""
        ...

    async def keep(self, position: str | None, window: Window | None) -> None:
        """All before `position` is done (None: no more than was). Raises Overtaken, ConnectorError, EngineError."""
        ...

    async def finish(self) -> None:
        """The shard is at its end, and all of it is done."""
        ...


class SourceMarks:
    """Of a source that remembers itself (trigger.Commits): Kafka."""

    def __init__(self, clock: Clock) -> None:
        self.reader: ShardReader | None = None
        self._clock = clock

    async def opening(self, start: Start) -> tuple[str | Start, Window | None]:
        return start, None

    async def keep(self, position: str | None, window: Window | None) -> None:
        if self.reader is None:
            raise ConnectorError("it is not connected")
        if position is not None:
            try:
                await within(cast(Commits, self.reader).commit(position), self._clock, COMMIT_PATIENCE)
            except TimeoutError as error:
                raise ConnectorError(f"commit(): {error}") from error

    async def finish(self) -> None:
        pass


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the engine holds of a shard, as JSON. `epoch` is its owner's: whoever takes it over writes his own."""

    epoch: int = 0
    position: str | None = None
    start: Start | None = None  # where it was opened first, for as long as there is no position
    window: tuple[int, msgspec.Raw] | None = None  # its start, its state
    done: bool = False


def read_kept(value: bytes | None) -> Kept:
    return Kept() if value is None else msgspec.json.decode(value, type=Kept)


class EngineMarks:
    """Of a source that does not remember: compare-and-set on the shard's key, so that an owner who lost his lease
    without noticing it changes nothing."""

    def __init__(self, engine: Engine, clock: Clock, key: str, epoch: int) -> None:
        self.reader: ShardReader | None = None
        self._engine = engine
        self._clock = clock
        self._key = key
        self._epoch = epoch
        self._value: bytes | None = None
        self._kept: Kept | None = None  # None: not taken over yet

    async def opening(self, start: Start) -> tuple[str | Start, Window | None]:
        kept = await self._take_over()
        window = None if kept.window is None else Window(kept.window[0], bytes(kept.window[1]))
        if kept.position is not None:
            return kept.position, window
        if kept.start is not None:
            return kept.start, window
        if start.position == "LATEST":
            # Opened again before anything was done, it must not miss what has come meanwhile.
            await self._write(msgspec.structs.replace(kept, start=Start("AT_TIMESTAMP", self._clock.now_ms())))
        return start, window

    async def keep(self, position: str | None, window: Window | None) -> None:
        kept = await self._take_over()
        state = None if window is None else (window.start_ms, msgspec.Raw(window.state))
        await self._write(msgspec.structs.replace(kept, position=position or kept.position, window=state))

    async def finish(self) -> None:
        kept = await self._take_over()
        await self._write(Kept(epoch=kept.epoch, done=True))

    async def _take_over(self) -> Kept:
        if self._kept is None:
            self._value = await self._engine.get(self._key)
            kept = read_kept(self._value)
            if kept.epoch > self._epoch:
                raise Overtaken
            await self._write(msgspec.structs.replace(kept, epoch=self._epoch))
        assert self._kept is not None
        return self._kept

    async def _write(self, kept: Kept) -> None:
        value = msgspec.json.encode(kept)
        operations: list[Operation] = [Expect(self._key, self._value), Put(self._key, value)]
        try:
            await self._engine.commit(operations, self._clock.now_ms())
        except Conflict as conflict:
            raise Overtaken from conflict
        self._value, self._kept = value, kept

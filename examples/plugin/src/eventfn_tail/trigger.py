"""The trigger: each line of the file is one durable event.

The place behind a line is written by the host together with the event (Record.position), so a line is announced once,
whatever dies in between; what was read and never became an event is read again after a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from eventfn.errors import ConnectorError
from eventfn.event import Batch, Position, Record
from eventfn.trigger import Retry, Settlement, Traits, TriggerContext
from eventfn.units import Between, Duration
from eventfn_tail.logfile import Line, LogFile, Place

_POSITION = "place"


class TailSettings(msgspec.Struct, frozen=True, kw_only=True):
    path: str  # relative to the project's folder
    start: Literal["end", "beginning"] = "end"  # where to begin the very first time
    poll: Annotated[Duration, Between(0.05, 60)] = Duration(1)  # how often to look for new lines


class TailTrigger:
    Settings: ClassVar[type[msgspec.Struct]] = TailSettings
    Shared: ClassVar[type[msgspec.Struct] | None] = None
    traits: ClassVar[Traits] = Traits(invocation="event", ack="prefix", ordered=True, shared=False)

    def __init__(self, settings: TailSettings, shared: None, context: TriggerContext) -> None:
        self._settings = settings
        self._clock = context.clock
        self._positions = context.positions
        self._path = Path(context.folder, settings.path)
        self._log = LogFile(self._path)

    async def connect(self) -> None:
        # Looking at a local file takes microseconds: not worth a thread.
        try:
            kept = await self._positions.get(_POSITION)
            if kept is not None:
                self._log.open_at(Place(*msgspec.json.decode(kept, type=tuple[int, int])))
            elif self._settings.start == "end":
                # Remembered at once: what is written from now on counts, also if eventfn is down before it comes.
                await self._positions.put(_POSITION, msgspec.json.encode(self._log.open_at_end()))
            else:
                self._log.open_at(Place(0, 0))
        except OSError as error:
            raise ConnectorError(f"cannot read {self._path}: {error.strerror}") from error

    async def read(self, limit: int) -> Batch:
        while True:
            try:
                # No await between taking a line and returning it: a cancelled read has taken nothing.
                lines = self._take(limit)
            except OSError as error:
                raise ConnectorError(f"cannot read {self._path}: {error.strerror}") from error
            if lines:
                return Batch(records=tuple(self._record(line) for line in lines))
            await self._clock.sleep(self._settings.poll)

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        for record, settlement in zip(batch.records, settlements, strict=True):
            if isinstance(settlement, Retry):
                # All from here on comes again; what became an event already is known by its dedupe key.
                self._log.go_back(record.token)
                return

    async def pending(self) -> int:
        return self._log.behind()

    async def close(self, deadline: float) -> None:
        self._log.close()

    def _take(self, limit: int) -> list[Line]:
        lines: list[Line] = []
        while len(lines) < limit:
            try:
                line = self._log.next_line()
            except FileNotFoundError:
                if not lines:
                    raise
                break  # these first; the next read says that the file is gone
            if line is None:
                break
            lines.append(line)
        return lines

    def _record(self, line: Line) -> Record:
        name = f"{line.start.inode}-{line.start.offset}"
        event = {"path": str(self._path), "offset": line.start.offset, "line": line.text}
        return Record(
            id=name,
            payload=msgspec.json.encode(event),
            group=str(self._path),
            arrived_ms=self._clock.now_ms(),
            token=line.start,
            dedupe_key=name,
            position=Position(_POSITION, msgspec.json.encode(line.end)),
        )

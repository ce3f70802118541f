"""The destination: one line for each record, on disk before it is called written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from eventfn.destination import SHAPE, WRITTEN, Delivery, DestinationContext, OutgoingRecord, RetryAfter
from eventfn.errors import ConnectorError
from eventfn_file.append import FileInUse, append


class FileSettings(msgspec.Struct, frozen=True):
    """[destinations.file] has no keys: all that there is to say stands in the URI."""


class FileDestination:
    Settings: ClassVar[type[msgspec.Struct]] = FileSettings
    # Lambda's records are not written twice after a crash, plain events may be: two equal ones can both be meant.
    idempotent: ClassVar[bool] = False

    @classmethod
    def check(cls, target: str, settings: FileSettings) -> str | None:
        if not target or target.endswith("/") or "\0" in target or (target.startswith("//") and target[2:3] != "/"):
            return 'expected a file, as in "file:out/orders.jsonl" or "file:/var/log/orders.jsonl"'
        return None

    def __init__(self, target: str, settings: FileSettings, context: DestinationContext) -> None:
        self._path = Path(context.folder, target.removeprefix("//"))  # file:///absolute is an absolute path too
        self._appending: asyncio.Future[Any] | None = None

    async def connect(self) -> None:
        if (problem := await self._append([])) is not None:
            raise ConnectorError(problem)

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        problem = await self._append(records)
        return [WRITTEN if problem is None else RetryAfter(problem)] * len(records)

    async def close(self, deadline: float) -> None:
        if self._appending is not None:
            await asyncio.wait({self._appending}, timeout=deadline)

    async def _append(self, records: Sequence[OutgoingRecord]) -> str | None:
        """What went wrong, for the operator, or None."""
        # A record of a later attempt may be there already. Only Lambda's records are told apart by their text: each
        # names its request, while two equal plain events are two events.
        again = [r for r in records if r.attempt > 1 and r.attributes.get(SHAPE) == "record"]
        new = [r for r in records if r not in again]
        if self._appending is not None:
            await asyncio.wait({self._appending})  # a thread goes on though whoever waited for it was cancelled
        appending = asyncio.to_thread(append, self._path, [_line(r) for r in new], [_line(r) for r in again])
        self._appending = under_way = asyncio.ensure_future(appending)
        under_way.add_done_callback(lambda done: done.cancelled() or done.exception())  # heard, if nobody waits
        try:
            await asyncio.shield(under_way)
        except FileInUse as error:
            return str(error)
        except OSError as error:
            return f"cannot write to {self._path}: {error.strerror or error}"
        return None


def _line(record: OutgoingRecord) -> bytes:
    # In JSON a raw line break can only stand between tokens, never inside a string: a space says the same.
    return record.payload.replace(b"\n", b" ").replace(b"\r", b" ")

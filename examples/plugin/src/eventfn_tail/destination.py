"""The destination: `stdout:json` prints each record on a line, `stdout:brief` a sentence about it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from eventfn.destination import WRITTEN, Delivery, DestinationContext, OutgoingRecord
from eventfn.errors import ConnectorError

_FORMATS = ("json", "brief")


class _RequestContext(msgspec.Struct, rename="camel"):
    condition: str
    request_id: str


class _DestinationRecord(msgspec.Struct, rename="camel"):
    """What of Lambda's destination record is told in a sentence."""

    request_context: _RequestContext


class StdoutSettings(msgspec.Struct, frozen=True):
    """[destinations.stdout] has no keys."""


class StdoutDestination:
    Settings: ClassVar[type[msgspec.Struct]] = StdoutSettings
    idempotent: ClassVar[bool] = False  # what is printed twice stands there twice

    @classmethod
    def check(cls, target: str, settings: StdoutSettings) -> str | None:
        return None if target in _FORMATS else "expected 'stdout:json' or 'stdout:brief'"

    def __init__(self, target: str, settings: StdoutSettings, context: DestinationContext) -> None:
        self._brief = target == "brief"

    async def connect(self) -> None:
        """It is always there."""

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        try:
            for record in records:
                print(_sentence(record) if self._brief else _line(record))
            sys.stdout.flush()
        except OSError as error:
            raise ConnectorError(f"standard output: {error.strerror}") from error
        return [WRITTEN] * len(records)

    async def close(self, deadline: float) -> None:
        """It stays open for others."""


def _line(record: OutgoingRecord) -> str:
    # In JSON a raw line break can only stand between tokens, never inside a string.
    return record.payload.decode().replace("\n", " ").replace("\r", " ")


def _sentence(record: OutgoingRecord) -> str:
    origin = record.attributes.get("eventfn.origin", "somebody")
    try:
        told = msgspec.json.decode(record.payload, type=_DestinationRecord).request_context
    except msgspec.ValidationError:  # the event itself, for a dead_letter_queue
        return f"{origin}: an event {record.id}"
    return f"{origin}: {told.condition} {told.request_id}"

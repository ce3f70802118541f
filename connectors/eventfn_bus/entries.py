"""The entries of PutEvents: which become events, and why the others do not.

PURE. Source: Amazon EventBridge API reference, PutEvents and PutEventsResultEntry. A bus that nothing declares is an
error of its entry: an event that was taken is never dropped for want of a bus.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from eventfn_bus.events import DEFAULT_BUS, Event, Home, envelope

MAX_ENTRIES = 10
MAX_SIZE = 256 * 1024  # bytes of all entries of a request
_TIME_SIZE = 14
_LAST_SECOND = 253_402_300_799  # of the year 9999

_decode_detail = msgspec.json.Decoder(dict[str, Any]).decode


class Entry(msgspec.Struct, frozen=True, rename="pascal"):
    source: str | None = None
    detail_type: str | None = None
    detail: str | None = None
    event_bus_name: str | None = None
    resources: list[str] = []
    time: float | None = None  # seconds since the epoch; None: now

    @property
    def size(self) -> int:
        texts = [self.source, self.detail_type, self.detail, *self.resources]
        return sum(len(text.encode()) for text in texts if text) + (_TIME_SIZE if self.time is not None else 0)


class _Request(msgspec.Struct, frozen=True, rename="pascal"):
    entries: list[Entry] | None = None


_decode_request = msgspec.json.Decoder(_Request).decode


class BadRequest(Exception):
    """The whole request is refused."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class BadEntry(Exception):
    """One entry is refused."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def entries_of(body: bytes) -> Sequence[Entry]:
    """Raises BadRequest."""
    try:
        entries = _decode_request(body).entries
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest("SerializationException", str(error)) from error
    if entries is None:
        raise _unsatisfied("null", "Member must not be null")
    if not entries:
        raise _unsatisfied("'[]'", "Member must have length greater than or equal to 1")
    if len(entries) > MAX_ENTRIES:
        raise _unsatisfied(f"of {len(entries)} entries", f"Member must have length less than or equal to {MAX_ENTRIES}")
    if sum(entry.size for entry in entries) > MAX_SIZE:
        raise BadRequest("ValidationException", "Total size of the entries in the request is over the limit.")
    return entries


def _unsatisfied(value: str, constraint: str) -> BadRequest:
    message = f"1 validation error detected: Value {value} at 'entries' failed to satisfy constraint: {constraint}"
    return BadRequest("ValidationException", message)


def event_of(entry: Entry, event_id: str, now_ms: int, buses: Collection[str], home: Home) -> tuple[str, Event]:
    """The bus and the event, whose detail stays as it was written. Raises BadEntry."""
    for name, value in (("Source", entry.source), ("DetailType", entry.detail_type), ("Detail", entry.detail)):
        if not value:
            raise BadEntry("InvalidArgument", f"Parameter {name} is not valid. Reason: {name} is a required argument.")
    assert entry.source is not None
    assert entry.detail_type is not None
    assert entry.detail is not None
    if entry.source.lower().startswith("aws."):
        raise BadEntry("NotAuthorizedForSourceException", "Not authorized for the source.")
    try:
        _decode_detail(entry.detail)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadEntry("MalformedDetail", "Detail is malformed.") from error
    if entry.time is not None and not 0 <= entry.time <= _LAST_SECOND:
        raise BadEntry("InvalidArgument", "Parameter Time is not valid. Reason: Time is out of range.")
    bus = (entry.event_bus_name or DEFAULT_BUS).rpartition("event-bus/")[2]  # a name, or an ARN
    if bus not in buses:
        raise BadEntry("ResourceNotFoundException", f"Event bus {bus} does not exist.")
    event = envelope(
        event_id=event_id,
        detail_type=entry.detail_type,
        source=entry.source,
        time_ms=now_ms if entry.time is None else round(entry.time * 1000),
        resources=entry.resources,
        detail=msgspec.Raw(entry.detail.encode()),
        home=home,
    )
    return bus, event

"""The connector contract for sinks: where records of what happened go. What an author of a destination reads.

A destination is named by a URI in the function's declaration (`queue:name`, `https://…`, `file:path`); the scheme
is the entry point's name in `eventfn.destinations`. The host keeps records in a durable outbox and owns retry,
back-off and dead letters; a destination writes and says what became of each record.

PURE: no I/O here.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Protocol

import msgspec

from eventfn.clock import Clock
from eventfn.trigger import Queues

# Attributes of records and dead letters. The first two go with every one of them.
ORIGIN = "eventfn.origin"  # what it came from, and where a redrive sends it: "fn:<name>" or "queue:<name>"
# "record": Lambda's destination record around the event; "batch": its record of a stream's batch, with the event as
# "payload"; "event": the event itself
SHAPE = "eventfn.shape"
DESTINATION = "eventfn.destination"  # of a record that its destination did not take: a redrive sends it there again
REASON = "eventfn.reason"  # ... and why it did not


class OutgoingRecord(msgspec.Struct, frozen=True):
    """One record on its way out. `id` is the same on every try: a receiver that remembers ids sees it once."""

    id: str
    payload: bytes  # JSON: Lambda's destination record, or the original event for a dead letter queue
    attributes: dict[str, str] = {}  # dead letters: RequestID, ErrorCode, ErrorMessage; always ORIGIN
    attempt: int = 1


class Written(msgspec.Struct, frozen=True, tag=True):
    """It is there, durably, by the destination's own word."""


class RetryAfter(msgspec.Struct, frozen=True, tag=True):
    """Not now: again after so many seconds (None: the host's back-off)."""

    reason: str
    after: float | None = None


class Rejected(msgspec.Struct, frozen=True, tag=True):
    """Never: this record goes to the dead letters with the reason."""

    reason: str


Delivery = Written | RetryAfter | Rejected
WRITTEN = Written()


class DestinationContext(msgspec.Struct, frozen=True):
    folder: str  # the project's folder: relative paths start here
    clock: Clock
    log: logging.Logger
    queues: Queues
    submit: Callable[[str, bytes, str], Awaitable[str]]  # (function, payload, dedupe key) -> request id, once on disk
    functions: Callable[[], Sequence[str]]  # the names declared


def named_target(target: str) -> tuple[str | None, str]:
    """("eu", "orders") for "@eu/orders": what is meant is "orders" on the server that is called "eu", one of several of
    its kind. (None, "orders") for "orders"."""
    if not target.startswith("@"):
        return None, target
    name, _, place = target[1:].partition("/")
    return name, place


class Destination(Protocol):
    """One object per distinct URI. Methods are called one at a time."""

    Settings: ClassVar[type[msgspec.Struct]]  # keys of [destinations.SCHEME], shared by all URIs of the scheme
    idempotent: ClassVar[bool]  # writing a record twice leaves it there once

    @classmethod
    def check(cls, target: str, settings: Any) -> str | None:
        """What is wrong with the part of the URI after the scheme, or None. No I/O: `eventfn check` calls it."""
        ...

    def __init__(self, target: str, settings: Any, context: DestinationContext) -> None: ...

    async def connect(self) -> None:
        """Called before the first write, with back-off until it succeeds. Raises ConnectorError."""
        ...

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        """One answer per record, in order. Raises ConnectorError when nothing can be said about any of them."""
        ...

    async def close(self, deadline: float) -> None: ...

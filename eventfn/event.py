"""What travels: the records a source hands over, the invocation a function gets, the outcome it leaves, and the way
that an answer takes which is sent while it is made.

PURE: data and shapes only, no I/O, no clock, no asyncio. An event crosses the core as bytes: it is decoded by the
function, or by a filter that has to look inside, and by nobody else.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

# Lambda's limits (docs: quotas), in bytes.
MAX_SYNC_REQUEST = 6_291_456
MAX_SYNC_RESPONSE = 6_291_556
MAX_ASYNC_REQUEST = 1_048_576
MAX_STREAMED_RESPONSE = 209_715_200  # 200 MiB


class Position(msgspec.Struct, frozen=True):
    """A fact that the host keeps for a source, in the same transaction as the event it belongs to.

    A source that stores "I have announced this" here cannot lose an event between announcing and remembering, and
    cannot announce it twice. `value=None` forgets the key.
    """

    key: str
    value: bytes | None


class Record(msgspec.Struct, frozen=True):
    """One thing that a source handed over, in the JSON shape in which the function will see it."""

    id: str  # names it in batchItemFailures: messageId, sequenceNumber ...
    payload: bytes  # JSON of this one record
    group: str | None = None  # records of a group are handled in order
    arrived_ms: int = 0  # when the source got it, epoch ms
    receives: int = 1  # how often it was handed out, this time included
    token: Any = None  # the connector's own handle; the host never looks inside
    dedupe_key: str | None = None  # within the dedupe window an event with this key is accepted once
    position: Position | None = None  # kept together with the accepted event ("event" sources only)
    trace: str | None = None  # the trace header that it came with: how often functions have passed it on already


class Batch(msgspec.Struct, frozen=True):
    """What one read returned. It is settled exactly once, as a whole, with one settlement for each record."""

    records: tuple[Record, ...]
    token: Any = None  # the connector's own handle for the batch


Buffer = bytes | bytearray | memoryview  # a large text stays where it was received, instead of being copied


class Apart(msgspec.Struct, frozen=True):
    """What an HTTP event has of its own, beside a payload that is the same for all requests with the same head: an
    environment decodes that one once, and no body is quoted and unquoted on its way.

    The payload holds the places: "body" (only when there is one), and in "requestContext" the "requestId", "time" and
    "timeEpoch".
    """

    body: Buffer  # UTF-8 text
    time: str
    time_epoch: int  # ms


class Invocation(msgspec.Struct, frozen=True):
    """One request to a function, as it leaves the bus for an environment."""

    request_id: str
    function: str  # the pool's key: the name, or "name:3" for a published version
    payload: bytes  # the event, JSON
    invoked_arn: str
    client_context: str | None = None  # JSON text
    trace_id: str | None = None  # X-Amzn-Trace-Id
    apart: Apart | None = None

    @property
    def size(self) -> int:
        """Bytes of the event."""
        return len(self.payload) if self.apart is None else len(self.payload) + len(self.apart.body)


class OutcomeKind(enum.StrEnum):
    SUCCESS = "success"
    FUNCTION_ERROR = "function_error"  # the function's fault: it raised, timed out, exited, ran out of memory
    THROTTLED = "throttled"  # no capacity: nothing ran, the attempt does not count
    SYSTEM_ERROR = "system_error"  # ours: nothing ran, or nothing can be said about it; the attempt does not count


class Outcome(msgspec.Struct, frozen=True):
    """How an invocation ended, whatever happened. Failures are values here, never exceptions crossing layers.

    `payload` is the function's answer, or the error object {"errorMessage", "errorType", ...} of a function error.
    Where the invocation had an Apart, the text of an answer's "body" may stand in `body`, as UTF-8, and not in there.
    """

    kind: OutcomeKind
    payload: bytes
    request_id: str = ""
    error_type: str | None = None  # Sandbox.Timedout, Runtime.ExitError, ValueError ...
    error_message: str | None = None
    duration_ms: float = 0.0
    init_ms: float | None = None  # set on a cold start
    max_memory_mb: int = 0
    log_tail: bytes = b""  # the last 4 KB of this request's log, when it was asked for
    retry_after: int | None = None  # seconds, when throttled
    body: Buffer = b""
    executed_version: str = "$LATEST"  # Lambda's, as Bus.call knows it

    @property
    def ok(self) -> bool:
        return self.kind is OutcomeKind.SUCCESS


class ResponseStream(Protocol):
    """Whoever takes an answer while it is made: given with an invocation, called on the loop's thread, never blocking.

    What a function streams goes here, and the invocation's outcome comes last: with an empty payload after a stream
    that came to its end, a FUNCTION_ERROR with its error object where it broke half-way. A function that answers in
    one piece writes nothing here: its outcome has the payload, as always.
    """

    def begin(self, content_type: str | None) -> None:
        """Once, before the first chunk: the function streams. None: it did not say what."""
        ...

    def write(self, chunk: Buffer) -> None:
        """Takes it, also while `full`, when some is on its way already; drops it once `gone`."""
        ...

    @property
    def full(self) -> bool:
        """The function is held back while it is: what it has made is not taken."""
        ...

    @property
    def gone(self) -> bool:
        """Nobody takes the answer any more: the function may stop."""
        ...

    def on_room(self, resume: Callable[[], None]) -> None:
        """Given once, before `begin`. `resume` is called each time that `full` has ended, and when `gone` begins."""
        ...

"""The status document: what `GET /status` answers, `eventfn status` shows, and the gauges of the metrics are read from.

PURE: shapes only. Times are epoch milliseconds. The supervisor fills it in.
"""

from __future__ import annotations

import functools
import json
from typing import Any, Literal

import msgspec

from eventfn.units import without_secrets


class Address(msgspec.Struct, frozen=True):
    """Where a listener can be reached: ("admin", "127.0.0.1:41234")."""

    name: str
    address: str


class Wall(msgspec.Struct, frozen=True):
    """One line of the enforcement table. `meaning` says what it stops, or what is open while it is not enforced."""

    wall: str
    enforced: bool
    meaning: str


class Depth(msgspec.Struct, frozen=True):
    """Messages of one queue by state, and when the oldest of them was sent (None: it is empty)."""

    visible: int = 0
    in_flight: int = 0
    delayed: int = 0
    oldest_ms: int | None = None

    @property
    def total(self) -> int:
        return self.visible + self.in_flight + self.delayed


class Counts(msgspec.Struct, frozen=True):
    """Of one function since the node started. Every attempt of an asynchronous event is an invocation."""

    invocations: int = 0
    errors: int = 0
    system_errors: int = 0
    throttles: int = 0
    cold_starts: int = 0
    events_received: int = 0
    events_dropped: int = 0


class LastError(msgspec.Struct, frozen=True):
    request_id: str
    error_type: str
    message: str


class Environments(msgspec.Struct, frozen=True):
    """Of one function, now. `waiting` are requests without an environment yet."""

    total: int = 0
    idle: int = 0
    starting: int = 0
    in_flight: int = 0
    waiting: int = 0


class Records(msgspec.Struct, frozen=True):
    """What became of the records of one pulled source, since it was started."""

    read: int = 0
    filtered: int = 0
    done: int = 0  # the filtered ones included
    retried: int = 0
    rejected: int = 0


class HeldUp(msgspec.Struct, frozen=True):
    """Records of a shard that were given up, for which their destination has no ear yet: the shard waits. `reason` is
    what the destination said last, "" while it has said nothing."""

    shard: str
    records: int
    destination: str
    since_ms: int
    reason: str = ""


class SourceStatus(msgspec.Struct, frozen=True):
    """One trigger. `lag` is how many records its source says are waiting; None when it cannot say. `records` is None
    where callers wait (http): those are invocations."""

    type: str
    source: str
    settings: str = ""  # see `summary`
    # "standby": it is one that one node at a time reads, and another node does
    state: Literal["connecting", "running", "down", "standby", "disabled"] = "running"
    reason: str = ""  # what the source last failed with
    lag: int | None = None
    iterator_age_ms: int | None = None  # of a stream: the age of the first record that is not done; 0: all are
    last_result: str | None = None  # of a stream: Lambda's LastProcessingResult
    batches_in_flight: int = 0  # invocations that run
    held_up: list[HeldUp] = []  # of a stream: the batches that wait for their on-failure destination
    records: Records | None = None
    where: str = ""  # it was declared: "/srv/shop/eventfn.toml:12"; "API" for an event source mapping


class FunctionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One function with all of its versions. `state` is Lambda's: Pending, Active, Failed."""

    name: str
    origin: str = ""  # where it is declared, "eventfn.toml:3", or "API"
    state: str = "Active"
    versions: int = 0  # that are published
    aliases: list[str] = []
    arn: str
    handler: str
    runtime: str
    memory_size: int  # MB
    timeout: float  # seconds
    triggers: list[SourceStatus] = []
    counts: Counts = Counts()
    environments: Environments = Environments()
    events: Depth = Depth()  # asynchronous events waiting
    log_lines_dropped: int = 0
    last_error: LastError | None = None


class QueueStatus(msgspec.Struct, frozen=True):
    """A named queue. `dead_letter_for` names the functions and queues whose failures end in it."""

    name: str
    depth: Depth = Depth()
    fifo: bool = False
    dead_letter_for: list[str] = []


class OutboxStatus(msgspec.Struct, frozen=True):
    """Records that wait to be written to one destination."""

    destination: str
    depth: Depth = Depth()
    last_error: str | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    python: str
    pid: int
    started_ms: int
    now_ms: int
    folder: str
    data: str
    draining: bool = False
    addresses: list[Address] = []
    enforcement: list[Wall] = []
    functions: list[FunctionStatus] = []
    queues: list[QueueStatus] = []
    outbox: list[OutboxStatus] = []


@functools.cache
def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)  # it evaluates every annotation anew, and a node may have thousands of triggers


def summary(settings: msgspec.Struct) -> str:
    """The settings of a trigger that differ from their defaults, on one line: "method=GET path=/hello async=true"."""
    shown = [
        f"{field.encode_name}={_as_written(value)}"
        for field in _fields(type(settings))
        if (value := getattr(settings, field.name)) != _default(field)
    ]
    return " ".join(shown)


def _as_written(value: Any) -> str:
    """As it stands in eventfn.toml, but for the quotes around text, and for secrets in a URL."""
    if isinstance(value, str):
        return without_secrets(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default

"""The connector contract for sources: what an author of a trigger reads, and all that he needs.

A trigger does I/O and nothing else. The host owns the hard loop: reconnect, back-off, batching, windows, filters,
in-flight counts, lease extension, retries, drain. A trigger is found by its entry point in `eventfn.triggers`;
the entry point's name is the `type` in eventfn.toml.

PURE: no I/O here. A connector imports this module, `eventfn.event`, `eventfn.errors`, `eventfn.units`, `eventfn.clock`,
`eventfn.patterns`, `eventfn.schedules` and `eventfn.destination`, and nothing else of eventfn.

    connect() ──▶ read() ─▶ batch ─▶ (host: filter, batch, invoke) ─▶ settle(batch) ──▶ read() … ──▶ close()

A source that only knows "all up to here" (ack="prefix": Kafka, Kinesis) is a Stream: it hands over its shards, and each
shard is read by a reader of its own; the host keeps the order, and how far each shard is done.

    connect() ──▶ open_shard() ──▶ reader.read() … ──▶ (host: position, low-water mark) ──▶ reader.close() ──▶ close()
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import msgspec

from eventfn.clock import Clock
from eventfn.event import Apart, Batch, Outcome, Record, ResponseStream

# --- how a record ends ------------------------------------------------------------------------------------------------


class Done(msgspec.Struct, frozen=True, tag=True):
    """The record is finished: handled, filtered out, or safely kept elsewhere. The source may forget it."""


class Retry(msgspec.Struct, frozen=True, tag=True):
    """The record is to come again: after `after` seconds, or when the source's own rules say so (None)."""

    after: float | None = None


class Reject(msgspec.Struct, frozen=True, tag=True):
    """The record can never be handled and the host has nowhere to keep it: the source's own dead letters take it."""

    reason: str


Settlement = Done | Retry | Reject
DONE = Done()
RETRY = Retry()


# --- what a trigger declares about itself --------------------------------------------------------------------------


class Traits(msgspec.Struct, frozen=True):
    """Declared, not guessed. What a source lacks is emulated by the host or refused when the config loads.

    invocation  "request_response": the host invokes with a batch and settles each record by the outcome (queues,
                streams). "event": every record becomes one durable asynchronous invocation and is settled once that
                is on disk (files, schedules). "listen": a caller waits for each answer (http; see `Listener`).
    ack         "record": each record is settled by itself. "prefix": the source only knows "all up to here" (see
                `Stream`). "none": the source cannot redeliver.
    ordered     records of one group must be handled in order.
    replayable  what was read and not settled is there again after a reconnect.
    shared      several nodes may read it at once. If not, one node at a time does, by a lease.
    settles_at_once  several `settle` and `extend` may be under way at the same time, each for a batch of its own.
    starting_positions   of a Stream: those that an operator may choose.
    """

    invocation: Literal["request_response", "event", "listen"]
    ack: Literal["record", "prefix", "none"] = "record"
    ordered: bool = False
    replayable: bool = True
    shared: bool = True
    settles_at_once: bool = False
    alone: bool = False
    max_batch_size: int = 10_000
    default_batch_size: int = 10
    starting_positions: tuple[Literal["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"], ...] = (
        "TRIM_HORIZON",
        "LATEST",
        "AT_TIMESTAMP",
    )


# --- what the host gives a trigger ---------------------------------------------------------------------------------


class QueueMessage(msgspec.Struct, frozen=True):
    """A message for a named queue of the engine."""

    body: bytes
    attributes: dict[str, str] = {}
    delay: float | None = None  # seconds; None: the queue's own
    group: str | None = None  # FIFO queues: MessageGroupId
    dedupe_key: str | None = None  # FIFO queues: MessageDeduplicationId; elsewhere an idempotency key


class ReceivedMessage(msgspec.Struct, frozen=True):
    """A message that is ours until `invisible_until_ms`. The claim is fenced: once it has lapsed it settles nothing."""

    queue: str
    id: str
    body: bytes
    attributes: dict[str, str]
    claim: Any  # opaque: give the message back as it is
    receives: int
    sent_ms: int
    first_received_ms: int
    invisible_until_ms: int
    sequence: int  # grows with every message of the engine
    group: str | None = None
    dedupe_key: str | None = None


class QueueFacts(msgspec.Struct, frozen=True):
    """What [queues.NAME] says of a queue; times in seconds."""

    name: str
    fifo: bool
    visibility_timeout: float
    dead_letter_queue: str | None
    max_receive_count: int | None


class Queues(Protocol):
    """The durable named queues of the engine, with SQS's semantics."""

    def facts(self, queue: str) -> QueueFacts: ...

    async def send(self, queue: str, messages: Sequence[QueueMessage]) -> list[str]:
        """Message ids, in order, once all are on disk. Raises EngineFull, Throttled (the queue is at its limit)."""
        ...

    async def receive(self, queue: str, limit: int, visibility: float | None = None) -> list[ReceivedMessage]:
        """At once; [] when nothing is visible. Messages received too often go to the queue's dead letters instead."""
        ...

    async def wait(self, queue: str) -> None:
        """Returns when a message may be visible: something was sent, released, or its time came."""
        ...

    async def delete(self, messages: Sequence[ReceivedMessage]) -> list[bool]:
        """For each message whether it was still ours; a lapsed claim deletes nothing."""
        ...

    async def release(self, messages: Sequence[ReceivedMessage], after: float | None = None) -> list[bool]:
        """Visible again after so many seconds; None: when its visibility timeout ends, as SQS does."""
        ...

    async def extend(self, messages: Sequence[ReceivedMessage], seconds: float) -> list[bool]: ...

    async def depth(self, queue: str) -> int: ...


class Positions(Protocol):
    """What the host has kept for this source: written with records (Record.position), read back here."""

    async def get(self, key: str) -> bytes | None: ...

    async def scan(self, prefix: str = "") -> dict[str, bytes]: ...

    async def put(self, key: str, value: bytes | None) -> None:
        """For facts that belong to no event: a file that vanished and is not announced, a first start."""
        ...


class TriggerContext(msgspec.Struct, frozen=True):
    """Everything a trigger may use of its host."""

    function: str
    function_arn: str
    source: str  # stable name of this trigger across restarts; positions are kept under it
    folder: str  # the project's folder: relative paths in settings start here
    data: str  # the data folder: a source must not announce what is inside
    region: str
    account: str
    clock: Clock
    log: logging.Logger
    queues: Queues
    positions: Positions
    assignments: Assignments | None = None  # for a Stream whose server says who reads which shard


# --- the contract --------------------------------------------------------------------------------------------------


class Trigger(Protocol):
    """A pulled source. One object per declared trigger; the host calls its methods one at a time, except that `read`
    runs while earlier batches are still being handled and settled."""

    Settings: ClassVar[
        type[msgspec.Struct]
    ]  # the keys of its table in eventfn.toml; see eventfn.units for friendly values
    Shared: ClassVar[
        type[msgspec.Struct] | None
    ]  # the keys of the top-level table with its name ([http]), if it has one
    traits: ClassVar[Traits]

    def __init__(self, settings: Any, shared: Any, context: TriggerContext) -> None:
        """No I/O. `settings` is an instance of `Settings`, `shared` of `Shared` (None without one)."""
        ...

    async def connect(self) -> None:
        """Called until it succeeds, with back-off, and again after a read that raised ConnectorError.

        Raises ConnectorError when the outside is not there, Backoff(after) to say when to come back.
        """
        ...

    async def read(self, limit: int) -> Batch:
        """Waits until there is something and returns 1 to `limit` records. Pulling is the back-pressure: the host
        does not read while its hands are full. Safe to cancel: a cancelled read has taken nothing.

        Raises ConnectorError when the connection is gone; the host calls `connect` again.
        """
        ...

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        """Called exactly once for each batch that `read` returned, one settlement per record, in its order.

        Raises ConnectorError when the source could not be told; the records then come again by its own rules.
        """
        ...

    async def close(self, deadline: float) -> None:
        """After the drain, within `deadline` seconds; works after half a start too, and twice."""
        ...


# --- streams: sources that only know "all up to here" -----------------------------------------------------------------


class Start(msgspec.Struct, frozen=True):
    """Where a shard is read from when nothing of it was done yet: Lambda's StartingPosition."""

    position: Literal["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"]
    timestamp_ms: int | None = None  # of AT_TIMESTAMP; elsewhere None


class Shard(msgspec.Struct, frozen=True):
    """A part of a stream with an order of its own: Kafka's partition, Kinesis' shard."""

    id: str  # stable over restarts: "orders-3", "shardId-000000000000"
    parents: tuple[str, ...] = ()  # these are finished before this one is begun


class Assignments(Protocol):
    """How a Stream without `shards` tells the host what its server has given it: consumer groups."""

    def assign(self, shards: Sequence[Shard]) -> None:
        """These are ours too, from now on. The host opens each with `open_shard`, soon."""
        ...

    async def revoke(self, shards: Sequence[str], deadline: float) -> None:
        """These are to go to somebody else. Returns once the host reads them no more, functions have finished what they
        had of them or `deadline` seconds are over, what is done is committed, and their readers are closed. What
        comes to an end later is dropped: the next owner does it again."""
        ...

    def lost(self, shards: Sequence[str]) -> None:
        """These are somebody else's already: nothing of them is committed any more."""
        ...

    def failed(self, error: Exception) -> None:
        """This node is refused as a member, or cannot ask to be one: `status` says so until the next `assign`, also of
        nothing. What goes wrong with a shard its reader raises; this is for a node that has none. The stream goes on
        trying by itself."""
        ...


class ShardReader(Protocol):
    """One shard that is being read. Its methods are called one at a time, except that `commit` runs beside `read`."""

    async def read(self, limit: int) -> Batch:
        """Waits until there is something and returns 1 to `limit` records, in the shard's order, each read once. An
        empty batch says that the shard is closed and read to its end. Safe to cancel: a cancelled read has taken
        nothing. `Record.group` is the key whose order must be kept (Kinesis' partition key), if there is one.

        Raises ConnectorError when the connection is gone; the host connects again, and opens the shard again behind
        the last record that it got.
        """
        ...

    def position(self, record: Record) -> str:
        """Where to go on once this record and all before it are done: what `open_shard` is given. No I/O."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Commits(Protocol):
    """What the readers of a Stream without `shards` have: the source itself remembers how far its shards are done
    (Kafka). Elsewhere the host does, in the engine."""

    async def commit(self, position: str) -> None:
        """Everything before this position is done. Raises ConnectorError; it is called again with a later one."""
        ...


class Stream(Protocol):
    """A trigger with invocation="request_response" and ack="prefix": it has `open_shard`, not `read` and `settle`."""

    Settings: ClassVar[type[msgspec.Struct]]
    Shared: ClassVar[type[msgspec.Struct] | None]
    traits: ClassVar[Traits]

    def __init__(self, settings: Any, shared: Any, context: TriggerContext) -> None: ...

    async def connect(self) -> None:
        """As a Trigger's. A Stream without `shards` joins its group here, and reports to `context.assignments`. While
        it has no shard there is no reader to say that the connection is gone: then it joins again by itself."""
        ...

    async def open_shard(self, shard: Shard, at: str | Start) -> ShardReader:
        """`at` is a position of this shard, behind which it goes on, or where to start when the host has none. A reader
        that commits knows better than a Start: it starts from what was committed, if something was. A reader that
        starts at LATEST misses nothing that comes after this has returned. Raises ConnectorError."""
        ...

    async def close(self, deadline: float) -> None: ...


@runtime_checkable
class Lists(Protocol):
    """Optional power of a Stream: it can say which shards there are, and the host decides who reads which, by leases
    in the engine, so that nodes with one engine share them; parents come before their children (Kinesis)."""

    async def shards(self) -> Sequence[Shard]:
        """All that there are now, closed ones with unread records included. Asked again every few seconds."""
        ...


class BatchInfo(msgspec.Struct, frozen=True):
    """What the record for an on-failure destination says of a batch beside requestContext and responseContext."""

    key: str  # "KinesisBatchInfo"
    info: dict[str, Any]
    exhausted: str = "RetryAttemptsExhausted"  # the `condition` when there are no attempts left


@runtime_checkable
class Describes(Protocol):
    """Optional power of a Stream: Lambda's own words for a failed batch of it."""

    def describe(self, shard: str, records: Sequence[Record]) -> BatchInfo: ...


# --- optional powers --------------------------------------------------------------------------------------------------


@runtime_checkable
class Checks(Protocol):
    """Optional power: what is wrong between a trigger's table and the top-level table with its name, such as a server
    that is named and not declared."""

    @classmethod
    def check(cls, settings: Any, shared: Any) -> tuple[str, str] | None:
        """(key, message), or None. No I/O: `eventfn check` calls it, and a start."""
        ...


@runtime_checkable
class Extends(Protocol):
    """Optional power: the source gives records on a lease that can be made longer while a function runs. The host
    does so every third of it, for what is not settled yet."""

    @property
    def lease(self) -> float:
        """Seconds that records are ours after a read; asked for often, and right from the first `connect` on."""
        ...

    async def extend(self, batch: Batch, seconds: float) -> None: ...


@runtime_checkable
class Expects(Protocol):
    """Optional power: several requests are under way at the source at once, as an answer of its server takes long
    (SQS). One read is one batch; this is how many batches' worth the reads that follow soon will want too."""

    def expect(self, records: int) -> None:
        """Said before each read: so many records have a place now, those of this read included. Asked for beyond
        that they would only wait, on a lease. No I/O; it does not raise."""
        ...


@runtime_checkable
class Pending(Protocol):
    """Optional power: how far behind the source is, for metrics and `status`."""

    async def pending(self) -> int: ...


@runtime_checkable
class Encodes(Protocol):
    """Optional power: an event shape other than {"Records": [...]}."""

    def encode(self, records: Sequence[Record]) -> bytes: ...


@runtime_checkable
class Filterable(Protocol):
    """Optional power: what a filter pattern sees of a record. `data_key` is the key whose value is parsed as JSON
    where the pattern for it is an object: SQS's "body", Kafka's "value". `filtering` says the rest, where it differs
    from SQS's rules."""

    data_key: ClassVar[str]


class Filtering(msgspec.Struct, frozen=True):
    """What is special about a source's filters; `filtering: ClassVar[Filtering]` beside `data_key`.

    root         the key of the record that a pattern is about (Kinesis: "kinesis"); None: the record itself
    base64_keys  keys under the root whose text is base64 of what the pattern means (Kafka: "value", "key")
    mismatch     what a record is whose data is of another kind than the pattern for it, JSON or text: "drop" (SQS,
                 Kinesis) or "ignore": then only the pattern's other keys decide (Kafka, MQ)
    """

    root: str | None = None
    base64_keys: tuple[str, ...] = ()
    mismatch: Literal["drop", "ignore"] = "drop"


# --- sources where a caller waits ----------------------------------------------------------------------------------


class Caller(Protocol):
    """A function, as seen by a source whose callers wait. The hot path: no task, no await."""

    function: str
    function_arn: str

    def invoke(
        self,
        payload: bytes,
        request_id: str,
        done: Callable[[Outcome], None],
        apart: Apart | None = None,
        stream: ResponseStream | None = None,
    ) -> None:
        """`done` is called exactly once, later or at once, on the loop's thread; it must not raise. An HTTP event may
        be given in two parts: `payload` with the places, `apart` with what goes there. What the function streams goes
        to `stream`, before `done`; without one it is put together into one answer."""
        ...

    def submit(self, payload: bytes, request_id: str, dedupe_key: str | None = None) -> Awaitable[str]:
        """The request id, once the event is on disk: 202. With a `dedupe_key` seen before, the id of that event.

        Raises Throttled, EngineFull, PayloadTooLarge, ShuttingDown.
        """
        ...


class Mounted(msgspec.Struct, frozen=True):
    """One declared trigger of a listening connector: its settings and the function behind it."""

    settings: Any
    caller: Caller
    source: str


class Cors(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """What a function URL tells browsers of other origins, with the names of Lambda's API."""

    allow_credentials: bool = False
    allow_headers: tuple[str, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()  # "*": any
    expose_headers: tuple[str, ...] = ()
    max_age: int | None = None  # seconds


class UrlRequest(msgspec.Struct, frozen=True):
    """What is looked at to find out who asks, and whether he may. `path` and `query` are as they came, encoded."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    source_ip: str


class UrlCaller(msgspec.Struct, frozen=True):
    """Who has signed a request: requestContext.authorizer.iam of its event."""

    access_key: str
    account: str
    user_id: str
    arn: str


class Forbidden(Exception):
    """He may not. `message` is for him; None: in the words of function URLs."""

    def __init__(self, message: str | None = None) -> None:
        self.message = message
        super().__init__(message)


class FunctionUrl(msgspec.Struct, frozen=True):
    """An address of its own for a function: http://<id>.lambda-url.<region>.localhost:PORT/, any path and method."""

    id: str
    region: str
    caller: Caller
    admit: Callable[[UrlRequest], UrlCaller | None]  # None: he need not say who he is. Raises Forbidden
    streams: bool = False  # invoke mode RESPONSE_STREAM
    cors: Cors | None = None


@runtime_checkable
class AnswersUrls(Protocol):
    """Optional power of a Listener: it answers function URLs beside its own triggers."""

    def mount_urls(self, urls: Sequence[FunctionUrl]) -> None:
        """Replaces all of them at once, as `mount` does; before `open`, and whenever they change."""
        ...


class ListenContext(msgspec.Struct, frozen=True):
    folder: str
    region: str
    account: str
    clock: Clock
    log: logging.Logger
    queues: Queues | None = None  # None while a declaration is only checked
    deliver: Deliver | None = None


class Deliver(Protocol):
    async def __call__(self, uri: str, record_id: str, payload: bytes, attributes: dict[str, str]) -> None:
        """A record for a destination: in the durable outbox when this returns, delivered from there. The id is the
        same on every try. Raises EngineFull, EngineError."""
        ...


@runtime_checkable
class Listener(Protocol):
    """What a connector with invocation="listen" is: one object for all its triggers, since they share an address."""

    Settings: ClassVar[type[msgspec.Struct]]
    Shared: ClassVar[type[msgspec.Struct] | None]
    traits: ClassVar[Traits]

    def __init__(self, shared: Any, context: ListenContext) -> None: ...

    def check(self, mounted: Sequence[Any]) -> list[tuple[int, str, str]]:
        """Called by `eventfn check` with the settings of all triggers, before anything starts: (index, key, message)
        for what is wrong between them: two routes that clash, an open address without authentication. No I/O."""
        ...

    def mount(self, mounted: Sequence[Mounted]) -> None:
        """Replaces all routes at once; requests under way finish on the old ones. Before `open`, and on reload."""
        ...

    async def open(self) -> str | None:
        """Binds and serves; returns the address to show, with the real port, None when there is none to bind. Raises
        ConnectorError (address in use)."""
        ...

    async def drain(self, deadline: float) -> None:
        """Accepts nothing new, finishes what is under way within `deadline` seconds."""
        ...

    async def close(self) -> None: ...

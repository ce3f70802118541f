"""The engine port: the four small things that must survive a crash or be agreed on between nodes.

    queue       messages with a delay, a lease and a fencing number, in named queues
    key-value   small facts with compare-and-set: positions, the registry
    leases      one owner at a time, with an epoch
    blobs       code and layers by content hash

All writing is one verb: `commit` takes a list of operations and keeps all of them, durably, or none. A row of the
table in rules/lifecycle.py is one commit. Time is passed in (`now`, epoch milliseconds), so an engine has no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

import msgspec


# The collector need not look at what comes by the thousand and cannot be part of a circle: gc=False.
class Claim(msgspec.Struct, frozen=True, gc=False):
    """The right to settle one message. `fence` grows with every claim of it: an old claim settles nothing."""

    queue: str
    sequence: int
    fence: int


class Message(msgspec.Struct, frozen=True, gc=False):
    """A message as it was claimed or peeked at."""

    claim: Claim
    id: str
    body: bytes
    attributes: dict[str, str]
    attempts: int  # claims that count, this one included
    claims: int  # all claims, those of nodes that died and those handed back included
    sent_ms: int
    first_claimed_ms: int  # 0: never
    visible_ms: int
    group: str | None = None
    dedupe_key: str | None = None
    last_error: str | None = None

    @property
    def queue(self) -> str:
        return self.claim.queue

    @property
    def sequence(self) -> int:
        return self.claim.sequence


# --- operations of a commit ---------------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True):
    """A new message. With a `dedupe_key` seen in this queue within its window, the old message's id is the result
    and nothing is added, also when that message is long gone; or, where it is to be `only_new`, Conflict."""

    queue: str
    id: str
    body: bytes
    attributes: dict[str, str] = {}
    visible_ms: int = 0  # 0: at once
    group: str | None = None
    dedupe_key: str | None = None
    dedupe_until_ms: int = 0
    only_new: bool = False
    limit: int | None = None  # QueueFull when this many messages are in the queue already


class Complete(msgspec.Struct, frozen=True, gc=False):
    """The claimed message is finished and goes."""

    claim: Claim


class Release(msgspec.Struct, frozen=True):
    """The claimed message is handed back, visible at a time."""

    claim: Claim
    visible_ms: int
    count: bool = True  # False: the attempt did not count
    error: str | None = None


class Extend(msgspec.Struct, frozen=True):
    """The claim is held longer."""

    claim: Claim
    until_ms: int


class Move(msgspec.Struct, frozen=True):
    """A claimed message goes to the end of another queue with its id and body: redrive, dead letters. There it is new:
    its own sequence, sent now, no claims yet; its last error stays with it."""

    claim: Claim
    queue: str
    attributes: dict[str, str] = {}  # added to its own


class Put(msgspec.Struct, frozen=True):
    """A key-value pair; None forgets it."""

    key: str
    value: bytes | None


class Expect(msgspec.Struct, frozen=True):
    """Compare-and-set: the commit is refused (Conflict) unless the key holds this value (None: is absent)."""

    key: str
    value: bytes | None


Operation = Send | Complete | Release | Extend | Move | Put | Expect


class QueueFull(Exception):
    """A Send found its queue at the limit: nothing of the commit was kept."""

    def __init__(self, queue: str, limit: int) -> None:
        self.queue = queue
        self.limit = limit
        super().__init__(f"{queue} holds its limit of {limit} messages")


class Conflict(Exception):
    """An Expect did not hold, or a Send that was to be new was not: nothing of the commit was kept."""


class Lease(msgspec.Struct, frozen=True):
    """`epoch` grows with every change of owner: what carries an old epoch is late."""

    name: str
    owner: str
    epoch: int
    until_ms: int


class QueueStats(msgspec.Struct, frozen=True):
    queue: str
    visible: int
    in_flight: int  # claimed
    delayed: int
    oldest_ms: int | None  # when the oldest message was sent

    @property
    def total(self) -> int:
        return self.visible + self.in_flight + self.delayed


class Engine(Protocol):
    """Raises EngineFull (no space), EngineError (anything else of the disk or the server); nothing was kept then."""

    async def open(self, now: int) -> None:
        """Takes the data folder. Claims of a process that is gone are released (the embedded engine knows that it is
        alone). Raises DataFolderLocked, DataFolderUnusable."""
        ...

    async def close(self) -> None:
        """Waits for commits under way. Works after half a start, and twice."""
        ...

    async def commit(self, operations: Sequence[Operation], now: int) -> list[str | None]:
        """All or none, durable when it returns. The result holds a message id per Send, None for the others.

        Raises Fenced, QueueFull, Conflict, EngineFull, EngineError: then nothing was kept.
        """
        ...

    async def claim(
        self,
        queue: str,
        limit: int,
        until_ms: int,
        now: int,
        *,
        max_claims: int | None = None,
        dead_letters: str | None = None,
    ) -> list[Message]:
        """Up to `limit` visible messages, oldest first, ours until `until_ms`.

        Messages of a group come in order, several in one claim: a group with a message in flight or an earlier one
        delayed gives nothing. A message that was claimed `max_claims` times already moves to `dead_letters` in the same
        transaction; without `dead_letters` none moves. What a cancelled claim brought is handed back, not counted,
        before it raises.
        """
        ...

    async def next_visible(self, prefix: str) -> dict[str, int]:
        """For each non-empty queue whose name starts so: when its earliest unclaimed message is visible, epoch ms, or
        0 if it is (a claimed one counts with the end of its lease)."""
        ...

    def on_send(self, listener: Callable[[str], None]) -> None:
        """`listener(queue)` is called on the loop's thread after a commit by this node made a message visible there, or
        visible sooner than it was: it is time to claim, or to ask `next_visible` again."""
        ...

    async def peek(self, queue: str, limit: int, after: int = 0) -> list[Message]:
        """Messages in order of sequence, from the one after `after`; claims nothing: their claims settle nothing."""
        ...

    async def purge(self, queue: str) -> int:
        """Drops every message of the queue, claimed ones too. How many."""
        ...

    async def stats(self, prefix: str, now: int) -> list[QueueStats]: ...

    async def get(self, key: str) -> bytes | None: ...

    async def scan(self, prefix: str) -> dict[str, bytes]: ...

    async def acquire(self, name: str, owner: str, until_ms: int, now: int) -> Lease | None:
        """The lease, when it is free, lapsed or already ours (then the epoch stays); else None."""
        ...

    async def give_up(self, lease: Lease) -> None: ...

    async def put_blob(self, chunks: Iterable[bytes]) -> str:
        """SHA-256 in hex of the content, once it is on disk."""
        ...

    async def get_blob(self, digest: str) -> bytes | None: ...

    async def drop_blobs(self, keep: Collection[str]) -> int:
        """Forgets all but these; how many. For a start, before anything puts a blob that nothing names yet."""
        ...

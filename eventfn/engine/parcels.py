"""Parcels: messages that were sent together, kept in one row, for as long as nothing special happens to them.

Belongs here: what is sent with no delay and no group, is claimed once and completed, which is the life of nearly every
message. It costs a tenth of rows of its own. Does not: everything else. A message that is released, moved, or whose
claim lapses leaves its parcel and becomes a row (store.py) under the sequence that it has.

    sent ─▶ pending ─seal─▶ row of `parcel` + row of `content` ─claim, end─▶ marks and bits ─all gone─▶ both rows go

This process is alone with its data, so who holds a message until when is known in memory alone. What must survive is on
disk at every commit: which messages were claimed (always the first so many of a parcel) and which of those are gone.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from eventfn.engine.contract import Claim, Message

# `last` is the sequence of its last message: so no sequence is given twice, also when the parcel is gone.
# `fresh` counts the messages that were never claimed; `state` is NULL while that is all of them.
# The content stands apart: it is written once, while a parcel's row is written with every batch that is done.
SCHEMA = """
CREATE TABLE IF NOT EXISTS parcel (
    last INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    fresh INTEGER NOT NULL,
    sent_ms INTEGER NOT NULL,
    state BLOB
);
CREATE TABLE IF NOT EXISTS content (last INTEGER PRIMARY KEY, messages BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS parcel_queue ON parcel (queue);
"""

# A parcel is read, and held in memory, as a whole; a larger one would save little more.
_MOST_MESSAGES = 256
_MOST_BYTES = 256 * 1024
# Bytes of messages that were sent lately and are kept at hand until they are claimed, so that nobody reads them again.
_AT_HAND = 16 * 1024 * 1024
_READ_AHEAD = 64  # parcels read at once, or as many as make up the bytes of a large one

_FENCE = 1  # a message of a parcel is claimed once: whatever is claimed again is a row by then
NEVER = 1 << 62


class Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message as it stands in its parcel."""

    id: str
    body: bytes
    attributes: dict[str, str]
    sent_ms: int
    dedupe_key: str | None


class _State(msgspec.Struct, frozen=True, array_like=True):
    marks: list[tuple[int, int]]  # (the first so many are claimed, since when), for each claim
    gone: bytes  # a bit for each message


class Parcel:
    __slots__ = ("claimed", "first", "gone", "last", "marks", "messages", "queue", "size")

    def __init__(self, queue: str, last: int, messages: list[Kept], marks: list[tuple[int, int]], gone: int) -> None:
        self.queue = queue
        self.last = last
        self.first = last - len(messages) + 1
        self.messages = messages
        self.marks = marks
        self.claimed = marks[-1][0] if marks else 0
        self.gone = gone
        self.size = sum(len(message.body) for message in messages)

    @property
    def fresh(self) -> int:
        return len(self.messages) - self.claimed

    @property
    def empty(self) -> bool:
        return self.gone.bit_count() == len(self.messages)

    def left(self) -> Iterator[tuple[int, Kept, int]]:
        """(sequence, message, when it was claimed first: 0 for never) of those that are not gone."""
        marks = iter([*self.marks, (len(self.messages), 0)])
        upto, at = next(marks)
        for place, message in enumerate(self.messages):
            while place >= upto:
                upto, at = next(marks)
            if not self.gone >> place & 1:
                yield self.first + place, message, at

    def state(self) -> bytes:
        gone = self.gone.to_bytes(-(-len(self.messages) // 8), "little")
        return _encode(_State(self.marks, gone))


class Held(msgspec.Struct, gc=False):
    """A message in flight. `until_ms` is when its claim lapses."""

    parcel: Parcel
    place: int
    claimed_ms: int
    until_ms: int

    @property
    def message(self) -> Kept:
        return self.parcel.messages[self.place]

    @property
    def sequence(self) -> int:
        return self.parcel.first + self.place


class _Shelf:
    """What is known of one queue's parcels."""

    __slots__ = ("fresh", "held", "lapses_ms", "open", "open_fresh", "read_to")

    def __init__(self, fresh: int = 0) -> None:
        self.fresh = fresh  # messages that were never claimed, on disk ...
        self.open: deque[Parcel] = deque()  # ... and those parcels with such that are at hand, the oldest first
        self.open_fresh = 0
        self.read_to = 0  # the last parcel that is, or was, at hand
        self.held: dict[int, Held] = {}
        self.lapses_ms = NEVER  # no claim lapses before


class Parcels:
    """The parcels of all queues, on the writer's connection and in its transaction. What is changed in memory stands
    in `undo` as well, the last first, for a caller who is refused and for a transaction that fails."""

    def __init__(
        self, db: sqlite3.Connection, write: Callable[[str, Sequence[Any]], object], undo: list[tuple[Any, ...]]
    ) -> None:
        self._db = db
        self._write = write
        self._undo = undo
        self._shelves: dict[str, _Shelf] = {}
        self._pending: dict[str, list[Kept]] = {}
        self._touched: dict[int, Parcel] = {}
        self._emptied: set[str] = set()  # queues that may have no parcel any more
        self._at_hand = 0
        self._last = 0

    # --- the start ----------------------------------------------------------------------------------------------------

    def recover(self) -> Iterator[tuple[str, int, Kept, int]]:
        """(queue, sequence, message, claimed when) of each that was in flight: it leaves its parcel."""
        (self._last,) = self._db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence").fetchone()
        for parcel in _read(self._db, "WHERE state IS NOT NULL"):
            for sequence, message, at in list(parcel.left()):
                if at:
                    yield parcel.queue, sequence, message, at
            parcel.gone = (1 << parcel.claimed) - 1
            parcel.marks = [(parcel.claimed, 0)]
            self._touched[parcel.last] = parcel
        self._keep()
        for queue, fresh in self._db.execute("SELECT queue, sum(fresh) FROM parcel GROUP BY queue"):
            self._shelves[queue] = _Shelf(fresh)

    def next_sequence(self) -> int:
        self._last += 1
        return self._last

    # --- sending ------------------------------------------------------------------------------------------------------

    def add(self, queue: str, message: Kept) -> None:
        """On disk with the transaction, and not to be claimed before."""
        pending = self._pending.setdefault(queue, [])
        pending.append(message)
        self._undo.append((pending.pop,))

    def seal(self, queue: str) -> None:
        """Whatever is sent to the queue from here on comes behind what was added."""
        if pending := self._pending.pop(queue, None):
            self._undo.append((self._pending.__setitem__, queue, pending))
            begin = 0
            while begin < len(pending):
                end = _cut(pending, begin)
                self._insert(queue, pending[begin:end])
                begin = end

    def _insert(self, queue: str, messages: list[Kept]) -> None:
        self._last += len(messages)
        parcel = Parcel(queue, self._last, messages, [], 0)
        sent_ms = min(message.sent_ms for message in messages)
        self._write(
            "INSERT INTO parcel (last, queue, fresh, sent_ms) VALUES (?, ?, ?, ?)",
            (parcel.last, queue, len(messages), sent_ms),
        )
        self._write("INSERT INTO content (last, messages) VALUES (?, ?)", (parcel.last, _encode(messages)))
        shelf = self._shelves.get(queue)
        if shelf is None:
            shelf = self._shelves[queue] = _Shelf()
        if shelf.open_fresh == shelf.fresh and self._at_hand + parcel.size <= _AT_HAND:
            self._open(shelf, parcel)
        shelf.fresh += len(messages)
        self._undo.append((self._uninsert, shelf, parcel))

    def _uninsert(self, shelf: _Shelf, parcel: Parcel) -> None:
        shelf.fresh -= len(parcel.messages)
        for there in [each for each in shelf.open if each.last == parcel.last]:
            shelf.open.remove(there)
            shelf.open_fresh -= there.fresh
            self._at_hand -= there.size

    def _open(self, shelf: _Shelf, parcel: Parcel) -> None:
        shelf.open.append(parcel)
        shelf.open_fresh += parcel.fresh
        shelf.read_to = parcel.last
        self._at_hand += parcel.size

    # --- claiming -----------------------------------------------------------------------------------------------------

    def head(self, queue: str) -> int:
        """The sequence of the oldest message that was never claimed; NEVER: there is none."""
        shelf = self._shelves.get(queue)
        if shelf is None or not shelf.fresh:
            return NEVER
        if not shelf.open:
            size = 0
            behind = "WHERE queue = ? AND last > ? ORDER BY last LIMIT ?"
            for parcel in _read(self._db, behind, (queue, shelf.read_to, _READ_AHEAD)):
                self._open(shelf, parcel)
                if (size := size + parcel.size) >= _MOST_BYTES:
                    break
        return shelf.open[0].first + shelf.open[0].claimed

    def claim(self, queue: str, limit: int, below: int, until_ms: int, now: int) -> list[Message]:
        """Up to `limit` of the oldest, as far as their sequence is `below` that."""
        taken: list[Message] = []
        while len(taken) < limit and self.head(queue) < below:
            shelf = self._shelves[queue]
            parcel = shelf.open[0]
            begin = parcel.claimed
            end = min(len(parcel.messages), begin + limit - len(taken), below - parcel.first)
            parcel.claimed = end
            parcel.marks.append((end, now))
            if end == len(parcel.messages):
                shelf.open.popleft()
                self._at_hand -= parcel.size
            shelf.fresh -= end - begin
            shelf.open_fresh -= end - begin
            shelf.lapses_ms = min(shelf.lapses_ms, until_ms)
            self._touched[parcel.last] = parcel
            for place in range(begin, end):
                message, sequence = parcel.messages[place], parcel.first + place
                shelf.held[sequence] = Held(parcel, place, now, until_ms)
                taken.append(
                    Message(
                        Claim(queue, sequence, _FENCE),
                        message.id,
                        message.body,
                        message.attributes,
                        1,  # attempt ...
                        1,  # ... and claim
                        message.sent_ms,
                        now,
                        until_ms,
                        None,
                        message.dedupe_key,
                    )
                )
            self._undo.append((self._unclaim, shelf, parcel, begin))
        return taken

    def _unclaim(self, shelf: _Shelf, parcel: Parcel, begin: int) -> None:
        if not parcel.fresh:
            shelf.open.appendleft(parcel)
            self._at_hand += parcel.size
        for place in range(begin, parcel.claimed):
            del shelf.held[parcel.first + place]
        shelf.fresh += parcel.claimed - begin
        shelf.open_fresh += parcel.claimed - begin
        parcel.claimed = begin
        parcel.marks.pop()

    def lapsed(self, queue: str, now: int) -> list[Held]:
        """Those whose claim has lapsed: they leave their parcels."""
        shelf = self._shelves.get(queue)
        if shelf is None or shelf.lapses_ms > now:
            return []
        gone = [held for held in shelf.held.values() if held.until_ms <= now]
        for held in gone:
            self._end(shelf, held)
        shelf.lapses_ms = min((held.until_ms for held in shelf.held.values()), default=NEVER)
        return gone

    # --- settling -----------------------------------------------------------------------------------------------------

    def end(self, claim: Claim) -> Held | None:
        """The message leaves its parcel, if this is the claim that holds it there."""
        shelf = self._shelves.get(claim.queue)
        held = shelf.held.get(claim.sequence) if shelf is not None and claim.fence == _FENCE else None
        if shelf is not None and held is not None:
            self._end(shelf, held)
        return held

    def _end(self, shelf: _Shelf, held: Held) -> None:
        parcel = held.parcel
        del shelf.held[held.sequence]
        parcel.gone |= 1 << held.place
        self._touched[parcel.last] = parcel
        self._undo.append((self._unend, shelf, held))

    def _unend(self, shelf: _Shelf, held: Held) -> None:
        shelf.held[held.sequence] = held
        shelf.lapses_ms = min(shelf.lapses_ms, held.until_ms)
        held.parcel.gone &= ~(1 << held.place)

    def extend(self, claim: Claim, until_ms: int) -> bool:
        """Whether this is the claim that holds it."""
        shelf = self._shelves.get(claim.queue)
        held = shelf.held.get(claim.sequence) if shelf is not None and claim.fence == _FENCE else None
        if shelf is None or held is None:
            return False
        self._undo.append((setattr, held, "until_ms", held.until_ms))
        held.until_ms = until_ms
        shelf.lapses_ms = min(shelf.lapses_ms, until_ms)
        return True

    def purge(self, queue: str) -> int:
        """How many are gone."""
        shelf = self._shelves.pop(queue, None)
        if shelf is None:
            return 0
        self._at_hand -= sum(parcel.size for parcel in shelf.open)
        self._undo.append((self._unpurge, queue, shelf))
        self._write("DELETE FROM content WHERE last IN (SELECT last FROM parcel WHERE queue = ?)", (queue,))
        self._write("DELETE FROM parcel WHERE queue = ?", (queue,))
        return shelf.fresh + len(shelf.held)

    def _unpurge(self, queue: str, shelf: _Shelf) -> None:
        self._shelves[queue] = shelf
        self._at_hand += sum(parcel.size for parcel in shelf.open)

    # --- the transaction ----------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """All that changed goes to disk, with the commit that follows."""
        for queue in list(self._pending):
            self.seal(queue)
        self._keep()

    def _keep(self) -> None:
        touched, self._touched = self._touched, {}
        empty = [(parcel.last,) for parcel in touched.values() if parcel.empty]
        self._emptied |= {parcel.queue for parcel in touched.values() if parcel.empty}
        changed = [(parcel.fresh, parcel.state(), parcel.last) for parcel in touched.values() if not parcel.empty]
        # Each statement lets go of the interpreter, and waits for the loop to have it back.
        if changed:
            self._db.executemany("UPDATE parcel SET fresh = ?, state = ? WHERE last = ?", changed)
        if empty:
            self._db.executemany("DELETE FROM parcel WHERE last = ?", empty)
            self._db.executemany("DELETE FROM content WHERE last = ?", empty)

    def committed(self) -> None:
        """What was flushed is on disk."""
        for queue in self._emptied:
            shelf = self._shelves.get(queue)
            if shelf is not None and not shelf.fresh and not shelf.held:
                del self._shelves[queue]
        self._emptied.clear()

    def failed(self) -> None:
        """The transaction is undone, also in memory: what it was about to write is not written."""
        self._touched.clear()
        self._emptied.clear()

    # --- what is known ------------------------------------------------------------------------------------------------

    def count(self, queue: str) -> int:
        """Of all messages, those that this transaction adds included."""
        shelf = self._shelves.get(queue)
        kept = 0 if shelf is None else shelf.fresh + len(shelf.held)
        return kept + len(self._pending.get(queue, ()))

    def counts(self, prefix: str, now: int) -> dict[str, tuple[int, int]]:
        """For each queue: how many messages were there at the last commit, and how many of them are in flight."""
        return {
            queue: (shelf.fresh + len(shelf.held), sum(held.until_ms > now for held in shelf.held.values()))
            for queue, shelf in self._shelves.items()
            if queue.startswith(prefix) and (shelf.fresh or shelf.held)
        }

    def held_until(self, queue: str, sequence: int) -> int | None:
        """When the claim of a message lapses. Also for other threads: one look-up, which none of ours can disturb."""
        shelf = self._shelves.get(queue)
        held = None if shelf is None else shelf.held.get(sequence)
        return None if held is None else held.until_ms

    def next_visible(self, prefix: str) -> dict[str, int]:
        """For each queue with messages in parcels: 0, or when the first claim of them lapses."""
        return {
            queue: 0 if shelf.fresh else min(held.until_ms for held in shelf.held.values())
            for queue, shelf in self._shelves.items()
            if queue.startswith(prefix) and (shelf.fresh or shelf.held)
        }


def peek(db: sqlite3.Connection, queue: str, limit: int, after: int) -> list[tuple[int, Kept, int]]:
    """Up to `limit` (sequence, message, claimed when) behind a sequence, in order. On a reader's connection."""
    found: list[tuple[int, Kept, int]] = []
    for parcel in _read(db, "WHERE queue = ? AND last > ? ORDER BY last", (queue, after)):
        found += [entry for entry in parcel.left() if entry[0] > after]
        if len(found) >= limit:
            break
    return found[:limit]


def oldest(db: sqlite3.Connection, queue: str) -> int | None:
    """When the oldest parcel was sent, which is the time of its oldest message to within one transaction."""
    row = db.execute("SELECT sent_ms FROM parcel WHERE queue = ? ORDER BY last LIMIT 1", (queue,)).fetchone()
    return None if row is None else int(row[0])


def _read(db: sqlite3.Connection, which: str, parameters: Sequence[Any] = ()) -> Iterator[Parcel]:
    rows = db.execute(f"SELECT queue, last, messages, state FROM parcel JOIN content USING (last) {which}", parameters)  # noqa: S608 - constants
    for queue, last, messages, packed in rows:
        state = _State([], b"") if packed is None else _decode_state(packed)
        yield Parcel(queue, last, _decode(messages), state.marks, int.from_bytes(state.gone, "little"))


def _cut(messages: Sequence[Kept], begin: int) -> int:
    """Where the parcel ends that begins there: it has one message at least."""
    size = 0
    for end in range(begin, min(len(messages), begin + _MOST_MESSAGES)):
        size += len(messages[end].body)
        if size > _MOST_BYTES and end > begin:
            return end
    return min(len(messages), begin + _MOST_MESSAGES)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Kept]).decode
_decode_state = msgspec.msgpack.Decoder(_State).decode

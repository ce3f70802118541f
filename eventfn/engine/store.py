"""All writing: the operations of a commit, and claiming. Plain blocking calls.

Does not belong here: threads, futures, grouping of commits (sqlite.py), reading (view.py), the file (database.py).

One index serves claiming, waiting and counting, by the one column that says when a message has its turn:

    0       now: it is claimed in order of sequence
    t > 0   at t: it is delayed, or claimed until t, or the head of a group that is busy until t
    NULL    not before the one ahead of it in its group is gone

Of a group only the head - its lowest sequence - ever has a turn, so a claim never looks at those behind it.

Messages without a group and a delay start in parcels (parcels.py), and become rows here when they are claimed again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from eventfn.engine.contract import (
    Claim,
    Complete,
    Conflict,
    Expect,
    Extend,
    Lease,
    Message,
    Move,
    Operation,
    Put,
    QueueFull,
    Release,
    Send,
)
from eventfn.engine.parcels import NEVER, Kept, Parcels
from eventfn.engine.rows import COLUMNS, MESSAGES, claimed_message, pack_attributes, unpack_attributes
from eventfn.errors import Fenced


class Store:
    """All writing. One transaction (`begin` ... `commit` or `rollback`) carries the work of many callers: what refuses
    one of them - Fenced, QueueFull, Conflict - takes back his part alone."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._run = db.execute
        self._rows: dict[str, int] = {}  # queue -> how many messages of it are rows
        self._touched: list[str] = []  # queues in which a message may be visible sooner by this transaction
        # What it changed in memory, and how that is taken back: (function, arguments ...).
        self._undo: list[tuple[Any, ...]] = []
        self._parcels = Parcels(db, self._write, self._undo)
        self._several = False  # the caller has more than one operation ...
        self._saved = False  # ... and has written before

    # --- the transaction ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self._run("BEGIN IMMEDIATE")

    def commit(self) -> set[str]:
        """The queues in which a message may be visible, or visible sooner, since."""
        self._parcels.flush()
        self._run("COMMIT")
        self._parcels.committed()
        self._undo.clear()
        touched, self._touched = set(self._touched), []
        return touched

    def rollback(self) -> None:
        self._several = self._saved = False
        self._take_back(0)
        self._parcels.failed()
        self._touched.clear()
        if self._db.in_transaction:  # SQLite itself has rolled back already when the disk is full
            self._run("ROLLBACK")

    def _write(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Every write but those that the end of a transaction makes for all: a caller who may still be refused takes
        back what he wrote. Most write nothing before that end, and need no savepoint."""
        if self._several and not self._saved:
            self._run("SAVEPOINT caller")
            self._saved = True
        return self._run(statement, parameters)

    def _count(self, queue: str, change: int) -> None:
        """So many more rows of the queue, or fewer."""
        self._undo.append((self._add, queue, -change))
        self._add(queue, change)

    def _add(self, queue: str, change: int) -> None:
        self._rows[queue] = self._rows.get(queue, 0) + change
        if not self._rows[queue]:
            del self._rows[queue]

    def _take_back(self, mark: int) -> None:
        while len(self._undo) > mark:
            function, *arguments = self._undo.pop()
            function(*arguments)

    # --- the work of a caller -----------------------------------------------------------------------------------------

    def recover(self, now: int) -> None:
        """Whoever held claims or leases is gone: what was in flight is visible now."""
        held = self._run("SELECT sequence, queue, grp FROM message WHERE fence > 0").fetchall()
        for sequence, _, _ in held:
            self._run(
                "UPDATE message SET fence = 0, visible_ms = ?, turn_ms = iif(turn_ms IS NULL, NULL, 0) "
                "WHERE sequence = ?",
                (now, sequence),
            )
        for queue, group in {(queue, group) for _, queue, group in held if group is not None}:
            self._advance(queue, group, now)
        for queue, sequence, message, claimed_ms in self._parcels.recover():
            self._unpack(queue, sequence, message, claimed_ms, now, now)
        self._run("UPDATE lease SET owner = NULL")
        self._rows = dict(self._run("SELECT queue, count(*) FROM message GROUP BY queue").fetchall())

    def apply(self, operations: Sequence[Operation], now: int) -> list[str | None]:
        if len(operations) == 1:  # every operation checks before it writes: alone, it has nothing to take back
            return [self._apply(operations[0], now)]
        mark, touched = len(self._undo), len(self._touched)
        self._several = True
        try:
            result = [self._apply(operation, now) for operation in operations]
        except (Fenced, QueueFull, Conflict):
            if self._saved:
                self._run("ROLLBACK TO caller")
            self._take_back(mark)
            del self._touched[touched:]
            self._let_go()
            raise
        self._let_go()
        return result

    def _let_go(self) -> None:
        if self._saved:
            self._run("RELEASE caller")
        self._several = self._saved = False

    def _apply(self, operation: Operation, now: int) -> str | None:
        match operation:
            case Complete():  # first, since of most commits there are hundreds
                self._complete(operation.claim, now)
            case Send():
                return self._send(operation, now)
            case Release():
                self._release(operation, now)
            case Extend():
                self._extend(operation, now)
            case Move():
                self._move(operation, now)
            case Put():
                self._put(operation)
            case Expect():
                self._expect(operation)
        return None

    def _send(self, send: Send, now: int) -> str:
        if send.dedupe_key is not None:
            known = self._run(
                "SELECT id FROM dedupe WHERE queue = ? AND key = ? AND until_ms > ?",
                (send.queue, send.dedupe_key, now),
            ).fetchone()
            if known is not None and send.only_new:
                raise Conflict(f"{send.dedupe_key} was sent to {send.queue} before")
            if known is not None:
                return str(known[0])
        if send.limit is not None and self._rows.get(send.queue, 0) + self._parcels.count(send.queue) >= send.limit:
            raise QueueFull(send.queue, send.limit)
        if send.dedupe_key is not None and send.dedupe_until_ms > now:
            # Two that have lapsed go for each that comes: the table stays as small as its windows.
            self._write(
                "DELETE FROM dedupe WHERE rowid IN (SELECT rowid FROM dedupe WHERE until_ms <= ? LIMIT 2)", (now,)
            )
            self._write(
                "INSERT OR REPLACE INTO dedupe (queue, key, id, until_ms) VALUES (?, ?, ?, ?)",
                (send.queue, send.dedupe_key, send.id, send.dedupe_until_ms),
            )
        if send.group is None and send.visible_ms <= now:
            self._parcels.add(send.queue, Kept(send.id, send.body, send.attributes, now, send.dedupe_key))
            self._touched.append(send.queue)
        else:
            visible = send.visible_ms or now
            packed = pack_attributes(send.attributes)
            self._insert(send.queue, visible, now, send.group, send.body, send.id, send.dedupe_key, None, packed)
        return send.id

    def _insert(self, queue: str, visible: int, now: int, group: str | None, body: bytes, *rest: Any) -> None:
        """A row at the end of its queue."""
        self._parcels.seal(queue)
        turn: int | None = visible if visible > now else 0
        if (
            group is not None
            and self._run("SELECT 1 FROM message WHERE queue = ? AND grp = ? LIMIT 1", (queue, group)).fetchone()
        ):
            turn = None
        sequence = self._parcels.next_sequence()
        self._write(
            "INSERT INTO message (sequence, queue, turn_ms, visible_ms, sent_ms, grp, id, dedupe_key, last_error,"
            " attributes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (sequence, queue, turn, visible, now, group, *rest),
        )
        self._write("INSERT INTO body (sequence, content) VALUES (?, ?)", (sequence, body))
        self._count(queue, 1)
        self._touched.append(queue)

    def _unpack(
        self,
        queue: str,
        sequence: int,
        message: Kept,
        claimed_ms: int,
        visible: int,
        now: int,
        *,
        fence: int = 0,
        attempts: int = 1,
        error: str | None = None,
    ) -> None:
        """A message that has left its parcel becomes a row at the place where it is."""
        self._write(
            "INSERT INTO message (sequence, queue, turn_ms, visible_ms, fence, claims, attempts, sent_ms,"
            " first_claimed_ms, id, dedupe_key, last_error, attributes) VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(sequence, queue, visible if visible > now else 0, visible, fence, attempts),
                *(
                    message.sent_ms,
                    claimed_ms,
                    message.id,
                    message.dedupe_key,
                    error,
                    pack_attributes(message.attributes),
                ),
            ),
        )
        self._write("INSERT INTO body (sequence, content) VALUES (?, ?)", (sequence, message.body))
        self._count(queue, 1)
        self._touched.append(queue)

    def _complete(self, claim: Claim, now: int) -> None:
        if self._parcels.end(claim) is not None:
            return
        gone = self._write(
            "DELETE FROM message WHERE sequence = ? AND queue = ? AND fence = ? AND fence > 0 AND grp IS NULL",
            (claim.sequence, claim.queue, claim.fence),
        )
        if not gone.rowcount:
            group = self._held(claim)
            self._write("DELETE FROM message WHERE sequence = ?", (claim.sequence,))
            self._advance(claim.queue, group, now)
        self._count(claim.queue, -1)

    def _held(self, claim: Claim) -> str | None:
        """The row's group, when the claim still holds it."""
        row = self._run(
            "SELECT grp FROM message WHERE sequence = ? AND queue = ? AND fence = ? AND fence > 0",
            (claim.sequence, claim.queue, claim.fence),
        ).fetchone()
        if row is None:
            raise Fenced(f"message {claim.sequence} of {claim.queue} was claimed by another, settled or purged since")
        group: str | None = row[0]
        return group

    def _release(self, release: Release, now: int) -> None:
        visible = release.visible_ms or now
        if (held := self._parcels.end(release.claim)) is not None:
            self._unpack(
                *(release.claim.queue, held.sequence, held.message, held.claimed_ms, visible, now),
                attempts=1 if release.count else 0,
                error=release.error,
            )
            return
        group = self._held(release.claim)
        self._write(
            "UPDATE message SET fence = 0, visible_ms = ?, attempts = attempts - ?, "
            "last_error = coalesce(?, last_error) WHERE sequence = ?",
            (visible, 0 if release.count else 1, release.error, release.claim.sequence),
        )
        self._turn(release.claim, group, visible, now)

    def _extend(self, extend: Extend, now: int) -> None:
        if self._parcels.extend(extend.claim, extend.until_ms):
            self._touched.append(extend.claim.queue)
            return
        group = self._held(extend.claim)
        self._write("UPDATE message SET visible_ms = ? WHERE sequence = ?", (extend.until_ms, extend.claim.sequence))
        self._turn(extend.claim, group, extend.until_ms, now)

    def _turn(self, claim: Claim, group: str | None, visible: int, now: int) -> None:
        if group is None:
            turn = visible if visible > now else 0
            self._write("UPDATE message SET turn_ms = ? WHERE sequence = ?", (turn, claim.sequence))
            self._touched.append(claim.queue)
        else:
            self._advance(claim.queue, group, now)

    def _advance(self, queue: str, group: str | None, now: int) -> None:
        """Gives the head of the group its turn: when it is visible and none of the group is in flight."""
        if group is None:
            return
        head = self._run(
            "SELECT sequence, visible_ms FROM message WHERE queue = ? AND grp = ? ORDER BY sequence LIMIT 1",
            (queue, group),
        ).fetchone()
        if head is None:
            return
        sequence, visible = head
        (busy,) = self._run(
            "SELECT coalesce(max(visible_ms), 0) FROM message WHERE queue = ? AND grp = ? AND fence > 0",
            (queue, group),
        ).fetchone()
        turn = max(visible, busy)
        self._write("UPDATE message SET turn_ms = ? WHERE sequence = ?", (turn if turn > now else 0, sequence))
        self._touched.append(queue)

    def _move(self, move: Move, now: int) -> None:
        if (held := self._parcels.end(move.claim)) is not None:
            message, packed = held.message, pack_attributes(held.message.attributes | move.attributes)
            self._insert(
                *(move.queue, now, now, None, message.body, message.id, message.dedupe_key, None, packed),
            )
            return
        self._held(move.claim)
        self._bury(move.claim.sequence, move.queue, move.attributes, now)

    def _bury(self, sequence: int, target: str, added: dict[str, str], now: int) -> None:
        """To the end of another queue as a new message: its own sequence, no attempts, sent now."""
        queue, group, identity, key, error, packed, body = self._run(
            "SELECT queue, grp, id, dedupe_key, last_error, attributes, content "
            "FROM message JOIN body USING (sequence) WHERE sequence = ?",
            (sequence,),
        ).fetchone()
        self._write("DELETE FROM message WHERE sequence = ?", (sequence,))
        self._count(queue, -1)
        self._advance(queue, group, now)
        if added:
            packed = pack_attributes(unpack_attributes(packed) | added)
        self._insert(target, now, now, group, body, identity, key, error, packed)

    def _put(self, put: Put) -> None:
        if put.value is None:
            self._write("DELETE FROM fact WHERE key = ?", (put.key,))
        else:
            self._write("INSERT OR REPLACE INTO fact (key, value) VALUES (?, ?)", (put.key, put.value))

    def _expect(self, expect: Expect) -> None:
        row = self._run("SELECT value FROM fact WHERE key = ?", (expect.key,)).fetchone()
        if (None if row is None else row[0]) != expect.value:
            raise Conflict(f"{expect.key} has changed")

    def claim(
        self, queue: str, limit: int, until_ms: int, now: int, max_claims: int | None, dead_letters: str | None
    ) -> list[Message]:
        for held in self._parcels.lapsed(queue, now):
            self._unpack(queue, held.sequence, held.message, held.claimed_ms, held.until_ms, now, fence=1)
        if queue not in self._rows:
            return self._parcels.claim(queue, limit, NEVER, until_ms, now)
        self._run("UPDATE message SET turn_ms = 0 WHERE queue = ? AND turn_ms > 0 AND turn_ms <= ?", (queue, now))
        taken: list[Message] = []
        while (room := limit - len(taken)) > 0:
            # By turns: the rows that are older than the oldest in a parcel, and the other way round.
            head = self._parcels.head(queue)
            taken += self._claim_rows(queue, room, head, until_ms, now, max_claims, dead_letters)
            if head == NEVER or len(taken) == limit:
                break
            (oldest,) = self._run(
                "SELECT coalesce(min(sequence), ?) FROM message WHERE queue = ? AND turn_ms = 0", (NEVER, queue)
            ).fetchone()
            taken += self._parcels.claim(queue, limit - len(taken), oldest, until_ms, now)
        taken.sort(key=_sequence)
        return taken

    def _claim_rows(
        self,
        queue: str,
        limit: int,
        below: int,
        until_ms: int,
        now: int,
        max_claims: int | None,
        dead_letters: str | None,
    ) -> list[Message]:
        most = max_claims if max_claims is not None and dead_letters is not None else None
        taken: list[Any] = []
        while len(taken) < limit:
            heads = self._run(
                f"SELECT {COLUMNS} FROM {MESSAGES} "  # noqa: S608 - constants
                "WHERE queue = ? AND turn_ms = 0 AND sequence < ? ORDER BY sequence LIMIT ?",
                (queue, below, limit - len(taken)),
            ).fetchall()
            worn_out = [row for row in heads if _worn_out(row, most)]
            rows = [row for row in heads if not _worn_out(row, most)]
            for row in [row for row in rows if row[9] is not None]:
                rows += self._followers(queue, row, limit - len(taken) - len(rows), now, most)
            # Those behind a head stay without a turn; the head's own turn is the end of the lease.
            self._db.executemany(
                "UPDATE message SET turn_ms = iif(turn_ms IS NULL, NULL, ?), visible_ms = ?, claims = claims + 1, "
                "fence = claims + 1, attempts = attempts + 1, first_claimed_ms = iif(claims = 0, ?, first_claimed_ms) "
                "WHERE sequence = ?",
                [(until_ms, until_ms, now, row[0]) for row in rows],
            )
            taken += rows
            for row in worn_out:
                self._bury(row[0], str(dead_letters), {}, now)
            if not worn_out:
                break
        return [claimed_message(queue, row, until_ms, now) for row in taken]

    def _followers(self, queue: str, head: Any, room: int, now: int, most: int | None) -> list[Any]:
        """What may be claimed together with the head of a group: those behind it, as far as they are visible."""
        rows = self._run(
            f"SELECT {COLUMNS} FROM {MESSAGES} "  # noqa: S608 - constants
            "WHERE queue = ? AND grp = ? AND sequence > ? ORDER BY sequence LIMIT ?",
            (queue, head[9], head[0], max(room, 0)),
        ).fetchall()
        for n, row in enumerate(rows):
            if row[8] > now or _worn_out(row, most):
                return rows[:n]
        return rows

    def purge(self, queue: str) -> int:
        rows = self._run("DELETE FROM message WHERE queue = ?", (queue,)).rowcount
        self._count(queue, -rows)
        return rows + self._parcels.purge(queue)

    # --- what is known in memory --------------------------------------------------------------------------------------

    def next_visible(self, prefix: str) -> tuple[dict[str, int], bool]:
        """Of parcels, and whether there are rows to be looked at besides."""
        return self._parcels.next_visible(prefix), any(queue.startswith(prefix) for queue in self._rows)

    def counts(self, prefix: str, now: int) -> dict[str, tuple[int, int]]:
        return self._parcels.counts(prefix, now)

    def held_until(self, queue: str, sequence: int) -> int | None:
        return self._parcels.held_until(queue, sequence)

    def acquire(self, name: str, owner: str, until_ms: int, now: int) -> Lease | None:
        row = self._run("SELECT owner, epoch, until_ms FROM lease WHERE name = ?", (name,)).fetchone()
        holder, epoch, lapses = row if row is not None else (None, 0, 0)
        if holder != owner:
            if holder is not None and lapses > now:
                return None
            epoch += 1
        self._run(
            "INSERT OR REPLACE INTO lease (name, owner, epoch, until_ms) VALUES (?, ?, ?, ?)",
            (name, owner, epoch, until_ms),
        )
        return Lease(name, owner, epoch, until_ms)

    def give_up(self, lease: Lease) -> None:
        self._run(
            "UPDATE lease SET owner = NULL WHERE name = ? AND owner = ? AND epoch = ?",
            (lease.name, lease.owner, lease.epoch),
        )


def _sequence(message: Message) -> int:
    return message.claim.sequence


def _worn_out(row: Any, most: int | None) -> bool:
    return most is not None and row[5] >= most

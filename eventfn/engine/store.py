"""What SQLite keeps and how: the schema, the operations of a commit, claiming, and the reads. Plain blocking calls.

Belongs here: every SQL statement. Does not: threads, futures, grouping of commits (sqlite.py), the folder (folder.py).

One index serves claiming, waiting and counting, by the one column that says when a message has its turn:

    0       now: it is claimed in order of sequence
    t > 0   at t: it is delayed, or claimed until t, or the head of a group that is busy until t
    NULL    not before the one ahead of it in its group is gone

Of a group only the head - its lowest sequence - ever has a turn, so a claim never looks at those behind it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

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
    QueueStats,
    Release,
    Send,
)
from eventfn.errors import Fenced

# AUTOINCREMENT: a sequence is never given twice, or a late claim of a message that is gone would settle a new one.
# `fence` is `claims` as it was when the message was claimed, and 0 while nobody holds it.
# Bodies stand apart: SQLite rewrites a whole row, so a claim of a 1 MB event would write 1 MB, and fail on a full disk.
_SCHEMA = """
CREATE TABLE message (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    turn_ms INTEGER,
    visible_ms INTEGER NOT NULL,
    fence INTEGER NOT NULL DEFAULT 0,
    claims INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    sent_ms INTEGER NOT NULL,
    first_claimed_ms INTEGER NOT NULL DEFAULT 0,
    grp TEXT,
    id TEXT NOT NULL,
    dedupe_key TEXT,
    last_error TEXT,
    attributes BLOB
);
CREATE TABLE body (sequence INTEGER PRIMARY KEY, content BLOB NOT NULL);
CREATE TRIGGER body_goes AFTER DELETE ON message BEGIN DELETE FROM body WHERE sequence = old.sequence; END;
CREATE INDEX message_turn ON message (queue, turn_ms);
CREATE INDEX message_group ON message (queue, grp) WHERE grp IS NOT NULL;
CREATE INDEX message_busy ON message (queue, grp, visible_ms) WHERE grp IS NOT NULL AND fence > 0;

CREATE TABLE dedupe (queue TEXT, key TEXT, id TEXT NOT NULL, until_ms INTEGER NOT NULL, PRIMARY KEY (queue, key));
CREATE INDEX dedupe_until ON dedupe (until_ms);
CREATE TABLE fact (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE lease (name TEXT PRIMARY KEY, owner TEXT, epoch INTEGER NOT NULL, until_ms INTEGER NOT NULL) WITHOUT ROWID;
"""

_MESSAGE = (
    "sequence, id, content, attributes, attempts, claims, sent_ms, first_claimed_ms, visible_ms, grp, dedupe_key, "
    "last_error"
)
_MESSAGES = "message JOIN body USING (sequence)"
_LAST_CHARACTER = "\U0010ffff"  # prefix + this is above everything that starts with prefix

# Pages (4 KB) in the write-ahead log before they are brought home: 16 MB, so a burst pays for few checkpoints.
_CHECKPOINT_PAGES = 4096
_CACHE_KB = 32 * 1024


def create(path: Path) -> None:
    """An empty database; an unfinished one at the same place is begun afresh."""
    path.unlink(missing_ok=True)
    path.touch(0o600)  # its log and index get the same mode: the folder may be wider, when it was there before us
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.executescript(f"PRAGMA synchronous=EXTRA; BEGIN; {_SCHEMA} COMMIT;")
    finally:
        db.close()


def inspect(path: Path) -> str | None:
    """What is wrong with a database; None: nothing. Leaves every byte in place, also after a crash.

    An ordinary connection would bring the write-ahead log home, or at least rebuild its shared index. This one cannot
    write the database and keeps the index in its own memory, which takes a VFS without locks (the folder's lock proves
    that we are alone) and an exclusive mode. Without a log the file alone is the truth.
    """
    log = path.with_name(f"{path.name}-wal")
    mode = "mode=ro&vfs=unix-none" if log.exists() and log.stat().st_size else "immutable=1"
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None)
        try:
            db.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
            (answer,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                return str(answer)
            db.execute(f"SELECT {_MESSAGE} FROM {_MESSAGES} LIMIT 1").fetchone()  # noqa: S608 - a constant
        finally:
            db.close()
    except sqlite3.DatabaseError as error:
        return str(error)
    return None


def connect(path: Path) -> sqlite3.Connection:
    """A connection that any one thread at a time may use."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")  # an acknowledged commit survives a power cut
    # Some builds of SQLite overwrite what is deleted: every event would be written twice, and a full disk not emptied.
    db.execute("PRAGMA secure_delete=OFF").fetchall()
    db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    db.execute(f"PRAGMA cache_size=-{_CACHE_KB}")
    return db


class Store:
    """All writing. One transaction (`begin` ... `commit` or `rollback`) carries the work of many callers: what refuses
    one of them - Fenced, QueueFull, Conflict - takes back his part alone."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._run = db.execute
        totals = db.execute("SELECT queue, count(*) FROM message GROUP BY queue")
        self._totals: dict[str, int] = dict(totals.fetchall())
        # What this transaction did to the queues: (queue, change of its total), 0 when a message may be visible sooner.
        self._journal: list[tuple[str, int]] = []

    # --- the transaction ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self._run("BEGIN IMMEDIATE")

    def commit(self) -> set[str]:
        """The queues in which a message may be visible, or visible sooner, since."""
        self._run("COMMIT")
        touched = {queue for queue, change in self._journal if change >= 0}
        self._journal.clear()
        return touched

    def rollback(self) -> None:
        self._forget(0)
        if self._db.in_transaction:  # SQLite itself has rolled back already when the disk is full
            self._run("ROLLBACK")

    def _note(self, queue: str, change: int) -> None:
        self._journal.append((queue, change))
        if change:
            self._totals[queue] = self._totals.get(queue, 0) + change
            if not self._totals[queue]:
                del self._totals[queue]

    def _forget(self, mark: int) -> None:
        undone = self._journal[mark:]
        for queue, change in undone:
            self._note(queue, -change)
        del self._journal[mark:]

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
        self._run("UPDATE lease SET owner = NULL")

    def apply(self, operations: Sequence[Operation], now: int) -> list[str | None]:
        if len(operations) == 1:  # every operation checks before it writes: alone, it needs no savepoint
            return [self._apply(operations[0], now)]
        mark = len(self._journal)
        self._run("SAVEPOINT caller")
        try:
            result = [self._apply(operation, now) for operation in operations]
        except (Fenced, QueueFull, Conflict):
            self._run("ROLLBACK TO caller")
            self._run("RELEASE caller")
            self._forget(mark)
            raise
        self._run("RELEASE caller")
        return result

    def _apply(self, operation: Operation, now: int) -> str | None:
        match operation:
            case Send():
                return self._send(operation, now)
            case Complete():
                self._complete(operation.claim, now)
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
            if known is not None:
                return str(known[0])
        if send.limit is not None and self._totals.get(send.queue, 0) >= send.limit:
            raise QueueFull(send.queue, send.limit)
        if send.dedupe_key is not None and send.dedupe_until_ms > now:
            # Two that have lapsed go for each that comes: the table stays as small as its windows.
            self._run(
                "DELETE FROM dedupe WHERE rowid IN (SELECT rowid FROM dedupe WHERE until_ms <= ? LIMIT 2)", (now,)
            )
            self._run(
                "INSERT OR REPLACE INTO dedupe (queue, key, id, until_ms) VALUES (?, ?, ?, ?)",
                (send.queue, send.dedupe_key, send.id, send.dedupe_until_ms),
            )
        attributes = msgspec.json.encode(send.attributes) if send.attributes else None
        visible = send.visible_ms or now
        self._insert(send.queue, visible, now, send.group, send.body, send.id, send.dedupe_key, None, attributes)
        return send.id

    def _insert(self, queue: str, visible: int, now: int, group: str | None, body: bytes, *rest: Any) -> None:
        turn: int | None = visible if visible > now else 0
        if (
            group is not None
            and self._run("SELECT 1 FROM message WHERE queue = ? AND grp = ? LIMIT 1", (queue, group)).fetchone()
        ):
            turn = None
        sequence = self._run(
            "INSERT INTO message (queue, turn_ms, visible_ms, sent_ms, grp, id, dedupe_key, last_error, attributes) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (queue, turn, visible, now, group, *rest),
        ).lastrowid
        self._run("INSERT INTO body (sequence, content) VALUES (?, ?)", (sequence, body))
        self._note(queue, 1)

    def _complete(self, claim: Claim, now: int) -> None:
        gone = self._run(
            "DELETE FROM message WHERE sequence = ? AND queue = ? AND fence = ? AND fence > 0 AND grp IS NULL",
            (claim.sequence, claim.queue, claim.fence),
        )
        if not gone.rowcount:
            group = self._held(claim)
            self._run("DELETE FROM message WHERE sequence = ?", (claim.sequence,))
            self._advance(claim.queue, group, now)
        self._note(claim.queue, -1)

    def _held(self, claim: Claim) -> str | None:
        """The message's group, when the claim still holds it."""
        row = self._run(
            "SELECT grp FROM message WHERE sequence = ? AND queue = ? AND fence = ? AND fence > 0",
            (claim.sequence, claim.queue, claim.fence),
        ).fetchone()
        if row is None:
            raise Fenced(f"message {claim.sequence} of {claim.queue} was claimed by another, settled or purged since")
        group: str | None = row[0]
        return group

    def _release(self, release: Release, now: int) -> None:
        group = self._held(release.claim)
        visible = release.visible_ms or now
        self._run(
            "UPDATE message SET fence = 0, visible_ms = ?, attempts = attempts - ?, "
            "last_error = coalesce(?, last_error) WHERE sequence = ?",
            (visible, 0 if release.count else 1, release.error, release.claim.sequence),
        )
        self._turn(release.claim, group, visible, now)

    def _extend(self, extend: Extend, now: int) -> None:
        group = self._held(extend.claim)
        self._run("UPDATE message SET visible_ms = ? WHERE sequence = ?", (extend.until_ms, extend.claim.sequence))
        self._turn(extend.claim, group, extend.until_ms, now)

    def _turn(self, claim: Claim, group: str | None, visible: int, now: int) -> None:
        if group is None:
            turn = visible if visible > now else 0
            self._run("UPDATE message SET turn_ms = ? WHERE sequence = ?", (turn, claim.sequence))
            self._note(claim.queue, 0)
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
        self._run("UPDATE message SET turn_ms = ? WHERE sequence = ?", (turn if turn > now else 0, sequence))
        self._note(queue, 0)

    def _move(self, move: Move, now: int) -> None:
        self._held(move.claim)
        self._bury(move.claim.sequence, move.queue, move.attributes, now)

    def _bury(self, sequence: int, target: str, added: dict[str, str], now: int) -> None:
        """To the end of another queue as a new message: its own sequence, no attempts, sent now."""
        queue, group, identity, key, error, packed, body = self._run(
            "SELECT queue, grp, id, dedupe_key, last_error, attributes, content "
            "FROM message JOIN body USING (sequence) WHERE sequence = ?",
            (sequence,),
        ).fetchone()
        self._run("DELETE FROM message WHERE sequence = ?", (sequence,))
        self._note(queue, -1)
        self._advance(queue, group, now)
        if added:
            packed = msgspec.json.encode(_attributes(packed) | added)
        self._insert(target, now, now, group, body, identity, key, error, packed)

    def _put(self, put: Put) -> None:
        if put.value is None:
            self._run("DELETE FROM fact WHERE key = ?", (put.key,))
        else:
            self._run("INSERT OR REPLACE INTO fact (key, value) VALUES (?, ?)", (put.key, put.value))

    def _expect(self, expect: Expect) -> None:
        row = self._run("SELECT value FROM fact WHERE key = ?", (expect.key,)).fetchone()
        if (None if row is None else row[0]) != expect.value:
            raise Conflict(f"{expect.key} has changed")

    def claim(
        self, queue: str, limit: int, until_ms: int, now: int, max_claims: int | None, dead_letters: str | None
    ) -> list[Message]:
        self._run("UPDATE message SET turn_ms = 0 WHERE queue = ? AND turn_ms > 0 AND turn_ms <= ?", (queue, now))
        most = max_claims if max_claims is not None and dead_letters is not None else None
        taken: list[Any] = []
        while len(taken) < limit:
            heads = self._run(
                f"SELECT {_MESSAGE} FROM {_MESSAGES} WHERE queue = ? AND turn_ms = 0 ORDER BY sequence LIMIT ?",  # noqa: S608 - a constant
                (queue, limit - len(taken)),
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
        taken.sort(key=_sequence)
        return [_claimed(queue, row, until_ms, now) for row in taken]

    def _followers(self, queue: str, head: Any, room: int, now: int, most: int | None) -> list[Any]:
        """What may be claimed together with the head of a group: those behind it, as far as they are visible."""
        rows = self._run(
            f"SELECT {_MESSAGE} FROM {_MESSAGES} "  # noqa: S608 - constants
            "WHERE queue = ? AND grp = ? AND sequence > ? ORDER BY sequence LIMIT ?",
            (queue, head[9], head[0], max(room, 0)),
        ).fetchall()
        for n, row in enumerate(rows):
            if row[8] > now or _worn_out(row, most):
                return rows[:n]
        return rows

    def purge(self, queue: str) -> int:
        gone = self._run("DELETE FROM message WHERE queue = ?", (queue,)).rowcount
        self._note(queue, -gone)
        return gone

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


class View:
    """All reading, on a connection of its own: it sees every commit that was acknowledged, and holds up none."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._run = db.execute

    def next_visible(self, prefix: str) -> dict[str, int]:
        # From queue to queue by one step in the index each, however many messages lie between. A turn of 0 stays "now",
        # whatever time it was when it came: a clock that is set back hides nothing that `claim` would give.
        rows = self._run(
            "WITH RECURSIVE queue(name) AS ("
            " SELECT min(queue) FROM message WHERE queue >= ? AND queue < ?"
            " UNION ALL SELECT (SELECT min(queue) FROM message WHERE queue > name AND queue < ?) FROM queue"
            " WHERE name IS NOT NULL) "
            "SELECT name, (SELECT turn_ms FROM message WHERE message.queue = name AND turn_ms >= 0"
            " ORDER BY turn_ms LIMIT 1) FROM queue WHERE name IS NOT NULL",
            (prefix, prefix + _LAST_CHARACTER, prefix + _LAST_CHARACTER),
        )
        return dict(rows.fetchall())

    def peek(self, queue: str, limit: int, after: int) -> list[Message]:
        rows = self._run(
            f"SELECT {_MESSAGE} FROM {_MESSAGES} WHERE sequence IN (SELECT sequence FROM message "  # noqa: S608 - a constant
            "WHERE queue = ? AND sequence > ? ORDER BY sequence LIMIT ?) ORDER BY sequence",
            (queue, after, limit),
        ).fetchall()
        return [_message(Claim(queue, row[0], 0), row) for row in rows]

    def stats(self, prefix: str, now: int) -> list[QueueStats]:
        # Only what is delayed, claimed or behind its group is looked up in the table; the rest is counted in the index.
        rows = self._run(
            "WITH counted AS (SELECT queue, count(*) AS total, min(sequence) AS first,"
            " sum(iif(turn_ms = 0, 0, visible_ms > ? AND fence > 0)) AS in_flight,"
            " sum(iif(turn_ms = 0, 0, visible_ms > ? AND fence = 0)) AS delayed"
            " FROM message WHERE queue >= ? AND queue < ? GROUP BY queue) "
            "SELECT counted.queue, total, in_flight, delayed, sent_ms FROM counted "
            "JOIN message ON sequence = first ORDER BY counted.queue",
            (now, now, prefix, prefix + _LAST_CHARACTER),
        ).fetchall()
        return [
            QueueStats(queue, total - in_flight - delayed, in_flight, delayed, oldest)
            for queue, total, in_flight, delayed, oldest in rows
        ]

    def get(self, key: str) -> bytes | None:
        row = self._run("SELECT value FROM fact WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def scan(self, prefix: str) -> dict[str, bytes]:
        rows = self._run(
            "SELECT key, value FROM fact WHERE key >= ? AND key < ? ORDER BY key", (prefix, prefix + _LAST_CHARACTER)
        )
        return dict(rows.fetchall())


def _sequence(row: Any) -> int:
    sequence: int = row[0]
    return sequence


def _worn_out(row: Any, most: int | None) -> bool:
    return most is not None and row[5] >= most


def _attributes(packed: bytes | None) -> dict[str, str]:
    return {} if packed is None else msgspec.json.decode(packed, type=dict[str, str])


def _message(claim: Claim, row: Any) -> Message:
    return Message(claim, row[1], row[2], _attributes(row[3]), *row[4:])


def _claimed(queue: str, row: Any, until_ms: int, now: int) -> Message:
    """The message as it stands after its claim: the row was read just before."""
    sequence, identity, body, packed, attempts, claims, sent, first, _, group, key, error = row
    return Message(
        claim=Claim(queue, sequence, claims + 1),
        id=identity,
        body=body,
        attributes=_attributes(packed),
        attempts=attempts + 1,
        claims=claims + 1,
        sent_ms=sent,
        first_claimed_ms=first if claims else now,
        visible_ms=until_ms,
        group=group,
        dedupe_key=key,
        last_error=error,
    )

"""All reading for those who only look: what is there, and when there is something to claim."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from eventfn.engine import parcels
from eventfn.engine.contract import Claim, Message, QueueStats
from eventfn.engine.parcels import Kept
from eventfn.engine.rows import COLUMNS, LAST_CHARACTER, MESSAGES, read_message


class View:
    """All reading of what is on disk, on a connection of its own: it sees every commit that was acknowledged, and holds
    up none. What only memory knows is handed to it: read before the disk, so that nothing is overlooked in between."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._run = db.execute

    def next_visible(self, prefix: str, known: dict[str, int]) -> dict[str, int]:
        # From queue to queue by one step in the index each, however many messages lie between. A turn of 0 stays "now",
        # whatever time it was when it came: a clock that is set back hides nothing that `claim` would give.
        rows = self._run(
            "WITH RECURSIVE queue(name) AS ("
            " SELECT min(queue) FROM message WHERE queue >= ? AND queue < ?"
            " UNION ALL SELECT (SELECT min(queue) FROM message WHERE queue > name AND queue < ?) FROM queue"
            " WHERE name IS NOT NULL) "
            "SELECT name, (SELECT turn_ms FROM message WHERE message.queue = name AND turn_ms >= 0"
            " ORDER BY turn_ms LIMIT 1) FROM queue WHERE name IS NOT NULL",
            (prefix, prefix + LAST_CHARACTER, prefix + LAST_CHARACTER),
        ).fetchall()
        return known | {queue: min(turn, known.get(queue, turn)) for queue, turn in rows}

    def peek(self, queue: str, limit: int, after: int, held_until: Callable[[str, int], int | None]) -> list[Message]:
        self._run("BEGIN")  # one look at both: a message that just left its parcel is seen once
        try:
            rows = self._run(
                f"SELECT {COLUMNS} FROM {MESSAGES} WHERE sequence IN (SELECT sequence FROM message "  # noqa: S608 - a constant
                "WHERE queue = ? AND sequence > ? ORDER BY sequence LIMIT ?) ORDER BY sequence",
                (queue, after, limit),
            ).fetchall()
            kept = parcels.peek(self._db, queue, limit, after)
        finally:
            self._run("COMMIT")
        found = [read_message(Claim(queue, row[0], 0), row) for row in rows]
        for sequence, message, claimed_ms in kept:
            until_ms = held_until(queue, sequence)
            found.append(_peeked(Claim(queue, sequence, 0), message, claimed_ms, until_ms))
        return sorted(found, key=_sequence)[:limit]

    def stats(self, prefix: str, now: int, known: dict[str, tuple[int, int]]) -> list[QueueStats]:
        # Only what is delayed, claimed or behind its group is looked up in the table; the rest is counted in the index.
        rows = self._run(
            "WITH counted AS (SELECT queue, count(*) AS total, min(sequence) AS first,"
            " sum(iif(turn_ms = 0, 0, visible_ms > ? AND fence > 0)) AS in_flight,"
            " sum(iif(turn_ms = 0, 0, visible_ms > ? AND fence = 0)) AS delayed"
            " FROM message WHERE queue >= ? AND queue < ? GROUP BY queue) "
            "SELECT counted.queue, total, in_flight, delayed, sent_ms FROM counted "
            "JOIN message ON sequence = first",
            (now, now, prefix, prefix + LAST_CHARACTER),
        ).fetchall()
        found = {row[0]: row[1:] for row in rows}
        stats: list[QueueStats] = []
        for queue in sorted({*found, *known}):
            total, in_flight, delayed, sent_ms = found.get(queue, (0, 0, 0, None))
            in_parcels, held = known.get(queue, (0, 0))
            times = [time for time in (sent_ms, parcels.oldest(self._db, queue)) if time is not None]
            visible = total - in_flight - delayed + in_parcels - held
            stats.append(QueueStats(queue, visible, in_flight + held, delayed, min(times, default=None)))
        return stats

    def get(self, key: str) -> bytes | None:
        row = self._run("SELECT value FROM fact WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def scan(self, prefix: str) -> dict[str, bytes]:
        rows = self._run(
            "SELECT key, value FROM fact WHERE key >= ? AND key < ? ORDER BY key", (prefix, prefix + LAST_CHARACTER)
        )
        return dict(rows.fetchall())


def _sequence(message: Message) -> int:
    return message.claim.sequence


def _peeked(claim: Claim, message: Kept, claimed_ms: int, until_ms: int | None) -> Message:
    claims = 1 if claimed_ms else 0
    return Message(
        claim=claim,
        id=message.id,
        body=message.body,
        attributes=message.attributes,
        attempts=claims,
        claims=claims,
        sent_ms=message.sent_ms,
        first_claimed_ms=claimed_ms,
        visible_ms=message.sent_ms if until_ms is None else until_ms,
        dedupe_key=message.dedupe_key,
    )

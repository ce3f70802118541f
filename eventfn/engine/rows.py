"""A message as a row: its schema, the columns that are read of it, and the way from them to a Message.

PURE.
"""

from __future__ import annotations

from typing import Any

import msgspec

from eventfn.engine.contract import Claim, Message

# AUTOINCREMENT: a sequence is never given twice, or a late claim of a message that is gone would settle a new one.
# `fence` is `claims` as it was when the message was claimed, and 0 while nobody holds it.
# Bodies stand apart: SQLite rewrites a whole row, so a claim of a 1 MB event would write 1 MB, and fail on a full disk.
SCHEMA = """
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

COLUMNS = (
    "sequence, id, content, attributes, attempts, claims, sent_ms, first_claimed_ms, visible_ms, grp, dedupe_key, "
    "last_error"
)
MESSAGES = "message JOIN body USING (sequence)"
LAST_CHARACTER = "\U0010ffff"  # prefix + this is above everything that starts with prefix


def unpack_attributes(packed: bytes | None) -> dict[str, str]:
    return {} if packed is None else msgspec.json.decode(packed, type=dict[str, str])


def pack_attributes(attributes: dict[str, str]) -> bytes | None:
    return msgspec.json.encode(attributes) if attributes else None


def read_message(claim: Claim, row: Any) -> Message:
    return Message(claim, row[1], row[2], unpack_attributes(row[3]), *row[4:])


def claimed_message(queue: str, row: Any, until_ms: int, now: int) -> Message:
    """The message as it stands after its claim: the row was read just before."""
    sequence, identity, body, packed, attempts, claims, sent, first, _, group, key, error = row
    return Message(
        claim=Claim(queue, sequence, claims + 1),
        id=identity,
        body=body,
        attributes=unpack_attributes(packed),
        attempts=attempts + 1,
        claims=claims + 1,
        sent_ms=sent,
        first_claimed_ms=first if claims else now,
        visible_ms=until_ms,
        group=group,
        dedupe_key=key,
        last_error=error,
    )

"""The database as a file: made, brought up to date, looked through before anything touches it, and connected to."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from eventfn.engine import parcels, rows
from eventfn.engine.rows import COLUMNS, MESSAGES

# Pages (4 KB) in the write-ahead log before they are brought home: 16 MB, so a burst pays for few checkpoints.
_CHECKPOINT_PAGES = 4096
_CACHE_KB = 32 * 1024

# Bytes of a database that are all looked through. A larger one is looked through without the contents of its messages,
# which are most of it: what is torn there fails the reading of that message, and nothing else.
_LOOKED_THROUGH = 1 << 30
_TABLES = ("message", "parcel", "dedupe", "fact", "lease")


def create(path: Path) -> None:
    """An empty database; an unfinished one at the same place is begun afresh."""
    path.unlink(missing_ok=True)
    path.touch(0o600)  # its log and index get the same mode: the folder may be wider, when it was there before us
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.executescript(f"PRAGMA synchronous=EXTRA; BEGIN; {rows.SCHEMA} {parcels.SCHEMA} COMMIT;")
    finally:
        db.close()


def upgrade(path: Path) -> None:
    """From format 1, which knew no parcels. Twice is the same as once."""
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.executescript(f"PRAGMA synchronous=EXTRA; BEGIN; {parcels.SCHEMA} COMMIT;")
    finally:
        db.close()


def inspect(path: Path, whole: bool) -> str | None:
    """What is wrong with a database; None: nothing. Leaves every byte in place, also after a crash.

    One that is `whole`, as it was closed, is not looked through: with a backlog of gigabytes that would take longer
    than all else.

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
            checks = ["1"] if path.stat().st_size <= _LOOKED_THROUGH else _TABLES
            for check in () if whole else checks:
                (answer,) = db.execute(f"PRAGMA quick_check({check})").fetchone()
                if answer != "ok":
                    return str(answer)
            db.execute(f"SELECT {COLUMNS} FROM {MESSAGES} LIMIT 1").fetchone()  # noqa: S608 - a constant
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

"""The data folder: whose it is, which format it has, and that it is ours alone for as long as we live.

    lock        held with flock for life; holds the process id of its holder
    version     {"format": 2, "eventfn": "0.1.0"}, written once the folder is complete
    eventfn.db  the database (database.py)                  blobs/  code and layers by content hash (blobs.py)
    closed      the size and time of the database when it was closed in order: as long as they hold, it is whole

Looking comes before touching: a folder that is damaged, newer or somebody else's is refused with every byte in place.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import msgspec

from eventfn.errors import DataFolderLocked, DataFolderUnusable

FORMAT = 2  # grows with every change that an older eventfn would misread

DATABASE = "eventfn.db"
_DRAFT = "eventfn.db.new"  # a database being created: the rename that ends it is the last step of a new folder

# What eventfn itself puts into a data folder before an engine was ever opened there, and a mount point's own.
_LEFTOVERS = {"lock", "closed", _DRAFT, "version.new", "logs", "layers", "code", "bytecode", "node.json", "lost+found"}

_NOT_OURS_TO_WRITE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT}  # ENOENT: /proc lets nobody make a folder


class _Version(msgspec.Struct, frozen=True):
    format: int
    eventfn: str


class DataFolder:
    """One data folder. `take` makes it ours, `let_go` gives it back; both are plain blocking calls."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def take(
        self,
        create: Callable[[Path], None],
        inspect: Callable[[Path, bool], str | None],
        upgrade: Callable[[Path], None],
    ) -> Path:
        """The path of the database. `create(path)` makes an empty one, `inspect(path, whole)` says what is wrong with
        one, which is known to be `whole` when it is as it was closed, `upgrade(path)` brings an older one up to date.

        Raises DataFolderLocked, DataFolderUnusable; OSError when the disk refuses.
        """
        try:
            return self._take(create, inspect, upgrade)
        except OSError as error:
            if error.errno not in _NOT_OURS_TO_WRITE:
                raise
            what = f"{error.filename or self.path}: {error.strerror}"
            raise DataFolderUnusable(
                f"Data folder {self.path} cannot be written ({what}). "
                "Let this user write there, or choose another one with --data."
            ) from error

    def _take(
        self,
        create: Callable[[Path], None],
        inspect: Callable[[Path, bool], str | None],
        upgrade: Callable[[Path], None],
    ) -> Path:
        written = self._recognise()
        self._make()
        self._seize()
        try:
            # Nothing but the lock file was opened so far; from here on nobody else changes the folder under us.
            if written is None:
                create(self.path / _DRAFT)
                self._write_version()
            database = self.path / DATABASE
            draft = self.path / _DRAFT
            if draft.exists() and not database.exists():
                draft.rename(database)
                sync_folder(self.path)
            if not database.exists():
                raise self._unusable(f"{DATABASE} is missing", "Restore it from a backup")
            if (damage := inspect(database, self._is_as_it_was_closed(database))) is not None:
                raise self._unusable(f"{DATABASE} is damaged ({damage})", "Restore it from a backup")
            if written is not None and written < FORMAT:
                upgrade(database)
                self._write_version()
            self._sign()
        except BaseException:
            self.let_go()
            raise
        return database

    def closed(self) -> None:
        """The database was closed in order. Should this not be kept, the next start looks it through."""
        with contextlib.suppress(OSError):
            (self.path / "closed").write_text(_state(self.path / DATABASE))

    def _is_as_it_was_closed(self, database: Path) -> bool:
        log = database.with_name(f"{DATABASE}-wal")  # not brought home: somebody died
        try:
            return not log.exists() and (self.path / "closed").read_text() == _state(database)
        except (OSError, UnicodeDecodeError):
            return False

    def let_go(self) -> None:
        """Idempotent. The lock file stays: removing it would let two processes lock two files of one name."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _recognise(self) -> int | None:
        """The format of this data folder, None when it is none yet; raises when it must not be touched."""
        file = self.path / "version"
        try:
            version = msgspec.json.decode(file.read_bytes(), type=_Version)
        except FileNotFoundError:
            self._must_be_unused()
            return None
        except NotADirectoryError:
            raise DataFolderUnusable(f"Data folder {self.path}: it, or a folder above it, is a file") from None
        except PermissionError:
            raise
        except (OSError, msgspec.MsgspecError) as error:
            raise self._unusable(f"its version file cannot be read ({error})", "Restore it from a backup") from None
        if version.format > FORMAT:
            raise self._unusable(
                f"it was written by eventfn {version.eventfn} in format {version.format}, "
                f"and this eventfn {_our_version()} knows format {FORMAT}",
                "Upgrade eventfn",
            )
        return version.format

    def _must_be_unused(self) -> None:
        if not self.path.exists():
            return
        strangers = sorted({entry.name for entry in self.path.iterdir()} - _LEFTOVERS)
        if DATABASE in strangers:
            raise self._unusable("its version file is missing", "Restore it from a backup")
        if strangers:
            raise self._unusable(
                f"it holds {', '.join(strangers[:3])}{' ...' if len(strangers) > 3 else ''} and is no data folder",
                "Name an empty or a new folder",
            )

    def _unusable(self, what: str, remedy: str) -> DataFolderUnusable:
        return DataFolderUnusable(
            f"Data folder {self.path}: {what}. It was left untouched. {remedy}, or choose another one with --data."
        )

    def _make(self) -> None:
        """0700: events and their answers are nobody else's business."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=0o700)
            sync_folder(self.path.parent)

    def _seize(self) -> None:
        # flock and not a pid file: the kernel lets go of it however the process ends. No child inherits it (O_CLOEXEC).
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 32, 0).decode(errors="replace").strip()
            os.close(lock)
            raise DataFolderLocked(
                f"Data folder {self.path} is in use by {f'process {holder}' if holder else 'another process'}. "
                "Stop it, or choose another one with --data."
            ) from None
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock

    def _sign(self) -> None:
        """Our process id into the lock file, for the error of whoever comes second."""
        assert self._lock is not None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _write_version(self) -> None:
        draft = self.path / "version.new"
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(_Version(FORMAT, _our_version())))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self.path / "version")
        sync_folder(self.path)


def _state(database: Path) -> str:
    facts = database.stat()
    return f"{facts.st_size} {facts.st_mtime_ns}"


def sync_folder(path: Path) -> None:
    """Makes names durable: a file that was created or renamed is found after a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _our_version() -> str:
    return metadata.version("eventfn")

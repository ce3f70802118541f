"""Durable append of whole lines: all of them are on disk when it returns, or the file is as it was.

A crash in the middle may leave a torn last line. The next append moves it to `<file>.torn`: every line of the file
itself is valid JSON, and nothing of somebody else's file, taken by mistake, is thrown away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Generator, Sequence
from pathlib import Path

import msgspec

# What was written before a crash and is written again stands within the last batch, which is a hundred records of at
# most a megabyte and mostly of a few hundred bytes.
_LOOK_BACK = 16 * 1024 * 1024


class FileInUse(Exception):
    """Another process is appending at this moment."""


def append(path: Path, lines: Sequence[bytes], perhaps_there: Sequence[bytes] = ()) -> int:
    """Writes `lines`, and those of `perhaps_there` that are not among the last lines of the file yet. How many.

    A line has no newline. The folder is made. With no lines at all the file is made and mended, nothing more.
    Raises OSError (nothing was written then, unless it was the disk that failed), FileInUse.
    """
    with _opened(path) as file:
        _mend(path, file)
        missing = [*_not_there(file, perhaps_there), *lines]
        if missing:
            _write(file, b"".join(line + b"\n" for line in missing))
        return len(missing)


@contextlib.contextmanager
def _opened(path: Path) -> Generator[int, None, None]:
    _make_folder(path.parent)
    created = not path.exists()
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError("is not a regular file")
        # Two eventfn may share a file: each looks at its end and writes there undisturbed. Never waits, since a
        # process that hangs with the lock must not hang this one.
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileInUse(f"another process is writing to {path}") from None
        if created:
            _sync_folder(path.parent)
        yield file
    finally:
        os.close(file)  # and with it the lock


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    # The name of a new folder stands in its parent, and is as durable as that.
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _write(file: int, data: bytes) -> None:
    before = os.fstat(file).st_size
    written = 0
    try:
        while written < len(data):
            written += os.write(file, data[written:])
    except OSError:
        # Half a batch (the disk is full) is taken back, unless somebody without the lock has written behind it.
        if os.fstat(file).st_size == before + written:
            os.ftruncate(file, before)
        raise
    os.fsync(file)


def _mend(path: Path, file: int) -> None:
    size = os.fstat(file).st_size
    if size == 0 or os.pread(file, 1, size - 1) == b"\n":
        return
    start = _start_of_last_line(file, size)
    torn = os.pread(file, size - start, start)
    if _is_whole(torn):
        _write(file, b"\n")
        return
    aside = os.open(f"{path}.torn", os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        _write(aside, torn + b"\n")
    finally:
        os.close(aside)
    os.ftruncate(file, start)
    os.fsync(file)


def _start_of_last_line(file: int, size: int) -> int:
    end = size
    while end > 0:
        start = max(0, end - 1024 * 1024)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _is_whole(line: bytes) -> bool:
    # Half a number is a number too; half of an object is nothing.
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except msgspec.DecodeError:
        return False


def _not_there(file: int, lines: Sequence[bytes]) -> list[bytes]:
    if not lines:
        return []
    size = os.fstat(file).st_size
    start = max(0, size - _LOOK_BACK)
    there = set(os.pread(file, size - start, start).split(b"\n"))
    return [line for line in lines if line not in there]

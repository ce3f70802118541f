"""Folders in the data folder that are made once and then only read: unpacked zips, installed requirements, bytecode.

Belongs here: that such a folder is there whole or not at all, and how long. Does not: what is in it, and the hash that
names it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from eventfn.functions.syncing import SharedSync

STORES = ("code", "layers", "bytecode")  # folders of the data folder that hold nothing else
UNUSED = 7 * 86_400  # seconds: the version before is there for those who go back to it

_LOCK_POLL = 0.1  # seconds; flock cannot be awaited, and a blocked thread could not be cancelled
_ALL = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
_ALL_ENTER = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


async def make(store: Path, name: str, build: Callable[[Path], Awaitable[None]]) -> Path:
    """The folder of that name in the store; `build` fills an empty one when it is not there yet.

    Safe to run twice at once, in one process or in two: the second waits for the first. Raises OSError, and what
    `build` raises.
    """
    kept = store / name
    if await asyncio.to_thread(_used, kept):
        return kept
    async with _locked(store / f".{name}.lock"):
        if kept.exists():
            return kept
        partial = await asyncio.to_thread(_empty_partial, store, name)
        try:
            await build(partial)
            await _finish(partial, kept)
        finally:
            await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
    return kept


def clear(data: Path, now: float) -> None:
    """Removes what no start has used for a week, and what killed ones have left half made or half removed. `now` is in
    seconds, as a file's times are.

    For the start alone, with the data folder locked and all that is declared made: later an environment may still
    run from a folder that nothing declares any more. Blocks.
    """
    since = now - UNUSED
    for store in STORES:
        for entry in list(_entries(data / store)):
            if entry.name.startswith("."):
                _remove(Path(entry))
            elif entry.stat(follow_symlinks=False).st_mtime < since:
                # First it loses the name: whoever finds a folder under its name may trust that it is whole.
                Path(entry).rename(going := data / store / f".{entry.name}.removed")
                _remove(going)


def _entries(store: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(store) as entries:
            yield from entries
    except FileNotFoundError:
        return


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _used(kept: Path) -> bool:
    """Whether it is there; `clear` looks at when it was used last."""
    try:
        os.utime(kept)
    except FileNotFoundError:
        return False
    return True


def _empty_partial(store: Path, name: str) -> Path:
    """Where it is built. A run that was killed may have left its own, and a pip that still writes there: so each run
    has another folder, and clears away those before it."""
    for left in store.glob(f".{name}.*.partial"):
        shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".partial", dir=store))


async def _finish(partial: Path, kept: Path) -> None:
    """Gives a finished folder its name. Whoever sees that name sees all of it, after a power failure too."""
    await asyncio.to_thread(_let_others_read, partial)
    # The name must not reach the disk before what it stands for. One sync of everything is quicker than one for each of
    # thousands of files, and one is enough for all who have written theirs when it begins.
    await SharedSync.of_this_loop()()
    await asyncio.to_thread(partial.rename, kept)


def _let_others_read(folder: Path) -> None:
    """Functions run as somebody else where eventfn runs as root. The data folder keeps out the rest of the machine."""
    for place, _, files in os.walk(folder):
        _add_mode(place, _ALL | _ALL_ENTER)
        for name in files:
            if not os.path.islink(path := f"{place}/{name}"):  # noqa: PTH114 - thousands of them
                _add_mode(path, _ALL)


def _add_mode(path: str, bits: int) -> None:
    mode = stat.S_IMODE(os.stat(path).st_mode)  # noqa: PTH116 - thousands of them
    if mode | bits != mode:
        os.chmod(path, mode | bits)  # noqa: PTH101


@asynccontextmanager
async def _locked(file: Path) -> AsyncGenerator[None, None]:
    descriptor = _opened(file)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_POLL)
        yield
    finally:
        os.close(descriptor)


def _opened(file: Path) -> int:
    file.parent.mkdir(parents=True, exist_ok=True)
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

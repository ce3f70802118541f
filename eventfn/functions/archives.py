"""Zips of code and layers -> folders.

A zip is a stranger's: what would land outside its folder, what is neither file, folder nor link, and what unpacks to
more than Lambda's quota is refused before anything is written.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

MAX_UNPACKED = 250 * 1024 * 1024  # bytes, the code and all its layers together (Lambda: quotas)

_DEFAULT_MODE = 0o644
_FOLDER_MODE = 0o755


class BadArchive(ValueError):
    """The zip cannot be used. The message is for whoever made it."""


def digest(archive: Path) -> str:
    """SHA-256 in hex."""
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpacked_size(archive: Path) -> int:
    """Bytes that it says it unpacks to; `unpack` writes no more than that. Raises BadArchive."""
    with _opened(archive) as opened:
        return sum(entry.file_size for entry in opened.infolist())


def unpack(archive: Path, into: Path) -> None:
    """The zip's content into an empty folder. Modes are kept. Blocks. Raises BadArchive, OSError."""
    links: list[zipfile.ZipInfo] = []
    with _opened(archive) as opened:
        for entry, path in _entries(opened, into):
            kind = _mode(entry)
            if stat.S_ISLNK(kind):
                links.append(entry)
            elif entry.is_dir() or stat.S_ISDIR(kind):
                path.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            elif stat.S_IFMT(kind) in (0, stat.S_IFREG):
                path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
                with opened.open(entry) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
                path.chmod(stat.S_IMODE(kind) & 0o777 or _DEFAULT_MODE)
            else:
                raise BadArchive(f"{entry.filename} is neither a file nor a folder nor a link")
        # Links come last, so that no file is ever written through one, and are held against where they really lead.
        for entry in links:
            path = into / entry.filename
            path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            path.symlink_to(os.fsdecode(opened.read(entry)))
    root = os.path.realpath(into)
    for entry in links:
        # os.path.realpath, because Path.resolve raises on links that lead in a circle.
        if not Path(os.path.realpath(into / entry.filename)).is_relative_to(root):
            raise BadArchive(f"the link {entry.filename} leads out of the zip")


def _entries(opened: zipfile.ZipFile, into: Path) -> Iterator[tuple[zipfile.ZipInfo, Path]]:
    for entry in opened.infolist():
        name = PurePosixPath(entry.filename)
        if name.is_absolute() or ".." in name.parts:
            raise BadArchive(f"{entry.filename} would be written outside its folder")
    yield from ((entry, into / entry.filename) for entry in opened.infolist())


def _mode(entry: zipfile.ZipInfo) -> int:
    """The unix mode; 0 where the zip was made by a system that has none."""
    return entry.external_attr >> 16 if entry.create_system == 3 else 0


@contextmanager
def _opened(archive: Path) -> Generator[zipfile.ZipFile, None, None]:
    """Whatever is wrong with the zip while it is read is a BadArchive."""
    try:
        with zipfile.ZipFile(archive) as opened:
            yield opened
    except BadArchive:
        raise
    # RuntimeError: encrypted; NotImplementedError: an unknown compression; ValueError: a NUL in a link.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise BadArchive(str(error)) from error

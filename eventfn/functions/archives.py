"""Zips of code and layers -> folders.

A zip is a stranger's: what would land outside its folder or twice in one place, what is neither file, folder nor link,
what is broken, and what unpacks to more than Lambda's quota is refused before anything is written.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

MAX_UNPACKED = 250 * 1024 * 1024  # bytes, the code and all its layers together (Lambda: quotas)
MAX_ENTRIES = 200_000  # a folder of that many files takes a minute to make, and nobody's code has them

_DEFAULT_MODE = 0o644
_FOLDER_MODE = 0o755
_CHUNK = 1 << 20
_MAX_NAME = 255  # bytes of one part of a path, Linux's
_MAX_PATH = 3072  # bytes of all of it: Linux's 4096, without the folders above
_MAX_HOPS = 40  # links on one path, Linux's
# Folders on the ways of all links, and above each of them: a second's work. Ten thousand links of a node_modules/.bin
# come to a twentieth of it, and some hundred that lead up and down and to each other to hours.
_MAX_STEPS = 10_000_000

Archive = Path | BinaryIO  # what is given open stays open


class BadArchive(ValueError):
    """The zip cannot be used. The message is for whoever made it."""


class TooMuch(BadArchive):
    """It unpacks to more than the quota."""


def digest(archive: Path) -> str:
    """SHA-256 in hex."""
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpacked_size(archive: Archive) -> int:
    """Bytes that it says it unpacks to; `unpack` writes no more than that. Raises BadArchive."""
    with _opened(archive) as opened:
        return sum(entry.file_size for entry in opened.infolist())


class Checked(NamedTuple):
    unpacked: int  # bytes
    programs: frozenset[str]  # names of what can be executed at its top, and of links, which may lead to such


def check(archive: Archive) -> Checked:
    """What it unpacks to. Everything that `unpack` would refuse is found here, the checksums of what it holds
    included, and nothing is written. Blocks. Raises BadArchive."""
    with _opened(archive) as opened:
        found = _entries(opened)
        for entry in found.files:
            with opened.open(entry.info) as source:
                while source.read(_CHUNK):
                    pass
        _check_links(opened, found)
        unpacked = sum(entry.info.file_size for entry in found.files)
        programs = [entry.path for entry in found.files if _permissions(entry.info) & 0o111]
        links = [entry.path for entry in found.links]
        return Checked(unpacked, frozenset(path for path in (*programs, *links) if "/" not in path))


def unpack(archive: Archive, into: Path) -> None:
    """The zip's content into an empty folder. Modes are kept. Blocks. Raises BadArchive, OSError."""
    with _opened(archive) as opened:
        found = _entries(opened)
        _check_links(opened, found)
        for folder in found.folders:
            (into / folder).mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        for entry in found.files:
            path = into / entry.path
            path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            with opened.open(entry.info) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, _CHUNK)
            path.chmod(_permissions(entry.info))
        # Links come last, so that no file is ever written through one.
        for entry in found.links:
            path = into / entry.path
            path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            path.symlink_to(os.fsdecode(opened.read(entry.info)))


class _Entry(NamedTuple):
    info: zipfile.ZipInfo
    path: str  # below the folder, without "." and "//"


class _Entries(NamedTuple):
    folders: list[str]
    files: list[_Entry]
    links: list[_Entry]


def _entries(opened: zipfile.ZipFile) -> _Entries:
    """What it holds, each in a place of its own. Raises BadArchive."""
    infos = opened.infolist()
    if len(infos) > MAX_ENTRIES:
        raise TooMuch(f"it holds {len(infos)} files, and {MAX_ENTRIES} are the most")
    size = sum(info.file_size for info in infos)
    if size > MAX_UNPACKED:
        raise TooMuch(f"it unpacks to {size} bytes, and {MAX_UNPACKED} are the most")
    found = _Entries([], [], [])
    for info in infos:
        path, kind = _path(info.filename), stat.S_IFMT(_mode(info))
        if info.is_dir() or kind == stat.S_IFDIR:
            found.folders.append(path)
        elif path == ".":
            raise BadArchive("it holds a file without a name")
        elif kind == stat.S_IFLNK:
            found.links.append(_Entry(info, path))
        elif kind in (0, stat.S_IFREG):
            found.files.append(_Entry(info, path))
        else:
            raise BadArchive(f"{info.filename} is neither a file nor a folder nor a link")
    _check_places(found)
    return found


def _path(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise BadArchive(f"{name} would be written outside its folder")
    parts = [os.fsencode(part) for part in path.parts]
    if any(len(part) > _MAX_NAME for part in parts) or sum(map(len, parts)) + len(parts) > _MAX_PATH:
        raise BadArchive(f"{name[:80]}... is too long for a path")
    return str(path)


def _check_places(found: _Entries) -> None:
    """No two in one place, and none below another file."""
    taken: set[str] = set()
    for entry in (*found.files, *found.links):
        if entry.path in taken:
            raise BadArchive(f"{entry.path} is in it twice")
        taken.add(entry.path)
    folders = set(found.folders)
    for entry in (*found.files, *found.links):
        folders.update(map(str, PurePosixPath(entry.path).parents))
    for folder in found.folders:
        folders.update(map(str, PurePosixPath(folder).parents))
    if both := folders & taken:
        raise BadArchive(f"{min(both)} is a folder and a file")


def _check_links(opened: zipfile.ZipFile, found: _Entries) -> None:
    if any(not 0 < entry.info.file_size <= _MAX_PATH for entry in found.links):
        raise BadArchive("a link of it is no path")
    links = {entry.path: os.fsdecode(opened.read(entry.info)) for entry in found.links}
    left = _MAX_STEPS
    for path, target in links.items():
        if "\0" in target:
            raise BadArchive(f"the link {path} leads nowhere")
        stays, steps = _stays(path, links, left)
        left -= steps
        if not stays:
            raise BadArchive(f"the link {path} leads out of the zip")


def _stays(path: str, links: Mapping[str, str], most: int) -> tuple[bool, int]:
    """Whether a path leads to a place within, by all the links on it, and in how many steps. Raises BadArchive: in more
    than `most`."""
    here: list[str] = []
    ahead = path.split("/")[::-1]
    hops = steps = 0
    while ahead:
        steps += 1 + len(here)
        if steps > most:
            raise BadArchive("its links lead through too many folders")
        part = ahead.pop()
        if part == "..":
            if not here:
                return False, steps
            here.pop()
        elif part not in ("", "."):
            here.append(part)
            target = links.get("/".join(here))
            if target is None:
                continue
            if target.startswith("/"):
                return False, steps
            hops += 1
            if hops > _MAX_HOPS:
                return True, steps  # in a circle: Linux follows it no further either
            here.pop()
            ahead += target.split("/")[::-1]
    return True, steps


def _mode(entry: zipfile.ZipInfo) -> int:
    """The unix mode; 0 where the zip was made by a system that has none."""
    return entry.external_attr >> 16 if entry.create_system == 3 else 0


def _permissions(entry: zipfile.ZipInfo) -> int:
    """Which it has once it is unpacked."""
    return stat.S_IMODE(_mode(entry)) & 0o777 or _DEFAULT_MODE


@contextmanager
def _opened(archive: Archive) -> Generator[zipfile.ZipFile, None, None]:
    """Whatever is wrong with the zip while it is read is a BadArchive."""
    try:
        with zipfile.ZipFile(archive) as opened:
            yield opened
    except BadArchive:
        raise
    # RuntimeError: encrypted; NotImplementedError: an unknown compression; ValueError: a NUL in a link; the others:
    # streams of the compressions that are broken.
    except (
        *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError),
        *(struct.error, UnicodeError, OverflowError),
    ) as error:
        raise BadArchive(str(error)) from error

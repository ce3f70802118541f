"""What a folder of code or a layer holds: what makes another version of it, and what Python there is to compile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

_NO_CODE = {"__pycache__", "node_modules"}  # and hidden folders, virtual environments, data folders and copies of them
_MARKS = ("pyvenv.cfg", "eventfn.db")
_PYTHON_CODE = (".py", ".so")


class File(NamedTuple):
    path: str  # below the folder
    size: int
    mtime_ns: int


class Contents(NamedTuple):
    folder: str
    files: Sequence[File]  # in the order of their paths

    def sources(self) -> list[File]:
        return [file for file in self.files if file.path.endswith(".py")]

    def newest_ns(self) -> int:
        """When a file of it was changed last."""
        return max((file.mtime_ns for file in self.files), default=0)


class NotForOthers(Exception):
    """A file or folder that its owner alone may read."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def of_code(folder: str, project: str, data: str, *, for_others: bool) -> Contents:
    """A folder of its own is code altogether. The project's folder is also where events and results lie, and a file
    that somebody writes there must not make a new version of a function. Raises NotForOthers, `for_others`."""

    def is_code(entry: os.DirEntry[str]) -> bool:
        if entry.name.startswith(".") or entry.name in _NO_CODE or entry.path == data:
            return False
        return not any(os.path.exists(f"{entry.path}/{mark}") for mark in _MARKS)  # noqa: PTH110 - thousands of them

    return Contents(folder, sorted(_files(folder, is_code, _PYTHON_CODE if folder == project else (), for_others)))


def of_layer(folder: str, *, for_others: bool) -> Contents:
    """All of it. Raises NotForOthers, `for_others`."""
    return Contents(folder, sorted(_files(folder, lambda entry: entry.name != "__pycache__", (), for_others)))


def _files(
    folder: str, wanted: Callable[[os.DirEntry[str]], bool], suffixes: tuple[str, ...], for_others: bool
) -> Iterator[File]:
    above = len(folder.rstrip("/")) + 1
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            if for_others and os.stat(place).st_mode & 0o005 != 0o005:  # noqa: PTH116 - thousands of them
                raise NotForOthers(place)
            entries = list(os.scandir(place))
        except FileNotFoundError:
            continue  # removed while we look; what removed it is about to be seen as well
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if wanted(entry):
                    waiting.append(entry.path)
            elif entry.name.endswith(suffixes) if suffixes else True:
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue  # a link that leads nowhere, or gone
                if for_others and not status.st_mode & 0o004:
                    raise NotForOthers(entry.path)
                yield File(entry.path[above:], status.st_size, status.st_mtime_ns)

"""A log file that grows, is moved away by logrotate, or is cut back to nothing: its lines, from a place on.

No asyncio and nothing of eventfn here, so it can be read and tested by itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

LONGEST_LINE = 262_144  # bytes; a longer line comes in pieces of this size


class Place(NamedTuple):
    inode: int
    offset: int


class Line(NamedTuple):
    start: Place
    end: Place  # where the next one begins
    text: str


class LogFile:
    """Raises FileNotFoundError when there is no such file, or no file again after it was moved away."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._place = Place(0, 0)

    def open_at_end(self) -> Place:
        self._open(self._path)
        self._place = self._place._replace(offset=os.fstat(self._opened.fileno()).st_size)
        return self._place

    def open_at(self, place: Place) -> None:
        """The file may have been moved meanwhile; then the moved one is read to its end first."""
        siblings = [self._path, *sorted(self._path.parent.glob(f"{self._path.name}?*"))]
        found = next((path for path in siblings if path.is_file() and path.stat().st_ino == place.inode), None)
        self._open(found or self._path)
        if found is not None:
            self.go_back(place)

    def go_back(self, place: Place) -> None:
        """Lines from there on are read again. Nothing happens when that file is no longer open."""
        if place.inode == self._place.inode:
            self._place = place

    def next_line(self) -> Line | None:
        """None at the end of what is there: half a line waits for its other half."""
        while True:
            self._opened.seek(self._place.offset)
            text = self._opened.readline(LONGEST_LINE)
            if not text.endswith(b"\n") and len(text) < LONGEST_LINE:
                now = self._path.stat()
                if now.st_ino == self._place.inode:
                    if now.st_size >= self._place.offset:
                        return None
                    self._place = self._place._replace(offset=0)  # it was cut back and is filled anew
                    continue
            if not text:
                self._open(self._path)
                continue
            # Of a file that was moved away half a line is a line: nobody writes its other half.
            start, self._place = self._place, self._place._replace(offset=self._place.offset + len(text))
            return Line(start, self._place, text.decode(errors="replace").rstrip("\r\n"))

    def behind(self) -> int:
        """Bytes of the open file that were not read yet."""
        return os.fstat(self._opened.fileno()).st_size - self._place.offset

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def _opened(self) -> BinaryIO:
        assert self._file is not None, "open_at or open_at_end comes first"
        return self._file

    def _open(self, path: Path) -> None:
        opened = path.open("rb")
        self.close()
        self._file = opened
        self._place = Place(os.fstat(opened.fileno()).st_ino, 0)

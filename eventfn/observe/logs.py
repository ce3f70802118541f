"""Functions' log lines on disk: one writer thread per node, and readers that need no node.

    <folder>/<function>.log       one JSON object per line: {"timestamp": epoch ms, "stream": "...", "message": "..."}
    <folder>/<function>.log.1 ... the files before it, the oldest with the highest number

A line is never worth an invocation: `LogStore.write` takes it into memory and returns. When the disk is too slow or
full, lines are dropped, counted, and a line in the same file says how many.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import heapq
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from eventfn.clock import Clock

FLUSH_SECONDS = 0.075  # how long a line may wait in memory: short enough for `logs -f`, long enough to write in bulk
FLUSH_BYTES = 262_144  # ... or until so much has gathered: each write opens, looks and closes
_NO_SKIP_BYTES = 65_536  # of lines that are read rather than looked for
_MOMENTS_MS = 600_000  # by which a line may stand behind a later one
OWN_STREAM = "eventfn"  # the stream of the store's own lines

log = logging.getLogger(__name__)

_encode_lines = msgspec.json.Encoder().encode_lines


class Line(msgspec.Struct, omit_defaults=True):
    """One log event. `function` is the file's name, so it is not in the file."""

    timestamp: int
    stream: str
    message: str
    function: str = ""


class _Buffer:
    """The lines of one function that are not on disk yet. Each function has its own, so a flood drowns only itself."""

    __slots__ = ("count", "dropped", "failing", "path", "reason", "size", "texts", "unreported")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.texts: list[bytes] = []  # whole lines, as they will stand in the file
        self.size = 0  # bytes
        self.count = 0  # lines
        self.dropped = 0  # since the start
        self.unreported = 0  # of those, not yet told in the file
        self.reason = ""
        self.failing = False  # the last write failed: said once in our own log, not ten times a second

    def drop(self, count: int, reason: str) -> None:
        self.dropped += count
        self.unreported += count
        self.reason = reason


class LogStore:
    """The LogSink of a node: `open`, any number of `write` from any thread, `close`.

    rotate_bytes  a file is set aside when the next lines would make it larger
    files         how many are kept for each function, the current one included
    buffer_size   bytes that may wait in memory for each function (twice that while a write is under way)
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        *,
        rotate_bytes: int = 10_000_000,
        files: int = 5,
        buffer_size: int = 1_000_000,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._rotate_bytes = rotate_bytes
        self._files = files
        self._buffer_size = buffer_size
        self._buffers: dict[str, _Buffer] = {}
        self._waiting: set[str] = set()  # functions with lines to write
        self._urgent = False  # enough has gathered: write now
        self._closing = False
        self._lock = threading.Lock()  # what `write` takes: a Condition's own way in is Python and costs as much again
        self._changed = threading.Condition(self._lock)
        self._writer: threading.Thread | None = None

    def open(self) -> None:
        """Makes the folder and starts the writer. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A daemon: a disk that hangs for ever must not keep a node from exiting.
        self._writer = threading.Thread(target=self._write_until_closed, name="eventfn-logs", daemon=True)
        self._writer.start()

    def write(self, function: str, stream: str, timestamp_ms: int, message: str) -> None:
        """Never blocks on the disk, never raises."""
        self.write_all(function, stream, ((timestamp_ms, message),))

    def write_all(self, function: str, stream: str, messages: Sequence[tuple[int, str]]) -> None:
        """As `write`, each message with its timestamp."""
        # Bytes at once: it costs a third of keeping objects for the writer, and nothing is left for it but to write.
        text = encode([Line(timestamp_ms, stream, message) for timestamp_ms, message in messages])
        with self._lock:
            buffer = self._buffers.get(function)
            if buffer is None:
                buffer = self._buffers[function] = _Buffer(self._folder / f"{function}.log")
            size = buffer.size + len(text)
            if size > self._buffer_size:
                buffer.drop(len(messages), "they came faster than the disk takes them")
                return
            buffer.texts.append(text)
            buffer.size = size
            buffer.count += len(messages)
            wake = not self._waiting
            self._waiting.add(function)
            if size >= FLUSH_BYTES and not self._urgent:
                self._urgent = wake = True
            if wake:
                self._changed.notify()

    def dropped(self, function: str) -> int:
        """How many lines of it were lost since the start."""
        buffer = self._buffers.get(function)
        return 0 if buffer is None else buffer.dropped

    async def close(self, deadline: float = 5.0) -> None:
        """Writes what is in memory; gives up on a disk that hangs after `deadline` seconds. Works twice."""
        writer = self._writer
        if writer is None:
            return
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(writer.join, deadline)

    # --- the writer thread --------------------------------------------------------------------------------------------

    def _write_until_closed(self) -> None:
        closing = False
        while not closing:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                self._changed.wait_for(lambda: self._urgent or self._closing, FLUSH_SECONDS)
                closing = self._closing
                if closing:  # also those with nothing left but a number of dropped lines to tell
                    self._waiting.update(name for name, buffer in self._buffers.items() if buffer.unreported)
                taken = [(name, self._buffers[name], *self._take(self._buffers[name])) for name in self._waiting]
                self._waiting.clear()
                self._urgent = False
            for name, buffer, texts, count in taken:
                self._append(name, buffer, texts, count)

    @staticmethod
    def _take(buffer: _Buffer) -> tuple[list[bytes], int]:
        texts, count = buffer.texts, buffer.count
        buffer.texts, buffer.size, buffer.count = [], 0, 0
        return texts, count

    def _append(self, function: str, buffer: _Buffer, texts: list[bytes], count: int) -> None:
        with self._changed:
            told, reason = buffer.unreported, buffer.reason
            buffer.unreported = 0
        if told:
            text = f"eventfn: {told} log lines of this function were dropped here: {reason}"
            texts.append(encode([Line(self._clock.now_ms(), OWN_STREAM, text)]))
        path = buffer.path
        try:
            # Opened for each write: a file that an operator has moved or deleted is not written to in secret, and
            # descriptors do not grow with the number of functions.
            append(path, b"".join(texts), self._rotate_bytes, self._files)
        except OSError as error:
            with self._changed:
                buffer.drop(count, error.strerror or str(error))
                buffer.unreported += told
            if not buffer.failing:
                log.warning("log lines of %s are being lost: %s: %s", function, path, error)
            buffer.failing = True
        else:
            buffer.failing = False


def encode(lines: list[Line]) -> bytes:
    """One JSON object per line."""
    try:
        return _encode_lines(lines)
    except UnicodeEncodeError:  # bytes of a function that were no UTF-8, kept as surrogates
        for line in lines:
            line.message = line.message.encode(errors="replace").decode()
        return _encode_lines(lines)


def append(path: Path, data: bytes, rotate_bytes: int, files: int) -> None:
    """All of `data` or none of it, in whole lines. Raises OSError: then the file is as it was."""
    descriptor = _open_for_append(path)
    try:
        size = os.fstat(descriptor).st_size
        if size and size + len(data) > rotate_bytes:
            os.close(descriptor)
            descriptor = -1
            rotate(path, files)
            descriptor, size = _open_for_append(path), 0
        elif size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data  # a node was killed in the middle of a line: it must not swallow the next one
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _open_for_append(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def rotate(path: Path, files: int) -> None:
    """x.log becomes x.log.1 and so on; with `files` in all, the oldest is overwritten."""
    for number in range(files - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        newer = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
        with contextlib.suppress(FileNotFoundError):
            newer.replace(older)


# --- reading ---------------------------------------------------------------------------------------------------------


def functions(folder: Path) -> list[str]:
    """The functions that have a log, by name."""
    return sorted(path.name.removesuffix(".log") for path in folder.glob("*.log"))


def read(folder: Path, function: str | None = None, since_ms: int = 0) -> Iterator[Line]:
    """The lines on disk, oldest first; of all functions, merged by time, when none is named."""
    with contextlib.closing(Follower(folder, function, since_ms)) as follower:
        yield from follower.poll()


class Follower:
    """`read`, then whatever is written later: each `poll` returns what is new since the last one."""

    def __init__(self, folder: Path, function: str | None = None, since_ms: int = 0) -> None:
        self._folder = folder
        self._function = function
        self._since_ms = since_ms
        self._tails: dict[str, Tail] = {}

    def poll(self) -> Iterator[Line]:
        for name in functions(self._folder) if self._function is None else [self._function]:
            if name not in self._tails:
                self._tails[name] = Tail(self._folder, name, self._since_ms)
        return heapq.merge(*(tail.poll() for tail in self._tails.values()), key=_timestamp)

    def close(self) -> None:
        for tail in self._tails.values():
            tail.close()


class Position(NamedTuple):
    """Where a line begins: a number that its file keeps when it is set aside, and the offset."""

    file: int
    offset: int


class Tail:
    """One function's log, read on and on across rotations: no line twice, none left out, unless its file was
    overwritten by newer ones before it was read."""

    def __init__(self, folder: Path, function: str, since_ms: int = 0) -> None:
        self._path = folder / f"{function}.log"
        self._function = function
        self._since_ms = since_ms
        self._files: list[BinaryIO] = []  # the one that is being read, then newer ones
        self._decode = msgspec.json.Decoder(Line).decode

    def poll(self) -> Iterator[Line]:
        """What is there now and was not returned before. To be exhausted before the next call."""
        for _, line in self.events():
            yield line

    def events(self, after: Position | None = None) -> Iterator[tuple[Position, Line]]:
        """As `poll`, with the place of each line. `after`, at the first call: only what stands behind that one, all if
        its file is gone."""
        self._files += self._newer_files()
        if after is not None:
            self._go_behind(after)
        while self._files:
            file = self._files[0]
            number = _number(file)
            if self._since_ms and not file.tell():
                self._skip_older(file)
            for offset, line in self._new_lines(file):
                yield Position(number, offset), line
            if len(self._files) == 1:
                return
            self._files.pop(0).close()

    def _skip_older(self, file: BinaryIO) -> None:
        """Lines stand in the order of their times, but for moments: most of what is too old need not be read."""
        low, high = 0, os.fstat(file.fileno()).st_size
        while high - low > _NO_SKIP_BYTES:
            middle = (low + high) // 2
            file.seek(middle)
            file.readline()
            try:
                is_older = self._decode(file.readline()).timestamp < self._since_ms - _MOMENTS_MS
            except msgspec.DecodeError:
                is_older = False
            low, high = (middle, high) if is_older else (low, middle)
        file.seek(low)
        if low:
            file.readline()

    def _go_behind(self, position: Position) -> None:
        numbers = [_number(file) for file in self._files]
        if position.file not in numbers:
            return
        for _ in range(numbers.index(position.file)):
            self._files.pop(0).close()
        self._files[0].seek(position.offset)
        self._files[0].readline()

    def close(self) -> None:
        while self._files:
            self._files.pop().close()

    def _newer_files(self) -> list[BinaryIO]:
        """The files begun after the one that is being read, oldest first."""
        reading = os.fstat(self._files[0].fileno()).st_ino if self._files else None
        found: dict[int, BinaryIO] = {}
        # From the newest to the oldest: a rotation meanwhile then shows a file twice and never hides one. It leaves at
        # most one number without a file at a time, so two of them are the end.
        number = missing = 0
        while missing < 2:
            path = self._path if number == 0 else self._path.with_name(f"{self._path.name}.{number}")
            number += 1
            try:
                file = path.open("rb")
            except FileNotFoundError:
                missing += 1
                continue
            missing = 0
            inode = os.fstat(file.fileno()).st_ino
            if inode == reading or inode in found:
                file.close()
            else:
                found[inode] = file
            if inode == reading:
                break
        return list(reversed(found.values()))

    def _new_lines(self, file: BinaryIO) -> Iterator[tuple[int, Line]]:
        size = os.fstat(file.fileno()).st_size
        if size < file.tell():
            file.seek(size)  # it was cut: emptied by hand, or a write to a full disk was taken back
        while True:
            start = file.tell()
            raw = file.readline()
            if not raw.endswith(b"\n"):
                file.seek(start)  # a line that is being written: next time
                return
            try:
                line = self._decode(raw)
            except msgspec.DecodeError:
                continue  # the torn line of a node that was killed
            if line.timestamp >= self._since_ms:
                line.function = self._function
                yield start, line


def _number(file: BinaryIO) -> int:
    """Of its inode and its first line: the inode alone is soon another file's, once this one is gone."""
    at = file.tell()
    file.seek(0)
    first = file.readline() + str(os.fstat(file.fileno()).st_ino).encode()
    file.seek(at)
    return int.from_bytes(hashlib.blake2b(first, digest_size=8).digest())


def _timestamp(line: Line) -> int:
    return line.timestamp

"""A log group as CloudWatch Logs pages through it: events with ids, streams, and tokens to go on from.

A group's events are those of the functions that log to it. Reading is bounded in what it looks at and in what it
returns: who wants more comes again with the token. It blocks on the disk, so it belongs in a thread.

Not here: the wire (api/cloudwatch_logs.py), the files (logs.py).
"""

from __future__ import annotations

import contextlib
import heapq
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventfn.observe.filter_patterns import Matches
from eventfn.observe.logs import Line, Position, Tail

MOST_EVENTS = 10_000  # in one answer, AWS's
_MOST_BYTES = 1_000_000
_EVENT_BYTES = 26  # what CloudWatch Logs counts for each event beside its text
_LOOKED_AT = 100_000  # lines for one answer: a quarter of a second


class Event(NamedTuple):
    """`id` is the same whenever it is read, and grows within a function."""

    id: str
    timestamp: int  # ms
    stream: str
    message: str


class Stream(msgspec.Struct):
    """Times are of its events, in ms."""

    name: str
    first: int
    last: int


class BadToken(ValueError):
    """It was not given by an answer."""


_NO_FUNCTIONS, _BEGINNING = "-", "0"  # in tokens
_POSITION = re.compile(r"([0-9a-f]{1,16})\.([0-9a-f]{1,16})|0")

_Found = tuple[int, Position, Line]  # which function it is of


def search(
    folder: Path,
    functions: Sequence[str],
    *,
    start: int,
    end: int | None,
    matches: Matches,
    streams: Sequence[str] | None,
    prefix: str,
    limit: int,
    token: str | None,
) -> tuple[list[Event], str | None]:
    """What FilterLogEvents answers, and the token for what comes after it; None when all was looked at. `end` is
    exclusive. Raises BadToken."""
    wanted = None if streams is None else frozenset(streams)
    after: list[Position | None] = [None] * len(functions) if token is None else _positions(token, functions)
    found: list[Event] = []
    size = looked_at = 0
    full = False
    for which, position, line in _merged(folder, functions, start, after):
        if full or looked_at == _LOOKED_AT:
            full = True
            break
        looked_at += 1
        after[which] = position
        if end is not None and line.timestamp >= end:
            continue
        if (wanted is None or line.stream in wanted) and line.stream.startswith(prefix) and matches(line.message):
            found.append(_event(position, line))
            size += len(line.message) + _EVENT_BYTES
            full = len(found) >= limit or size >= _MOST_BYTES
    found.sort(key=lambda event: event.timestamp)
    return found, _token(after) if full else None


def read(
    folder: Path,
    functions: Sequence[str],
    stream: str,
    *,
    start: int,
    end: int | None,
    limit: int,
    from_head: bool,
    token: str | None,
) -> tuple[list[Event], str, str]:
    """What GetLogEvents answers, and the tokens for what comes after and before it: the one that was given, when there
    is nothing. Raises BadToken."""
    forward = from_head
    after: list[Position | None] = [None] * len(functions)
    before: list[Position | None] | None = None
    if token is not None:
        forward = token.startswith("f/")
        if token[:2] not in ("f/", "b/"):
            raise BadToken
        if forward:
            after = _positions(token[2:], functions)
        else:
            before = _positions(token[2:], functions)
    kept: deque[_Found] = deque()
    size = 0
    first = list(after)
    for which, position, line in _merged(folder, functions, start, after):
        if line.stream != stream or (end is not None and line.timestamp >= end):
            continue
        if before is not None and position == before[which]:
            break
        kept.append((which, position, line))
        size += len(line.message) + _EVENT_BYTES
        if len(kept) <= limit and size <= _MOST_BYTES:
            continue
        if forward:
            kept.pop()
            break
        while len(kept) > limit or (size > _MOST_BYTES and len(kept) > 1):
            size -= len(kept.popleft()[2].message) + _EVENT_BYTES
    last: list[Position | None] = list(first if before is None else before)
    ahead = list(last)
    for which, position, _ in kept:
        last[which] = position
    for which, position, _ in reversed(kept):
        ahead[which] = position
    return [_event(position, line) for _, position, line in kept], f"f/{_token(last)}", f"b/{_token(ahead)}"


def streams(folder: Path, functions: Sequence[str]) -> list[Stream]:
    """In no order. Looks at everything."""
    found: dict[str, Stream] = {}
    for function in functions:
        with contextlib.closing(Tail(folder, function)) as tail:
            for line in tail.poll():
                known = found.get(line.stream)
                if known is None:
                    found[line.stream] = Stream(line.stream, line.timestamp, line.timestamp)
                else:
                    known.first = min(known.first, line.timestamp)
                    known.last = max(known.last, line.timestamp)
    return list(found.values())


def _merged(folder: Path, functions: Sequence[str], start: int, after: Sequence[Position | None]) -> Iterator[_Found]:
    with contextlib.ExitStack() as opened:
        tails = [opened.enter_context(contextlib.closing(Tail(folder, name, start))) for name in functions]
        yield from heapq.merge(
            *(_lines(which, tail, position) for which, (tail, position) in enumerate(zip(tails, after, strict=True))),
            key=lambda found: found[2].timestamp,
        )


def _lines(which: int, tail: Tail, after: Position | None) -> Iterator[_Found]:
    for position, line in tail.events(after):
        yield which, position, line


def _event(position: Position, line: Line) -> Event:
    number = f"{line.timestamp:016d}{position.file:020d}{position.offset:020d}"
    return Event(number, line.timestamp, line.stream, line.message)


def _token(positions: Sequence[Position | None]) -> str:
    parts = [_BEGINNING if each is None else f"{each.file:x}.{each.offset:x}" for each in positions]
    return "/".join(parts) or _NO_FUNCTIONS


def _positions(token: str, functions: Sequence[str]) -> list[Position | None]:
    parts = token.split("/") if token != _NO_FUNCTIONS else []
    if len(parts) != len(functions):
        raise BadToken
    return [_position(part) for part in parts]


def _position(part: str) -> Position | None:
    found = _POSITION.fullmatch(part)
    if found is None:
        raise BadToken
    return None if part == _BEGINNING else Position(int(found[1], 16), int(found[2], 16))

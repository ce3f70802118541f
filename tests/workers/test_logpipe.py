"""A function's log pipe: lines that it writes, events that come of them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from eventfn.workers.logpipe import MAX_LINE, LogPipe


class Log:
    def __init__(self) -> None:
        self.events: list[str] = []
        out, self._into = os.pipe()
        self.pipe = LogPipe(out, self.events.append)

    def prints(self, what: bytes) -> None:
        assert os.write(self._into, what) == len(what)

    def close(self) -> None:
        self.pipe.close()
        os.close(self._into)


@pytest.fixture
async def log() -> AsyncIterator[Log]:
    log = Log()
    yield log
    log.close()


async def test_each_line_is_an_event(log: Log) -> None:
    log.prints(b"one\ntwo\nthr")
    log.pipe.drain()
    assert log.events == ["one", "two"]
    log.prints(b"ee\nfour")
    log.pipe.drain()
    log.pipe.finish_line()
    assert log.events == ["one", "two", "three", "four"]


async def test_a_line_that_does_not_end_is_cut(log: Log) -> None:
    for _ in range(5):
        log.prints(b"x" * 65_536)
        log.pipe.drain()
    assert log.events == ["x" * MAX_LINE]


async def test_a_thousand_lines_of_a_usual_length_are_as_many_events(log: Log) -> None:
    lines = [f"{number:04} a line that says as much as they mostly do in a log" for number in range(1000)]
    log.prints("".join(f"{line}\n" for line in lines).encode())
    log.pipe.drain()
    assert log.events == lines


async def test_a_flood_of_tiny_lines_is_told_in_fewer_events(log: Log) -> None:
    lines = [str(number) for number in range(10_000)]
    log.prints("\n".join(lines).encode() + b"\n")
    log.pipe.drain()
    assert len(log.events) <= 1000
    assert "\n".join(log.events).split("\n") == lines, "nothing of it is lost"


async def test_a_flood_of_nothing_is_nothing(log: Log) -> None:
    log.prints(b"\n" * 60_000 + b"end\n")
    log.pipe.drain()
    assert log.events == ["end"]


async def test_one_turn_of_the_loop_takes_a_page_of_it(log: Log) -> None:
    log.prints(b"a\n" * 30_000)
    log.pipe.drain_some()
    assert sum(len(event.split("\n")) for event in log.events) == 2048

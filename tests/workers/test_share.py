"""How an environment's sockets share the loop with everybody else's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from eventfn.workers.share import Share
from tests.support import until


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with contextlib.ExitStack() as stack:
        made = [socket.socketpair() for _ in range(40)]
        for pair in made:
            for end in pair:
                stack.enter_context(end)
                end.setblocking(False)
        yield made


async def test_a_turn_serves_a_few_and_nobody_starves(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    share, called, most = Share(), [0] * len(pairs), 0
    try:
        for at, (ours, theirs) in enumerate(pairs):
            theirs.send(b"x")  # never read: it stays ready

            def count(at: int = at) -> None:
                called[at] += 1

            share.on_readable(ours.fileno(), count)
        while min(called) < 3:
            before = sum(called)
            await asyncio.sleep(0)
            most = max(most, sum(called) - before)
        assert most == 8
        assert max(called) <= 4
    finally:
        share.close()


async def test_reading_and_writing_of_one_socket_come_and_go(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    (ours, theirs), *_ = pairs
    share, seen = Share(), set[str]()
    share.on_readable(ours.fileno(), lambda: seen.add("read"))
    share.on_writable(ours.fileno(), lambda: seen.add("write"))
    await until(lambda: seen == {"write"}, "there is room to write")
    theirs.send(b"x")
    await until(lambda: seen == {"read", "write"}, "both")
    share.on_writable(ours.fileno(), None)
    seen.clear()
    await until(lambda: seen == {"read"}, "only read")
    share.on_readable(ours.fileno(), None)
    share.on_readable(ours.fileno(), None)  # again, which changes nothing
    share.close()


async def test_a_broken_connection_that_nobody_watches_keeps_nobody_busy(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    (ours, theirs), (other, far), *_ = pairs
    share, turns = Share(), list[str]()
    share.on_readable(ours.fileno(), lambda: share.on_readable(ours.fileno(), None))
    theirs.close()
    share.on_readable(other.fileno(), lambda: turns.append(os.read(other.fileno(), 1).decode()))
    far.send(b"x")
    await until(lambda: turns == ["x"], "the other one was read")
    with pytest.raises(FileNotFoundError):
        share._epoll.modify(ours.fileno(), 0)  # the kernel knows nothing of it any more
    share.close()


async def test_a_call_may_end_another_one_of_the_same_turn(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    share, calls = Share(), list[int]()

    def end_all(at: int) -> None:
        calls.append(at)
        for ours, _ in pairs[:4]:
            share.on_readable(ours.fileno(), None)

    for at, (ours, theirs) in enumerate(pairs[:4]):
        theirs.send(b"x")
        share.on_readable(ours.fileno(), lambda at=at: end_all(at))  # type: ignore[misc] # mypy cannot infer it
    await until(lambda: calls, "one was called")
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(calls) == 1
    share.close()


async def test_a_call_may_close_the_share(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    share, calls = Share(), list[int]()

    def close() -> None:
        calls.append(1)
        share.close()

    for ours, theirs in pairs[:4]:
        theirs.send(b"x")
        share.on_readable(ours.fileno(), close)
    await until(lambda: calls, "one was called")
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(calls) == 1

"""How many requests run at once, and what becomes of messages that nobody takes: with a queue in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from eventfn.errors import ConnectorError
from eventfn.testing import FakeClock, eventually
from eventfn_aws.sqs.receiving import LONG_POLL, Receiver


class Server:
    """A queue of numbers. A request that waits does so until something is put in."""

    def __init__(self, backlog: int = 0) -> None:
        self.waiting = list(range(backlog))
        self.asked: list[tuple[int, int]] = []  # (count, wait)
        self.at_once = 0
        self.most_at_once = 0
        self.kept: list[int] = []
        self.returned: list[int] = []
        self.down = False
        self._put = asyncio.Event()

    def put(self, *numbers: int) -> None:
        self.waiting += numbers
        self._put.set()

    async def receive(self, count: int, wait: int) -> list[int]:
        self.asked.append((count, wait))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            if self.down:
                raise ConnectorError("down")
            if not self.waiting and wait:
                self._put.clear()
                await self._put.wait()
            taken, self.waiting = self.waiting[:count], self.waiting[count:]
            return taken
        finally:
            self.at_once -= 1

    async def extend(self, numbers: Sequence[int]) -> None:
        self.kept += numbers

    async def give_back(self, numbers: Sequence[int]) -> None:
        self.returned += numbers


def receiver(server: Server, clock: FakeClock | None = None) -> Receiver[int]:
    return Receiver(server.receive, server.extend, server.give_back, clock or FakeClock())


async def test_an_idle_queue_has_one_long_poll() -> None:
    server = Server()
    receiving = receiver(server)
    reading = asyncio.create_task(receiving.read(1000))
    await eventually(lambda: server.asked)
    assert server.asked == [(10, LONG_POLL)]
    server.put(1)
    assert await reading == [1]
    await receiving.close()


async def test_a_backlog_has_more_and_more_and_an_empty_queue_one_again() -> None:
    server = Server(backlog=500)
    receiving = receiver(server)
    read = [await receiving.read(1000) for _ in range(7)]
    assert [len(batch) for batch in read] == [10, 20, 40, 80, 100, 100, 100]
    assert [number for batch in read for number in batch] == list(range(450))
    assert server.most_at_once == 10, "it is bounded"
    server.waiting = []
    reading = asyncio.create_task(receiving.read(1000))
    await eventually(lambda: server.asked[-1][1] == LONG_POLL)
    server.put(1)
    assert await reading == [1]
    assert server.asked[-1] == (10, LONG_POLL)
    await receiving.close()


async def test_a_fifo_queue_has_one_request_at_a_time() -> None:
    server = Server(backlog=100)
    receiving = Receiver(server.receive, server.extend, server.give_back, FakeClock(), 1)
    read = [await receiving.read(1000) for _ in range(5)]
    assert [number for batch in read for number in batch] == list(range(50))
    assert server.most_at_once == 1
    await receiving.close()


@pytest.mark.parametrize("limit", [1, 3, 10, 25, 95])
async def test_no_more_is_asked_for_than_is_wanted(limit: int) -> None:
    server = Server(backlog=1000)
    receiving = receiver(server)
    for _ in range(8):
        server.asked.clear()
        assert 1 <= len(await receiving.read(limit)) <= limit
        assert sum(count for count, _ in server.asked) <= limit
    await receiving.close()
    assert not server.returned


async def test_requests_are_under_way_for_all_that_have_a_place() -> None:
    server = Server(backlog=1000)
    receiving = receiver(server)
    receiving.expected = 50
    read = [await receiving.read(10) for _ in range(20)]
    assert [number for batch in read for number in batch] == list(range(200))
    assert server.most_at_once == 5, "one for each place"
    assert len(server.waiting) >= 1000 - 200 - 40, "and nothing beyond"
    await receiving.close()


@pytest.mark.parametrize(("limit", "expected"), [(1, 5), (3, 9), (10, 30), (10, 320), (100, 500)])
async def test_no_more_is_there_or_on_its_way_than_has_a_place(limit: int, expected: int) -> None:
    server = Server(backlog=10_000)
    receiving = receiver(server)
    receiving.expected = expected
    got = 0
    for _ in range(30):
        got += len(await receiving.read(limit))
        await eventually(lambda: not server.at_once)
        assert 10_000 - len(server.waiting) - got <= expected
    await receiving.close()


async def test_what_waits_for_a_place_is_kept_and_not_given_back() -> None:
    server, clock = Server(backlog=10), FakeClock()
    receiving = receiver(server, clock)
    receiving.expected = 10
    assert await receiving.read(1) == [0]
    others = list(range(1, 10))
    await clock.advance(4.9)
    assert server.kept == []
    await clock.advance(0.2)
    assert server.kept == others
    await clock.advance(5)
    assert server.kept == others * 2, "for as long as it waits"
    assert server.returned == []
    assert await receiving.read(9) == others
    await clock.advance(20)
    assert len(server.kept) == 2 * len(others), "what is read is the host's"
    await receiving.close()
    assert server.returned == []


async def test_a_long_poll_does_not_hold_up_what_others_brought() -> None:
    server = Server()
    receiving = receiver(server)
    reading = asyncio.create_task(receiving.read(10))
    await eventually(lambda: server.asked)  # one that waits
    server.put(*range(10))
    assert len(await reading) == 10  # two are worth it now
    reading = asyncio.create_task(receiving.read(10))
    await eventually(lambda: len(server.asked) == 2)
    assert server.asked[-1] == (10, LONG_POLL), "there is one place"
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    receiving.expected = 100
    server.waiting = list(range(5))  # the one that waits at the server does not hear of these
    assert await receiving.read(10) == list(range(5))
    await receiving.close()


async def test_what_a_cancelled_read_asked_for_is_for_the_next_one() -> None:
    server = Server()
    receiving = receiver(server)
    reading = asyncio.create_task(receiving.read(10))
    await eventually(lambda: server.asked)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    server.put(1, 2, 3)
    assert await receiving.read(2) == [1, 2]
    assert await receiving.read(2) == [3]
    assert len(server.asked) == 1
    await receiving.close()
    assert server.returned == []


async def test_what_nobody_takes_goes_back_soon() -> None:
    server, clock = Server(), FakeClock()
    receiving = receiver(server, clock)
    reading = asyncio.create_task(receiving.read(10))
    await eventually(lambda: server.asked)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    server.put(1, 2)
    await clock.advance(4.9)
    assert server.returned == []
    await clock.advance(0.2)
    assert server.returned == [1, 2]
    await receiving.close()
    assert server.returned == [1, 2]


async def test_what_nobody_has_taken_goes_back_at_the_end() -> None:
    server = Server(backlog=3)
    receiving = receiver(server)
    reading = asyncio.create_task(receiving.read(10))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await eventually(lambda: not server.waiting)
    await receiving.close()
    await receiving.close()
    assert server.returned == [0, 1, 2]
    assert server.at_once == 0


async def test_a_failure_is_told_once_and_to_somebody() -> None:
    server = Server()
    server.down = True
    receiving = receiver(server)
    with pytest.raises(ConnectorError):
        await receiving.read(10)
    reading = asyncio.create_task(receiving.read(10))
    await asyncio.sleep(0)
    reading.cancel()  # nobody hears of this one now
    await asyncio.gather(reading, return_exceptions=True)
    await eventually(lambda: len(server.asked) == 2 and not server.at_once)
    server.down = False
    server.put(1)
    with pytest.raises(ConnectorError):
        await receiving.read(10)
    assert await receiving.read(10) == [1]
    await receiving.close()


async def test_what_is_taken_out_is_read_by_nobody() -> None:
    server = Server()
    receiving = receiver(server)
    reading = asyncio.create_task(receiving.read(10))
    await eventually(lambda: server.asked)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    server.put(1, 2, 3, 4)
    await eventually(lambda: not server.waiting and not server.at_once)
    assert receiving.take(lambda number: number % 2 == 0) == [2, 4]
    assert await receiving.read(10) == [1, 3]
    await receiving.close()

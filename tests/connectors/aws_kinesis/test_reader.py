"""How a shard is read on and on, against a shard that answers what a test says."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfn.errors import ConnectorError
from eventfn.event import Record
from eventfn.testing import FakeClock
from eventfn.trigger import Start
from eventfn_aws.errors import AwsError
from eventfn_aws.shards.reader import Answer, Pace, PacedReader

PACE = Pace(busy=0.2, idle=1.0, most=10)
TRIM_HORIZON, LATEST = Start("TRIM_HORIZON"), Start("LATEST")


def refusal(code: str) -> AwsError:
    return AwsError("GetRecords", code, "no", 400)


class Answers:
    """A ShardApi of `count` records, closed behind them. An iterator is "i" and the number of the next record."""

    def __init__(self, clock: FakeClock, count: int, script: Any = ()) -> None:
        self.clock = clock
        self.count = count
        self.script = deque(script)  # what the next reads do: an exception, or the most records of an answer
        self.opened: list[str | Start] = []
        self.refused: deque[AwsError] = deque()  # what the next iterators are refused with
        self.read_at: list[float] = []

    async def iterator(self, at: str | Start) -> str:
        await asyncio.sleep(0)
        self.opened.append(at)
        if self.refused:
            raise self.refused.popleft()
        if isinstance(at, str):
            return f"i{int(at) + 1}"
        return f"i{self.count}" if at.position == "LATEST" else "i0"

    async def get(self, iterator: str, limit: int) -> Answer:
        await asyncio.sleep(0)
        self.read_at.append(self.clock.monotonic())
        most = self.script.popleft() if self.script else limit
        if isinstance(most, Exception):
            raise most
        at = int(iterator[1:])
        there = range(at, min(at + min(most, limit), self.count))
        records = [Record(id=str(number), payload=b"{}", token=str(number)) for number in there]
        at += len(there)
        ended = at >= self.count and most > 0
        return Answer(records, None if ended else f"i{at}", str(at - 1) if there else None, behind=False)


def reader_of(api: Answers) -> PacedReader:
    return PacedReader(api, PACE, "shardId-0", api.clock, logging.getLogger("eventfn.tests"))


async def read(reader: PacedReader, clock: FakeClock, limit: int = 100) -> list[int]:
    reading = asyncio.ensure_future(reader.read(limit))
    while not reading.done():
        await clock.advance(0.1)
    return [int(record.id) for record in reading.result().records]


PASSING = ("ExpiredIteratorException", "ProvisionedThroughputExceededException", "LimitExceededException")
steps = st.lists(st.integers(0, 4) | st.sampled_from(PASSING), max_size=30)


@settings(max_examples=60)
@given(count=st.integers(0, 30), script=steps, limit=st.integers(1, 7), seed=st.integers(0, 2**32))
def test_every_record_comes_once_and_in_order_whatever_is_answered_and_cancelled(
    count: int, script: list[int | str], limit: int, seed: int
) -> None:
    async def run() -> list[int]:
        chance = random.Random(seed)
        clock = FakeClock()
        api = Answers(clock, count, [refusal(step) if isinstance(step, str) else step for step in script])
        reader = reader_of(api)
        await reader.open(TRIM_HORIZON)
        found: list[int] = []
        while True:
            reading = asyncio.ensure_future(reader.read(limit))
            for _ in range(chance.randrange(5)):
                await asyncio.sleep(0)
            if chance.random() < 0.3:
                reading.cancel()
            while not reading.done():
                await clock.advance(0.5)
            if reading.cancelled():
                continue
            records = reading.result().records
            assert len(records) <= limit
            if not records:
                return found
            found += [int(record.id) for record in records]

    assert asyncio.run(run()) == list(range(count))


async def test_an_idle_shard_is_read_less_often() -> None:
    clock = FakeClock()
    api = Answers(clock, 6, [3, 0, 0, 3])
    reader = reader_of(api)
    await reader.open(TRIM_HORIZON)
    assert await read(reader, clock) == [0, 1, 2]
    assert await read(reader, clock) == [3, 4, 5]
    assert [round(at, 1) for at in api.read_at] == [0, 0.2, 1.2, 2.2]
    assert await read(reader, clock) == []
    assert await read(reader, clock) == [], "it stays at its end"


async def test_too_many_reads_are_waited_for_longer_and_longer_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    throttle = refusal("ProvisionedThroughputExceededException")
    api = Answers(clock, 2, [throttle] * 6 + [1] + [throttle])
    reader = reader_of(api)
    await reader.open(TRIM_HORIZON)
    with caplog.at_level(logging.INFO, "eventfn.tests"):
        assert await read(reader, clock) == [0]
    waited = [round(later - at) for at, later in zip(api.read_at, api.read_at[1:], strict=False)]
    assert waited == [1, 2, 4, 8, 16, 16]
    assert len(caplog.records) == 1
    assert await read(reader, clock) == [1]
    assert round(api.read_at[-1] - api.read_at[-2]) == 1, "it begins anew"
    assert api.opened == [TRIM_HORIZON]


async def test_an_iterator_that_expires_is_opened_behind_what_was_read() -> None:
    clock = FakeClock()
    api = Answers(clock, 4, [2, refusal("ExpiredIteratorException")])
    reader = reader_of(api)
    await reader.open("-1")
    assert await read(reader, clock, 1) == [0]
    assert await read(reader, clock, 1) == [1], "it was read already"
    assert await read(reader, clock) == [2, 3]
    assert api.opened == ["-1", "1"]


async def test_what_is_new_is_found_again_by_the_time_it_was_asked_for() -> None:
    clock = FakeClock(now_ms=5000)
    api = Answers(clock, 0, [0, refusal("ExpiredIteratorException")])
    reader = reader_of(api)
    await reader.open(LATEST)
    assert await read(reader, clock) == []
    assert api.opened == [LATEST, Start("AT_TIMESTAMP", 5000)]


@pytest.mark.parametrize(
    ("at", "code", "instead"),
    [
        ("7", "InvalidArgumentException", TRIM_HORIZON),
        ("7", "TrimmedDataAccessException", TRIM_HORIZON),
        (Start("AT_TIMESTAMP", 9), "InvalidArgumentException", LATEST),
    ],
)
async def test_where_else_a_shard_is_opened(at: str | Start, code: str, instead: Start) -> None:
    api = Answers(FakeClock(), 3)
    api.refused.append(refusal(code))
    await reader_of(api).open(at)
    assert api.opened == [at, instead]


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (TRIM_HORIZON, "InvalidArgumentException"),
        ("7", "ResourceNotFoundException"),
        ("7", "ProvisionedThroughputExceededException"),
        (LATEST, "AccessDeniedException"),
    ],
)
async def test_what_else_is_wrong_is_told(at: str | Start, code: str) -> None:
    api = Answers(FakeClock(), 3)
    api.refused.append(refusal(code))
    with pytest.raises(ConnectorError, match=code):
        await reader_of(api).open(at)


async def test_a_refused_read_is_told_and_the_reader_can_go_on() -> None:
    clock = FakeClock()
    api = Answers(clock, 1, [refusal("AccessDeniedException")])
    reader = reader_of(api)
    await reader.open(TRIM_HORIZON)
    with pytest.raises(ConnectorError, match="AccessDenied"):
        await read(reader, clock)
    assert await read(reader, clock) == [0]

"""Commits of several partitions: taken along together, each told how it went."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventfn.errors import ConnectorError
from eventfn_kafka.commits import Commits
from eventfn_kafka.library import errors


class Consumer:
    """Answers a commit when it is told to."""

    def __init__(self) -> None:
        self.requests: list[dict[Any, Any]] = []
        self.answers: list[asyncio.Future[None]] = []

    async def commit(self, offsets: dict[Any, Any]) -> None:
        self.requests.append(dict(offsets))
        self.answers.append(asyncio.get_running_loop().create_future())
        await self.answers[-1]


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_comes_while_one_is_under_way_goes_together() -> None:
    consumer = Consumer()
    commits = Commits(consumer)
    first = asyncio.ensure_future(commits.commit("a", 1, ""))
    await turns()
    others = [asyncio.ensure_future(commits.commit(*each, "")) for each in (("b", 5), ("c", 7), ("b", 6))]
    await turns()
    assert consumer.requests == [{"a": (1, "")}], "one at a time"
    consumer.answers[0].set_result(None)
    await first
    await turns()
    assert consumer.requests[1:] == [{"b": (6, ""), "c": (7, "")}]
    assert not any(other.done() for other in others)
    consumer.answers[1].set_result(None)
    await asyncio.gather(*others)


async def test_what_goes_wrong_is_told_to_all_that_went_with_it_and_to_nobody_else() -> None:
    consumer = Consumer()
    commits = Commits(consumer)
    first = asyncio.ensure_future(commits.commit("a", 1, ""))
    await turns()
    others = [asyncio.ensure_future(commits.commit(partition, 1, "")) for partition in "bc"]
    await turns()
    consumer.answers[0].set_result(None)
    await first
    await turns()
    last = asyncio.ensure_future(commits.commit("d", 1, ""))
    await turns()
    consumer.answers[1].set_exception(errors.CommitFailedError("rebalanced"))
    for other in others:
        with pytest.raises(ConnectorError, match="rebalanced"):
            await other
    await turns()
    consumer.answers[2].set_result(None)
    await last


async def test_who_is_cancelled_takes_nobody_with_him_in_silence() -> None:
    consumer = Consumer()
    commits = Commits(consumer)
    first = asyncio.ensure_future(commits.commit("a", 1, ""))
    await turns()
    second, third = (asyncio.ensure_future(commits.commit(partition, 1, "")) for partition in "bc")
    await turns()
    consumer.answers[0].set_result(None)
    await first
    await turns()
    second.cancel()
    with pytest.raises(ConnectorError, match="CancelledError"):
        await third
    last = asyncio.ensure_future(commits.commit("d", 1, ""))
    await turns()
    consumer.answers[2].set_result(None)
    await last

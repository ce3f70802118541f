from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import eventfn.testing
from eventfn.errors import FunctionNotFound
from eventfn.functions.model import Queue
from eventfn.testing import FakeClock, Submissions, memory_queues, trigger_context
from eventfn.trigger import QueueMessage
from eventfn.units import Duration


async def test_queues_in_memory_are_a_node_s(tmp_path: Path) -> None:
    clock = FakeClock()
    async with memory_queues(clock, Queue(name="jobs", delay=Duration(60))) as queues:
        context = trigger_context(tmp_path, clock=clock, queues=queues)
        await context.queues.send("jobs", [QueueMessage(body=b"{}")])
        waiting = asyncio.ensure_future(context.queues.wait("jobs"))
        assert await queues.receive("jobs", 1) == []
        await clock.advance(60)
        await waiting
        assert [message.body for message in await queues.receive("jobs", 1)] == [b"{}"]


async def test_without_queues_a_use_of_one_fails_the_test(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="memory_queues"):
        await trigger_context(tmp_path).queues.receive("jobs", 1)


async def test_submissions_are_taken_once_per_key() -> None:
    functions = Submissions(["hello"])
    ids = [await functions.submit("hello", b"1", key) for key in ("a", "b", "a")]
    assert ids == ["request-1", "request-2", "request-1"]
    assert functions.events == [("hello", b"1"), ("hello", b"1")]
    with pytest.raises(FunctionNotFound):
        await functions.submit("hallo", b"1", "c")


def test_every_public_name_is_there() -> None:
    for name in eventfn.testing.__all__:
        assert getattr(eventfn.testing, name).__module__.startswith("eventfn.testing")
    with pytest.raises(AttributeError):
        eventfn.testing.Nothing  # noqa: B018 - looking it up is the test

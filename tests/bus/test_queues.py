"""What SQS promises of a queue, over an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from eventfn.bus.queues import NamedQueues, QueueStatus, Redriven
from eventfn.engine.contract import Operation
from eventfn.engine.memory import MemoryEngine
from eventfn.errors import EngineError, FunctionNotFound, Refused, Throttled
from eventfn.functions.model import Queue
from eventfn.rules.records import BatchFailure, given_up
from eventfn.rules.streaming import EXHAUSTED
from eventfn.testing import FakeClock
from eventfn.trigger import BatchInfo, QueueMessage, ReceivedMessage
from eventfn.units import Duration

DECLARED = [
    Queue(name="slow", delay=Duration(5)),
    Queue(name="fifo", fifo=True),
    Queue(name="content", fifo=True, content_based_deduplication=True),
    Queue(name="work", dead_letter_queue="work-dead", max_receive_count=2),
    Queue(name="patient", dead_letter_queue="work-dead"),
    Queue(name="small", maximum_messages=2),
]


class Engine(MemoryEngine):
    """One that can be made to break, or to take its time."""

    broken = False
    turns = 0  # of the loop, that a commit takes

    async def commit(self, operations: Sequence[Operation], now: int) -> list[str | None]:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        return await super().commit(operations, now)

    async def next_visible(self, prefix: str) -> dict[str, int]:
        if self.broken:
            raise EngineError("the disk is gone")
        return await super().next_visible(prefix)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def engine(clock: FakeClock) -> AsyncIterator[Engine]:
    engine = Engine()
    await engine.open(clock.now_ms())
    yield engine
    await engine.close()


@pytest.fixture
async def queues(engine: Engine, clock: FakeClock) -> AsyncIterator[NamedQueues]:
    queues = NamedQueues(engine, {queue.name: queue for queue in DECLARED}, clock)
    waker = asyncio.create_task(queues.run())
    yield queues
    waker.cancel()
    await asyncio.gather(waker, return_exceptions=True)


async def send(queues: NamedQueues, queue: str, *bodies: str, group: str | None = None) -> list[str]:
    return await queues.send(
        queue, [QueueMessage(body=body.encode(), group=group, dedupe_key=body if group else None) for body in bodies]
    )


def bodies(messages: Sequence[ReceivedMessage]) -> list[str]:
    return [message.body.decode() for message in messages]


async def receive(queues: NamedQueues, queue: str, limit: int = 10) -> list[str]:
    return bodies(await queues.receive(queue, limit))


# --- facts ------------------------------------------------------------------------------------------------------------


def test_a_queue_that_nobody_declared_has_the_defaults(queues: NamedQueues) -> None:
    facts = queues.facts("other")
    assert (facts.name, facts.fifo, facts.visibility_timeout) == ("other", False, 30)
    assert (facts.dead_letter_queue, facts.max_receive_count) == (None, None)


def test_three_receives_are_the_default_before_dead_letters(queues: NamedQueues) -> None:
    assert queues.facts("patient").max_receive_count == 3
    assert queues.facts("work").max_receive_count == 2


# --- visibility -------------------------------------------------------------------------------------------------------


async def test_a_received_message_is_hidden_until_its_timeout_ends(queues: NamedQueues, clock: FakeClock) -> None:
    ids = await send(queues, "q", "one")
    (first,) = await queues.receive("q", 10)
    assert (first.id, first.body, first.receives) == (ids[0], b"one", 1)
    assert first.first_received_ms == first.sent_ms == clock.now_ms()
    assert first.invisible_until_ms == clock.now_ms() + 30_000
    assert await receive(queues, "q") == []
    await clock.advance(30)
    (again,) = await queues.receive("q", 10)
    assert (again.id, again.receives, again.first_received_ms) == (first.id, 2, first.first_received_ms)


async def test_a_deleted_message_is_gone_and_a_late_delete_changes_nothing(
    queues: NamedQueues, clock: FakeClock
) -> None:
    await send(queues, "q", "one", "two")
    first, second = await queues.receive("q", 10)
    assert await queues.delete([first]) == [True]
    await clock.advance(31)
    (again,) = await queues.receive("q", 10)
    assert again.id == second.id
    assert await queues.delete([second]) == [False], "its claim has lapsed"
    assert await queues.delete([second, again]) == [False, True]
    assert await queues.depth("q") == 0


async def test_a_released_message_is_visible_when_it_says(queues: NamedQueues, clock: FakeClock) -> None:
    await send(queues, "q", "one", "two", "three")
    one, two, three = await queues.receive("q", 10)
    assert await queues.release([one], after=0) == [True]
    assert await receive(queues, "q") == ["one"]
    assert await queues.release([two], after=10) == [True]
    assert await queues.release([three]) == [True]
    await clock.advance(10)
    assert await receive(queues, "q") == ["two"]
    await clock.advance(20)
    assert await receive(queues, "q") == ["one", "three"]


async def test_an_extended_message_stays_hidden(queues: NamedQueues, clock: FakeClock) -> None:
    await send(queues, "q", "one")
    held = await queues.receive("q", 10, visibility=5)
    await clock.advance(4)
    assert await queues.extend(held, 60) == [True]
    await clock.advance(59)
    assert await receive(queues, "q") == []
    await clock.advance(1)
    assert await receive(queues, "q") == ["one"]


async def test_delays_of_the_queue_and_of_a_message(queues: NamedQueues, clock: FakeClock) -> None:
    await queues.send("slow", [QueueMessage(body=b"queue's"), QueueMessage(body=b"own", delay=0)])
    assert await receive(queues, "slow") == ["own"]
    await clock.advance(5)
    assert await receive(queues, "slow") == ["queue's"]


async def test_a_full_queue_takes_nothing_more(queues: NamedQueues) -> None:
    await send(queues, "small", "one")
    with pytest.raises(Throttled) as caught:
        await send(queues, "small", "two", "three")
    assert caught.value.reason == "queue small holds its maximum of 2 messages"
    assert await queues.depth("small") == 1, "all or nothing"


async def test_a_body_is_text(queues: NamedQueues) -> None:
    with pytest.raises(Refused, match="must be UTF-8 text"):
        await queues.send("q", [QueueMessage(body=b"\xff")])


# --- FIFO -------------------------------------------------------------------------------------------------------------


async def test_a_group_waits_for_its_messages_in_flight(queues: NamedQueues) -> None:
    await send(queues, "fifo", "a1", "a2", group="a")
    await send(queues, "fifo", "b1", group="b")
    first = await queues.receive("fifo", 1)
    assert bodies(first) == ["a1"]
    assert await receive(queues, "fifo") == ["b1"]
    await queues.delete(first)
    assert await receive(queues, "fifo") == ["a2"]


async def test_a_retried_message_holds_back_its_group(queues: NamedQueues, clock: FakeClock) -> None:
    await send(queues, "fifo", "a1", "a2", group="a")
    held = await queues.receive("fifo", 10)
    assert bodies(held) == ["a1", "a2"]
    await queues.release(held, after=3)
    assert await receive(queues, "fifo") == []
    await clock.advance(3)
    assert await receive(queues, "fifo") == ["a1", "a2"]


async def test_a_fifo_queue_needs_group_and_deduplication(queues: NamedQueues) -> None:
    with pytest.raises(Refused, match="needs a group"):
        await queues.send("fifo", [QueueMessage(body=b"x")])
    with pytest.raises(Refused, match="needs a deduplication id"):
        await queues.send("fifo", [QueueMessage(body=b"x", group="g")])


async def test_the_same_body_is_sent_once_in_the_window(queues: NamedQueues, clock: FakeClock) -> None:
    same = QueueMessage(body=b"x", group="g")
    first = await queues.send("content", [same])
    assert await queues.send("content", [same]) == first
    await queues.delete(await queues.receive("content", 10))
    assert await queues.send("content", [same]) == first, "also when it is long gone"
    assert await queues.depth("content") == 0
    await clock.advance(300)
    assert await queues.send("content", [same]) != first


async def test_a_dedupe_key_counts_before_the_body_and_in_plain_queues_too(queues: NamedQueues) -> None:
    await queues.send("content", [QueueMessage(body=b"x", group="g", dedupe_key=key) for key in ("1", "2")])
    assert await queues.depth("content") == 2
    await queues.send("q", [QueueMessage(body=body, dedupe_key="1") for body in (b"x", b"y")])
    assert await receive(queues, "q") == ["x"]


# --- waiting ----------------------------------------------------------------------------------------------------------


async def waiting(queues: NamedQueues, queue: str, clock: FakeClock) -> asyncio.Task[None]:
    task = asyncio.create_task(queues.wait(queue))
    await clock.advance(0)
    return task


async def test_waiting_ends_with_a_send(queues: NamedQueues, clock: FakeClock) -> None:
    ours, other = await waiting(queues, "q", clock), await waiting(queues, "other", clock)
    assert not ours.done()
    await send(queues, "q", "one")
    await asyncio.wait_for(ours, 60)
    assert not other.done()
    other.cancel()


async def test_waiting_ends_at_once_when_something_is_visible(queues: NamedQueues) -> None:
    await send(queues, "q", "one")
    await asyncio.wait_for(queues.wait("q"), 60)


async def test_waiting_ends_when_a_timeout_ends(queues: NamedQueues, clock: FakeClock) -> None:
    await send(queues, "q", "one")
    await queues.receive("q", 10)
    task = await waiting(queues, "q", clock)
    await clock.advance(29)
    assert not task.done()
    await clock.advance(1)
    await asyncio.wait_for(task, 60)


async def test_waiting_ends_when_a_release_comes_due(queues: NamedQueues, clock: FakeClock) -> None:
    await send(queues, "q", "one")
    held = await queues.receive("q", 10)

    async def consume() -> list[str]:
        while not (messages := await queues.receive("q", 10)):
            await queues.wait("q")
        return bodies(messages)

    task = asyncio.create_task(consume())
    await clock.advance(0)
    await queues.release(held, after=7)
    await clock.advance(6.9)
    assert not task.done()
    await clock.advance(0.1)
    assert await asyncio.wait_for(task, 60) == ["one"]


async def test_a_blocked_group_does_not_make_waiting_spin(queues: NamedQueues, clock: FakeClock) -> None:
    await send(queues, "fifo", "a1", "a2", group="a")
    held = await queues.receive("fifo", 1)
    task = await waiting(queues, "fifo", clock)
    assert not task.done(), "a2 is visible to nobody before a1 is settled"
    await queues.delete(held)
    await asyncio.wait_for(task, 60)
    assert await receive(queues, "fifo") == ["a2"]


async def test_who_waits_is_told_that_the_engine_broke(queues: NamedQueues, engine: Engine, clock: FakeClock) -> None:
    engine.broken = True
    with pytest.raises(EngineError, match="the disk is gone"):
        await asyncio.wait_for(queues.wait("q"), 60)
    engine.broken = False
    await send(queues, "q", "one")
    await asyncio.wait_for(queues.wait("q"), 60)


async def test_a_cancelled_receive_has_taken_nothing(queues: NamedQueues) -> None:
    await send(queues, "q", "one")
    for turns in range(5):
        task = asyncio.create_task(queues.receive("q", 10))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            messages = await task
        except asyncio.CancelledError:
            messages = await queues.receive("q", 10)
        assert bodies(messages) == ["one"]
        await queues.release(messages, after=0)


@pytest.mark.parametrize("turns", range(12))
async def test_a_receive_cancelled_at_any_moment_hides_nothing_and_counts_nothing(
    queues: NamedQueues, engine: Engine, turns: int
) -> None:
    await send(queues, "work", "worn-out", "good")
    for _ in range(2):
        await queues.release(await queues.receive("work", 1), after=0)
    engine.turns = 4
    task = asyncio.create_task(queues.receive("work", 10))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    try:
        messages = await task
    except asyncio.CancelledError:
        messages = await queues.receive("work", 10)
    assert [(message.body, message.receives) for message in messages] == [(b"good", 1)]
    assert await receive(queues, "work-dead") == ["worn-out"]


# --- dead letters -----------------------------------------------------------------------------------------------------


async def test_a_message_received_too_often_goes_to_the_dead_letters(queues: NamedQueues, clock: FakeClock) -> None:
    ids = await send(queues, "work", "bad", "good")
    for _ in range(2):
        bad, *_ = await queues.receive("work", 1)
        assert bad.body == b"bad"
        await queues.release([bad], after=0)
    assert await receive(queues, "work", 2) == ["good"]
    (dead,) = await queues.receive("work-dead", 10)
    assert (dead.id, dead.body, dead.receives) == (ids[0], b"bad", 1)
    assert dead.attributes == {"eventfn.origin": "queue:work"}


async def test_redrive_sends_messages_back_to_their_queue(queues: NamedQueues) -> None:
    (sent,) = await send(queues, "work", "bad")
    for _ in range(3):
        await queues.release(await queues.receive("work", 1), after=0)
    assert await queues.redrive("work-dead", no_submit) == Redriven(1, {})
    (again,) = await queues.receive("work", 10)
    assert (again.id, again.receives) == (sent, 1)
    assert await queues.depth("work-dead") == 0


class Functions:
    """Functions that take events, each dedupe key once."""

    def __init__(self) -> None:
        self.events: list[tuple[str, bytes, str]] = []
        self.room = 100

    async def submit(self, function: str, payload: bytes, dedupe_key: str) -> str:
        if function == "gone":
            raise FunctionNotFound(function)
        if len(self.events) == self.room:
            raise Throttled("QueuedEvents")
        if (function, payload, dedupe_key) not in self.events:
            self.events.append((function, payload, dedupe_key))
        return "request"


async def no_submit(function: str, payload: bytes, dedupe_key: str) -> str:
    raise AssertionError("no function was to be asked")


def dead_event(origin: str, body: bytes, shape: str = "event") -> QueueMessage:
    return QueueMessage(body=body, attributes={"eventfn.origin": origin, "eventfn.shape": shape})


async def test_redrive_submits_events_to_their_function(queues: NamedQueues) -> None:
    record = b'{"version":"1.0","requestPayload":{"a": 1.0, "z":null},"responsePayload":{}}'
    ids = await queues.send(
        "dead-letters", [dead_event("fn:thumb", record, "record"), dead_event("fn:thumb", b'{"b": 2}')]
    )
    functions = Functions()
    assert await queues.redrive("dead-letters", functions.submit) == Redriven(2, {})
    assert functions.events == [("thumb", b'{"a": 1.0, "z":null}', ids[0]), ("thumb", b'{"b": 2}', ids[1])]
    assert await queues.depth("dead-letters") == 0


async def test_redrive_submits_the_batch_of_a_stream_to_its_function(queues: NamedQueues) -> None:
    failure = BatchFailure(
        id="e4b1",
        function_arn="arn:aws:lambda:us-east-1:000000000000:function:thumb",
        condition=EXHAUSTED,
        invokes=1,
        outcome=None,
        info=BatchInfo("KinesisBatchInfo", {"batchSize": 1}),
        event=b'{"Records":[{"a": 1.0, "z":null}]}',
    )
    with_records, without = (given_up(failure, uri, 0) for uri in ("queue:dead-letters", "sqs:failed"))
    ids = await queues.send(
        "dead-letters",
        [QueueMessage(body=each.payload, attributes=each.attributes) for each in (with_records, without)],
    )
    functions = Functions()
    redriven = await queues.redrive("dead-letters", functions.submit)
    assert functions.events == [("thumb", failure.event, ids[0])]
    assert redriven.moved == 1
    assert list(redriven.kept) == [ids[1]]
    assert "payload" in redriven.kept[ids[1]]


async def test_what_cannot_be_redriven_stays_with_its_reason(queues: NamedQueues) -> None:
    ids = await queues.send(
        "dead-letters",
        [
            QueueMessage(body=b"somebody's own"),
            dead_event("fn:gone", b"{}"),
            dead_event("fn:thumb", b"no record", "record"),
            dead_event("queue:dead-letters", b"{}"),
            dead_event("fn:thumb", b"{}"),
        ],
    )
    functions = Functions()
    redriven = await queues.redrive("dead-letters", functions.submit)
    assert redriven.moved == 1
    assert list(redriven.kept) == ids[:4]
    reasons = list(redriven.kept.values())
    assert reasons[0] == "it does not say where it came from"
    assert reasons[1] == "Function not found: gone"
    assert reasons[2].startswith("it is no destination record of Lambda's")
    assert reasons[3] == "it came from this very queue"
    assert [message.id for message in await queues.receive("dead-letters", 10)] == ids[:4], "visible at once"


async def test_redrive_stops_when_a_function_takes_no_more(queues: NamedQueues) -> None:
    await queues.send("dead-letters", [dead_event("fn:thumb", str(n).encode()) for n in range(5)])
    functions = Functions()
    functions.room = 2
    with pytest.raises(Throttled):
        await queues.redrive("dead-letters", functions.submit)
    assert await receive(queues, "dead-letters") == ["2", "3", "4"]


async def test_redrive_sends_back_as_many_as_asked_for(queues: NamedQueues) -> None:
    await queues.send("dead-letters", [dead_event("fn:thumb", str(n).encode()) for n in range(5)])
    functions = Functions()
    assert await queues.redrive("dead-letters", functions.submit, limit=3) == Redriven(3, {})
    assert await receive(queues, "dead-letters") == ["3", "4"]


async def test_redrive_does_not_chase_what_fails_again_at_once(queues: NamedQueues) -> None:
    await queues.send("dead-letters", [dead_event("fn:thumb", str(n).encode()) for n in range(3)])

    async def fails_again(function: str, payload: bytes, dedupe_key: str) -> str:
        await queues.send("dead-letters", [dead_event("fn:thumb", payload)])
        return "request"

    assert await queues.redrive("dead-letters", fails_again) == Redriven(3, {})
    assert await queues.depth("dead-letters") == 3


async def test_a_crash_in_the_middle_of_a_redrive_repeats_nothing(queues: NamedQueues, clock: FakeClock) -> None:
    await queues.send("dead-letters", [dead_event("fn:thumb", b"{}")])
    functions = Functions()

    async def killed_after(function: str, payload: bytes, dedupe_key: str) -> str:
        await functions.submit(function, payload, dedupe_key)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await queues.redrive("dead-letters", killed_after)
    assert await queues.redrive("dead-letters", functions.submit) == Redriven(1, {})
    assert len(functions.events) == 1, "its id was the dedupe key both times"
    assert await queues.depth("dead-letters") == 0


# --- for people -------------------------------------------------------------------------------------------------------


async def test_the_overview_shows_what_is_declared_and_what_is_there(queues: NamedQueues, clock: FakeClock) -> None:
    await send(queues, "other", "one", "two")
    await queues.receive("other", 1)
    await send(queues, "slow", "later")
    found = {status.name: status for status in await queues.overview()}
    assert list(found) == sorted({*found, *(queue.name for queue in DECLARED)})
    assert found["other"] == QueueStatus("other", False, 1, 1, 0, clock.now_ms(), None)
    assert found["slow"].delayed == 1
    assert found["work"] == QueueStatus("work", False, 0, 0, 0, None, "work-dead")
    assert msgspec.json.encode(found["fifo"])


async def test_peeking_changes_nothing_and_pages(queues: NamedQueues) -> None:
    await send(queues, "q", "one", "two", "three")
    first = await queues.peek("q", 2)
    assert [message.body for message in first] == [b"one", b"two"]
    assert [message.body for message in await queues.peek("q", 2, after=first[-1].sequence)] == [b"three"]
    assert [message.receives for message in await queues.receive("q", 10)] == [1, 1, 1]


async def test_purging_drops_everything(queues: NamedQueues) -> None:
    await send(queues, "q", "one", "two")
    held = await queues.receive("q", 1)
    assert await queues.purge("q") == 2
    assert await queues.delete(held) == [False]
    assert await queues.depth("q") == 0

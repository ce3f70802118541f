"""The queue connector: its shape on the wire, and both conformance suites over the real queues in memory."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from eventfn.bus.queues import NamedQueues
from eventfn.destination import DestinationContext, OutgoingRecord, Rejected, RetryAfter, Written
from eventfn.engine.memory import MemoryEngine
from eventfn.errors import Throttled
from eventfn.functions.model import Queue
from eventfn.testing import DestinationSuite, FakeClock, TriggerSuite, destination_context, trigger_context
from eventfn.trigger import DONE, QueueMessage, ReceivedMessage, Reject, Retry, Traits, TriggerContext
from eventfn.units import Duration
from eventfn_queue import QueueDestination, QueueTrigger
from eventfn_queue.shape import Shape, md5_of_attributes


def message(**changed: Any) -> ReceivedMessage:
    plain = ReceivedMessage(
        queue="jobs",
        id="059f36b4-87a3-44ab-83d2-661975830a7d",
        body=b"Test message.",
        attributes={},
        claim=None,
        receives=1,
        sent_ms=1545082649183,
        first_received_ms=1545082649185,
        invisible_until_ms=0,
        sequence=7,
    )
    return msgspec.structs.replace(plain, **changed)


def shaped(received: ReceivedMessage, fifo: bool = False) -> Any:
    shape = Shape(received.queue, fifo=fifo, region="us-east-1", account="000000000000")
    return msgspec.json.decode(shape.record(received))


# --- shape ------------------------------------------------------------------------------------------------------------


def test_a_message_has_sqs_shape() -> None:
    shape = shaped(message())
    assert list(shape.items()) == [
        ("messageId", "059f36b4-87a3-44ab-83d2-661975830a7d"),
        ("receiptHandle", shape["receiptHandle"]),
        ("body", "Test message."),
        (
            "attributes",
            {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": "1545082649183",
                "SenderId": "000000000000",
                "ApproximateFirstReceiveTimestamp": "1545082649185",
            },
        ),
        ("messageAttributes", {}),
        ("md5OfBody", "e4e68fb7bd0e697a0ae8f1bb342846b3"),  # of "Test message.", as in AWS's own sample
        ("eventSource", "aws:sqs"),
        ("eventSourceARN", "arn:aws:sqs:us-east-1:000000000000:jobs"),
        ("awsRegion", "us-east-1"),
    ]
    assert list(shape["attributes"]) == [
        "ApproximateReceiveCount",
        "SentTimestamp",
        "SenderId",
        "ApproximateFirstReceiveTimestamp",
    ]


def test_a_fifo_message_says_its_group() -> None:
    attributes = shaped(message(group="g", dedupe_key="d"), fifo=True)["attributes"]
    assert attributes["SequenceNumber"] == "00000000000000000007"
    assert (attributes["MessageGroupId"], attributes["MessageDeduplicationId"]) == ("g", "d")


def test_attributes_are_typed_and_hashed() -> None:
    shape = shaped(message(attributes={"ErrorCode": "200", "City": "Wien", "eventfn.origin": "fn:f"}))
    assert shape["messageAttributes"] == {
        "ErrorCode": {"stringValue": "200", "stringListValues": [], "binaryListValues": [], "dataType": "Number"},
        "City": {"stringValue": "Wien", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
    }
    assert list(shape)[4:7] == ["messageAttributes", "md5OfMessageAttributes", "md5OfBody"]
    by_hand = b"".join(
        len(text).to_bytes(4, "big") + text + after
        for text, after in (
            (b"City", b""),
            (b"String", b"\x01"),
            (b"Wien", b""),
            (b"ErrorCode", b""),
            (b"Number", b"\x01"),
            (b"200", b""),
        )
    )
    assert shape["md5OfMessageAttributes"] == hashlib.md5(by_hand).hexdigest()
    assert shape["md5OfMessageAttributes"] == md5_of_attributes({"City": "Wien", "ErrorCode": "200"})


def test_a_dead_letter_says_which_queue_it_comes_from() -> None:
    dead = shaped(message(attributes={"eventfn.origin": "queue:other"}))
    assert dead["attributes"]["DeadLetterQueueSourceArn"] == "arn:aws:sqs:us-east-1:000000000000:other"
    back_again = shaped(message(attributes={"eventfn.origin": "queue:jobs"}))
    assert "DeadLetterQueueSourceArn" not in back_again["attributes"]


# --- the suites -------------------------------------------------------------------------------------------------------


class Host:
    """Named queues over an engine, as the node has them."""

    def __init__(self, clock: FakeClock, *declared: Queue) -> None:
        self.clock = clock
        self.engine = MemoryEngine()
        self.queues = NamedQueues(self.engine, {queue.name: queue for queue in declared}, clock)

    async def __aenter__(self) -> Host:
        await self.engine.open(self.clock.now_ms())
        self._waker = asyncio.create_task(self.queues.run())
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._waker.cancel()
        await asyncio.gather(self._waker, return_exceptions=True)
        await self.engine.close()


class TestQueueTrigger(TriggerSuite):
    trigger = QueueTrigger
    name = "queue"
    queue = Queue(name="jobs", dead_letter_queue="jobs-dead", max_receive_count=100)
    nonsense = ({}, {"queue": "two words"}, {"queue": "jobs", "visibility_timeout": "x"})

    @pytest_asyncio.fixture(autouse=True)
    async def _queues(self, host: None) -> AsyncIterator[None]:
        async with Host(self.clock, self.queue) as named:
            self.named = named
            yield

    def make_context(self) -> TriggerContext:
        return trigger_context(self.folder, clock=self.clock, queues=self.named.queues)

    def settings(self) -> QueueTrigger.Settings:
        return QueueTrigger.Settings(queue="jobs")

    async def elsewhere(self) -> QueueTrigger.Settings:
        return QueueTrigger.Settings(queue="others")

    async def lapse(self) -> None:
        await self.clock.advance(31)

    async def put(self, number: int) -> None:
        await self.named.queues.send("jobs", [QueueMessage(body=str(number).encode())])

    def number(self, record: Any) -> int:
        return int(msgspec.json.decode(record.payload)["body"])


class TestFifoQueueTrigger(TestQueueTrigger):
    queue = Queue(name="jobs", fifo=True, dead_letter_queue="jobs-dead", max_receive_count=100)

    async def put(self, number: int) -> None:
        sent = QueueMessage(body=str(number).encode(), group="g", dedupe_key=str(number))
        await self.named.queues.send("jobs", [sent])


class TestQueueDestination(DestinationSuite):
    destination = QueueDestination
    scheme = "queue"
    target = "out"
    nonsense = ("", "two words", "a/b", "x" * 81)

    @pytest_asyncio.fixture(autouse=True)
    async def _queues(self, host: None) -> AsyncIterator[None]:
        async with Host(self.clock, Queue(name="fifo", fifo=True), Queue(name="small", maximum_messages=1)) as named:
            self.named = named
            yield

    def make_context(self) -> DestinationContext:
        return destination_context(self.folder, clock=self.clock, queues=self.named.queues)

    async def received(self) -> list[Any]:
        return [msgspec.json.decode(each.body) for each in await self.named.queues.peek("out", 1000)]

    async def test_attributes_go_with_a_record(self) -> None:
        sent = OutgoingRecord("1", b"{}", {"RequestID": "r", "eventfn.origin": "fn:f"})
        await self.write(await self.opened(), sent)
        (found,) = await self.named.queues.peek("out", 10)
        assert found.attributes == {"RequestID": "r", "eventfn.origin": "fn:f"}

    async def test_a_fifo_queue_takes_one_functions_records_in_order(self) -> None:
        destination = QueueDestination("fifo", self.settings(), self.context)
        assert await destination.write([self.record(1), self.record(2)]) == [Written()] * 2
        assert [each.group for each in await self.named.queues.peek("fifo", 10)] == ["fn:hello"] * 2

    async def test_a_full_queue_takes_them_later(self) -> None:
        destination = QueueDestination("small", self.settings(), self.context)
        reason = RetryAfter("queue small holds its maximum of 1 messages")
        assert await destination.write([self.record(1), self.record(2)]) == [reason] * 2
        assert await destination.write([self.record(1)]) == [Written()]

    async def test_what_cannot_be_in_a_queue_is_rejected_alone(self) -> None:
        destination = await self.opened()
        good, _bad = await destination.write([self.record(1), OutgoingRecord("2", b"\xff")])
        assert good == Written()
        assert isinstance(_bad, Rejected)
        assert "UTF-8" in _bad.reason


# --- what the suites do not ask ---------------------------------------------------------------------------------------


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with Host(
        FakeClock(), Queue(name="jobs", visibility_timeout=Duration(30), dead_letter_queue="jobs-dead")
    ) as host:
        yield host


def opened(host: Host, tmp_path: Any, **settings: Any) -> QueueTrigger:
    context = trigger_context(tmp_path, clock=host.clock, queues=host.queues)
    return QueueTrigger(QueueTrigger.Settings(queue="jobs", **settings), None, context)


async def test_a_rejected_message_is_in_the_dead_letters(host: Host, tmp_path: Any) -> None:
    trigger = opened(host, tmp_path)
    await host.queues.send("jobs", [QueueMessage(body=b"x", attributes={"City": "Wien"})])
    batch = await trigger.read(10)
    await trigger.settle(batch, [Reject("too big")])
    (dead,) = await host.queues.receive("jobs-dead", 10)
    assert dead.attributes == {"City": "Wien", "eventfn.origin": "queue:jobs", "eventfn.reason": "too big"}
    assert await host.queues.depth("jobs") == 0


async def test_what_the_dead_letters_cannot_take_repeats_nothing_that_is_done(
    host: Host, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(queue: str, messages: Sequence[QueueMessage]) -> list[str]:
        raise Throttled(f"queue {queue} holds its maximum of 1 messages")

    trigger = opened(host, tmp_path)
    await host.queues.send("jobs", [QueueMessage(body=b"bad"), QueueMessage(body=b"good"), QueueMessage(body=b"late")])
    batch = await trigger.read(10)
    with monkeypatch.context() as patch:
        patch.setattr(host.queues, "send", full)
        with pytest.raises(Throttled):
            await trigger.settle(batch, [Reject("too big"), DONE, Retry(after=0)])
    assert await host.queues.depth("jobs") == 2
    (again,) = (await trigger.read(10)).records
    assert again.id == batch.records[2].id


async def test_a_late_settlement_is_told_in_the_log(
    host: Host, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    trigger = opened(host, tmp_path)
    await host.queues.send("jobs", [QueueMessage(body=b"x")])
    late = await trigger.read(10)
    await host.clock.advance(31)
    await trigger.read(10)
    with caplog.at_level(logging.WARNING):
        await trigger.settle(late, [Reject("late")])
    assert "after their visibility timeout" in caplog.text


def test_its_own_timeout_goes_before_the_queues(host: Host, tmp_path: Any) -> None:
    assert opened(host, tmp_path).lease == 30
    assert opened(host, tmp_path, visibility_timeout=Duration(90)).lease == 90


def test_it_keeps_the_order_of_groups() -> None:
    assert QueueTrigger.traits == Traits(invocation="request_response", ordered=True)

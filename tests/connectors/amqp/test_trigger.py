"""What RabbitMQ does in its own way: counts, delays, dead letters, prefetch, refusals."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from eventfn.errors import ConnectorError, EngineFull
from eventfn.event import Batch, Record
from eventfn.testing import FakeClock, memory_queues, trigger_context
from eventfn.trigger import DONE, RETRY, QueueMessage, Queues, Reject, Retry
from eventfn_amqp import AmqpTrigger
from eventfn_amqp.connection import Brokers
from eventfn_amqp.settings import QueueSettings
from tests.connectors.amqp.conftest import Peer
from tests.servers.rabbitmq import RabbitMQ


class Bench:
    def __init__(self, server: RabbitMQ, folder: Path, queues: Queues, clock: FakeClock) -> None:
        self.broker = Brokers(url=server.url)
        self.queues = queues
        self.clock = clock
        self._folder = folder
        self._made: list[AmqpTrigger] = []

    def make(self, queue: str, **settings: Any) -> AmqpTrigger:
        context = trigger_context(self._folder, clock=self.clock, queues=self.queues)
        trigger = AmqpTrigger(QueueSettings(queue=queue, **settings), self.broker, context)
        self._made.append(trigger)
        return trigger

    async def opened(self, queue: str, **settings: Any) -> AmqpTrigger:
        trigger = self.make(queue, **settings)
        await trigger.connect()
        return trigger

    async def close(self) -> None:
        for trigger in self._made:
            await trigger.close(5)


@pytest_asyncio.fixture
async def bench(server: RabbitMQ, tmp_path: Path) -> AsyncIterator[Bench]:
    clock = FakeClock()
    async with memory_queues(clock) as queues:
        bench = Bench(server, tmp_path, queues, clock)
        yield bench
        await bench.close()


async def read_all(trigger: AmqpTrigger, count: int) -> list[Batch]:
    batches: list[Batch] = []
    while sum(len(batch.records) for batch in batches) < count:
        batches.append(await trigger.read(100))
    return batches


def shown(record: Record) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(record.payload)
    return decoded


async def test_a_quorum_queue_counts_how_often_a_message_was_handed_out(bench: Bench, peer: Peer) -> None:
    queue = await peer.declare()
    trigger = await bench.opened(queue)
    await peer.send(queue, b"1", message_id="m")
    for receives in (1, 2, 3):
        batch = await trigger.read(10)
        (record,) = batch.records
        assert record.receives == receives
        assert shown(record)["redelivered"] is (receives > 1)
        await trigger.settle(batch, [Retry(after=0)])


async def test_what_failed_too_often_goes_where_the_queue_says(bench: Bench, peer: Peer) -> None:
    dead = await peer.declare()
    arguments = {"x-delivery-limit": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    queue = await peer.declare(arguments=arguments)
    trigger = await bench.opened(queue)
    await peer.send(queue, b"poison")
    for _ in range(3):
        batch = await trigger.read(10)
        await trigger.settle(batch, [Retry(after=0)])
    await peer.send(queue, b"next")
    batch = await trigger.read(10)
    assert shown(batch.records[0])["redelivered"] is False
    assert [message.body for message in await peer.take(dead)] == [b"poison"]


async def test_a_failed_message_rests_before_it_goes_back(bench: Bench, peer: Peer) -> None:
    queue = await peer.declare()
    trigger = await bench.opened(queue, retry_delay=5)
    for number in range(3):
        await peer.send(queue, b"%d" % number)
    batches = await read_all(trigger, 3)
    for batch in batches:
        await trigger.settle(batch, [RETRY] * len(batch.records))
    await bench.clock.advance(4.9)
    await peer.send(queue, b"fresh", message_id="fresh")
    fresh = await trigger.read(10)
    assert [record.id for record in fresh.records] == ["fresh"], "the others still rest"
    await trigger.settle(fresh, [DONE])
    assert await trigger.pending() == 3
    await bench.clock.advance(0.2)
    again = [record for batch in await read_all(trigger, 3) for record in batch.records]
    assert [record.receives for record in again] == [2, 2, 2]


async def test_each_message_rests_as_long_as_it_is_told(bench: Bench, peer: Peer) -> None:
    queue = await peer.declare()
    trigger = await bench.opened(queue)
    for name in ("late", "soon"):
        await peer.send(queue, b"", message_id=name)
    for batch in await read_all(trigger, 2):
        await trigger.settle(batch, [Retry(after=60 if record.id == "late" else 10) for record in batch.records])
    await bench.clock.advance(10)
    assert [record.id for record in (await trigger.read(10)).records] == ["soon"]
    await bench.clock.advance(50)
    assert [record.id for record in (await trigger.read(10)).records] == ["late"]


async def test_what_rests_goes_back_at_once_when_the_trigger_closes(bench: Bench, peer: Peer) -> None:
    queue = await peer.declare()
    trigger = await bench.opened(queue)
    await peer.send(queue, b"1", message_id="m")
    await trigger.settle(await trigger.read(10), [Retry(after=600)])
    await trigger.close(5)
    other = await bench.opened(queue)
    assert [record.id for record in (await other.read(10)).records] == ["m"]


async def test_the_broker_hands_over_no_more_than_the_prefetch(bench: Bench, peer: Peer) -> None:
    queue = await peer.declare()
    trigger = await bench.opened(queue, prefetch=7)
    for number in range(50):
        await peer.send(queue, b"%d" % number)
    while await peer.waiting(queue) != 43:
        pass  # the test's own timeout ends it
    assert await trigger.pending() == 50
    batches = await read_all(trigger, 7)
    assert sum(len(batch.records) for batch in batches) == 7, "read, and not settled: there is no room for more"
    bodies = [shown(record)["data"] for batch in batches for record in batch.records]
    for batch in batches:
        await trigger.settle(batch, [DONE] * len(batch.records))
    for batch in await read_all(trigger, 7):
        bodies += [shown(record)["data"] for record in batch.records]
    assert len(set(bodies)) == len(bodies)


async def test_two_consumers_share_a_queue(bench: Bench, peer: Peer) -> None:
    queue = await peer.declare()
    triggers = [await bench.opened(queue, prefetch=5) for _ in range(2)]
    for number in range(10):
        await peer.send(queue, b"", message_id=f"m{number}")
    found = [record.id for trigger in triggers for batch in await read_all(trigger, 5) for record in batch.records]
    assert sorted(found) == [f"m{number}" for number in range(10)]


async def test_a_message_without_a_name_is_known_by_its_delivery(bench: Bench, peer: Peer) -> None:
    queue = await peer.declare()
    trigger = await bench.opened(queue)
    await peer.send(queue, b"same")
    await peer.send(queue, b"same")
    ids = [record.id for batch in await read_all(trigger, 2) for record in batch.records]
    assert len(set(ids)) == 2
    assert all(ids)


async def test_a_sender_may_write_any_headers(bench: Bench, peer: Peer) -> None:
    queue = await peer.declare(arguments={"x-queue-type": "classic"})
    trigger = await bench.opened(queue)
    headers = {
        "x-delivery-count": "many",
        "a": {"b": [1, None, bytearray(b"\xff")]},
        "when": datetime(2026, 1, 2, tzinfo=UTC),
    }
    await peer.send(queue, b"", headers=headers)
    (record,) = (await trigger.read(10)).records
    assert record.receives == 1
    assert shown(record)["basicProperties"]["headers"] == {
        "x-delivery-count": {"bytes": list(b"many")},
        "a": {"b": [1, None, {"bytes": [-1]}]},
        "when": "Jan 2, 2026, 12:00:00 AM",
    }


async def test_bytes_of_every_kind_and_size_arrive(bench: Bench, peer: Peer) -> None:
    queue = await peer.declare()
    trigger = await bench.opened(queue)
    bodies = [b"", bytes(range(256)), b"x" * (1 << 20), "ü".encode()]
    for body in bodies:
        await peer.send(queue, body)
    records = [record for batch in await read_all(trigger, len(bodies)) for record in batch.records]
    assert [base64.b64decode(shown(record)["data"]) for record in records] == bodies


# --- what can never be handled ----------------------------------------------------------------------------------------


async def test_what_is_rejected_goes_to_the_dead_letter_queue_as_it_was(bench: Bench, peer: Peer) -> None:
    queue, dead = await peer.declare(), await peer.declare()
    trigger = await bench.opened(queue, dead_letter_queue=dead)
    await peer.send(queue, b"\xff", message_id="m", headers={"kind": "a"}, expiration="600000", content_type="x/y")
    await trigger.settle(await trigger.read(10), [Reject("too large")])
    (kept,) = await peer.take(dead)
    assert kept.body == b"\xff"
    properties = kept.header.properties
    headers = {name: value for name, value in properties.headers.items() if name != "x-delivery-count"}  # of `dead`
    assert headers == {"kind": "a", "x-eventfn-queue": queue, "x-eventfn-reason": "too large"}
    assert (properties.message_id, properties.content_type, properties.delivery_mode) == ("m", "x/y", 2)
    assert properties.expiration is None, "a dead letter stays"
    assert await trigger.pending() == 0


async def test_without_one_it_goes_to_the_hosts_dead_letters_as_the_event_that_it_is(bench: Bench, peer: Peer) -> None:
    queue = await peer.declare()
    trigger = await bench.opened(queue)
    await peer.send(queue, b"1", message_id="m")
    batch = await trigger.read(10)
    await trigger.settle(batch, [Reject("no pattern can be matched with it")])
    (kept,) = await bench.queues.receive("dead-letters", 10)
    assert kept.body == trigger.encode(batch.records)
    assert kept.attributes == {
        "eventfn.origin": "fn:hello",
        "eventfn.reason": "no pattern can be matched with it",
    }
    assert await trigger.pending() == 0


async def test_while_it_can_be_kept_nowhere_it_stays(
    bench: Bench, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    class Full:
        full = True

        async def send(self, queue: str, messages: list[QueueMessage]) -> list[str]:
            if self.full:
                raise EngineFull("the disk is full")
            return ["1"]

    queue = await peer.declare()
    full: Any = Full()
    bench.queues = full
    trigger = await bench.opened(queue)
    await peer.send(queue, b"1", message_id="m")
    await trigger.settle(await trigger.read(10), [Reject("no")])
    assert "stays in queue" in caplog.text
    await bench.clock.advance(1)
    again = await trigger.read(10)
    assert [record.id for record in again.records] == ["m"]
    full.full = False
    await trigger.settle(again, [Reject("no")])
    assert await trigger.pending() == 0


async def test_a_dead_letter_queue_that_vanished_loses_nothing(bench: Bench, peer: Peer) -> None:
    queue, dead = await peer.declare(), await peer.declare()
    trigger = await bench.opened(queue, dead_letter_queue=dead)
    await peer.send(queue, b"1", message_id="m")
    batch = await trigger.read(10)
    await peer.delete(dead)
    await trigger.settle(batch, [Reject("no")])
    await bench.clock.advance(1)
    assert [record.id for record in (await trigger.read(10)).records] == ["m"]


# --- queues that are not there, or not as they should be --------------------------------------------------------------


async def test_a_queue_is_created_where_that_is_said(bench: Bench, peer: Peer) -> None:
    name = f"{await peer.declare()}-created"
    trigger = await bench.opened(
        name, declare=True, arguments={"x-delivery-limit": 4}, dead_letter_queue=f"{name}-dead"
    )
    # The same declaration by somebody else is refused unless it is the same queue.
    await peer.declare(name, {"x-delivery-limit": 4})
    await peer.declare(f"{name}-dead")
    await trigger.close(5)
    await (await bench.opened(name, declare=True, arguments={"x-delivery-limit": 4})).close(5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "no queue"),
        ({"declare": True, "queue_type": "classic"}, "inequivalent arg 'x-queue-type'"),
    ],
)
async def test_a_queue_that_is_not_right_is_named(bench: Bench, peer: Peer, settings: Any, said: str) -> None:
    queue = await peer.declare() if settings else "nobody-has-declared-this"
    trigger = bench.make(queue, **settings)
    with pytest.raises(ConnectorError, match=queue) as refused:
        await trigger.connect()
    assert said in str(refused.value)
    await peer.declare(queue)
    if not settings:
        await trigger.connect()


async def test_a_queue_that_is_deleted_is_a_connector_error(bench: Bench, peer: Peer) -> None:
    queue = await peer.declare()
    trigger = await bench.opened(queue)
    await peer.delete(queue)
    with pytest.raises(ConnectorError, match=r"ended the consumer|no queue"):
        await trigger.read(10)


async def test_a_wrong_password_is_not_repeated(bench: Bench, server: RabbitMQ, tmp_path: Path) -> None:
    bench.broker = Brokers(url=f"amqp://guest:hidden-word@{server.host}:{server.port}/")
    with pytest.raises(ConnectorError, match=f"cannot connect to RabbitMQ at {server.host}:{server.port}:") as refused:
        await bench.make("any").connect()
    assert "hidden-word" not in str(refused.value)


async def test_a_settlement_is_for_the_connection_that_its_message_came_by(bench: Bench, peer: Peer) -> None:
    queue = await peer.declare()
    trigger = await bench.opened(queue)
    await peer.send(queue, b"1", message_id="first")
    late = await trigger.read(10)
    await trigger.connect()
    again = await trigger.read(10)
    assert [record.id for record in again.records] == ["first"]
    with pytest.raises(ConnectorError, match="the connection is gone"):
        await trigger.settle(late, [DONE])
    assert await trigger.pending() == 1
    await trigger.settle(again, [DONE])
    assert await trigger.pending() == 0

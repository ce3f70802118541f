"""What the suite does not ask: consumers that are there already, dead letters, and what NATS alone does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from eventfn.clock import SystemClock
from eventfn.destination import OutgoingRecord, Rejected, RetryAfter
from eventfn.errors import ConnectorError
from eventfn.event import Batch
from eventfn.testing import destination_context, memory_queues, trigger_context
from eventfn.trigger import DONE, RETRY, Reject, Retry
from eventfn.units import Duration
from eventfn_nats import NatsDestination, NatsTrigger
from eventfn_nats.settings import Clusters, Source
from tests.servers.nats import NatsServer

Open = Callable[..., Awaitable[NatsTrigger]]


@pytest.fixture
async def opened(server: NatsServer, stream: str, tmp_path: Path) -> AsyncIterator[Open]:
    """`await opened(visibility_timeout=...)`: a connected trigger of the test's stream, on the machine's clock."""
    made: list[NatsTrigger] = []

    async def opened(queues: Any = None, **settings: Any) -> NatsTrigger:
        trigger = NatsTrigger(
            Source(**({"stream": stream, "subject": f"{stream}.new"} | settings)),
            Clusters(servers=(f"nats://{server.host}:{server.port}",)),
            trigger_context(tmp_path, clock=SystemClock(), queues=queues),
        )
        made.append(trigger)
        await trigger.connect()
        return trigger

    yield opened
    for trigger in made:
        await trigger.close(1)


async def read(trigger: NatsTrigger, limit: int = 10) -> Batch:
    return await asyncio.wait_for(trigger.read(limit), 60)


def bodies(batch: Batch) -> list[str]:
    return [msgspec.json.decode(record.payload)["body"] for record in batch.records]


async def consumer(peer: Any, stream: str) -> Any:
    return await (await peer.jetstream()).consumer_info(stream, "hello")


# --- when what failed comes again -------------------------------------------------------------------------------------


async def test_a_retry_comes_at_its_time_also_to_a_read_that_waits(opened: Open, peer: Any, stream: str) -> None:
    trigger = await opened()
    await peer.publish(f"{stream}.new", b"1")
    first = await read(trigger)
    reading = asyncio.ensure_future(read(trigger))
    began = time.monotonic()
    await trigger.settle(first, [Retry(after=0.3)])
    again = await reading
    assert time.monotonic() - began >= 0.29
    assert (bodies(again), again.records[0].receives) == (["1"], 2)
    await trigger.settle(again, [DONE])


async def test_what_failed_comes_when_its_visibility_timeout_ends(opened: Open, peer: Any, stream: str) -> None:
    trigger = await opened(visibility_timeout=Duration(1))
    await peer.publish(f"{stream}.new", b"1")
    began = time.monotonic()
    await trigger.settle(await read(trigger), [RETRY])
    assert bodies(await read(trigger)) == ["1"]
    assert time.monotonic() - began >= 0.99


async def test_a_node_that_closes_gives_back_at_once(opened: Open, peer: Any, stream: str) -> None:
    first = await opened()
    await peer.publish(f"{stream}.new", b"1")
    await read(first)
    await first.close(5)
    assert bodies(await read(await opened())) == ["1"]


async def test_a_lease_that_is_longer_than_the_visibility_timeout_holds(opened: Open, peer: Any, stream: str) -> None:
    """A batching window makes it so."""
    first = await opened(visibility_timeout=Duration(1))
    await peer.publish(f"{stream}.new", b"1")
    batch = await read(first)
    await first.extend(batch, 3600)
    second = await opened(visibility_timeout=Duration(1))
    reading = asyncio.ensure_future(second.read(10))
    await asyncio.wait({reading}, timeout=1.5)
    assert not reading.done()
    await first.settle(batch, [RETRY])  # from now on nobody keeps it
    assert bodies(await asyncio.wait_for(reading, 60)) == ["1"]


async def test_a_read_asks_for_no_more_than_it_returns(opened: Open, peer: Any, stream: str) -> None:
    trigger = await opened()
    for number in range(5):
        await peer.publish(f"{stream}.new", str(number).encode())
    assert bodies(await read(trigger, 2)) == ["0", "1"]
    assert (await consumer(peer, stream)).num_ack_pending == 2
    assert await trigger.pending() == 5


# --- dead letters -----------------------------------------------------------------------------------------------------


async def test_what_was_received_too_often_is_a_dead_letter(opened: Open, peer: Any, stream: str) -> None:
    trigger = await opened(max_receive_count=2, dead_letter_subject=f"{stream}.dead")
    # Its own id, which the stream remembers, must not make a duplicate of the dead letter.
    await peer.publish(f"{stream}.new", b"bad", **{"City": "Wien", "Nats-Msg-Id": "order-7"})
    for receives in (1, 2):
        batch = await read(trigger)
        assert batch.records[0].receives == receives
        await trigger.settle(batch, [Retry(after=0)])
    reading = asyncio.ensure_future(read(trigger))
    while len(messages := await peer.messages(stream)) < 2:
        await asyncio.sleep(0.01)
    dead = messages[1]
    assert (dead.subject, dead.data) == (f"{stream}.dead", b"bad")
    assert dead.headers == {
        "City": "Wien",
        "Nats-Msg-Id": f"{stream} 1 hello",
        "Eventfn-Stream": stream,
        "Eventfn-Subject": f"{stream}.new",
        "Eventfn-Sequence": "1",
        "Eventfn-Reason": "received 2 times, and never handled",
    }
    await peer.publish(f"{stream}.new", b"good")
    assert bodies(await reading) == ["good"]
    assert (await consumer(peer, stream)).num_ack_pending == 1


async def test_dead_letters_that_nobody_takes_hold_up_nobody(
    opened: Open, peer: Any, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    trigger = await opened(max_receive_count=1, dead_letter_subject="nobody.takes.this")
    await peer.publish(f"{stream}.new", b"bad")
    await trigger.settle(await read(trigger), [Retry(after=0)])
    await peer.publish(f"{stream}.new", b"good")
    assert bodies(await read(trigger)) == ["good"]
    assert "cannot be given to the dead letters" in caplog.text
    assert (await consumer(peer, stream)).num_ack_pending == 2


async def test_a_rejected_message_is_in_the_dead_letters(opened: Open, peer: Any, stream: str) -> None:
    trigger = await opened(dead_letter_subject=f"{stream}.dead")
    await peer.publish(f"{stream}.new", b"\xff")
    await trigger.settle(await read(trigger), [Reject("never\nagain")])
    _, dead = await peer.messages(stream)
    assert (dead.data, dead.headers["Eventfn-Reason"]) == (b"\xff", "never again")
    assert await trigger.pending() == 0


async def test_without_a_subject_for_them_dead_letters_are_in_the_hosts_queue(
    opened: Open, peer: Any, stream: str
) -> None:
    async with memory_queues(SystemClock()) as queues:
        trigger = await opened(queues=queues)
        await peer.publish(f"{stream}.new", b"bad")
        await trigger.settle(await read(trigger), [Reject("never")])
        (dead,) = await queues.receive("dead-letters", 10)
        assert msgspec.json.decode(dead.body)["Records"][0]["body"] == "bad"
        assert dead.attributes == {"eventfn.origin": "fn:hello", "eventfn.shape": "event", "eventfn.reason": "never"}
        assert await trigger.pending() == 0


# --- stream and consumer ----------------------------------------------------------------------------------------------


async def test_a_stream_that_is_not_there_is_named(opened: Open) -> None:
    with pytest.raises(ConnectorError, match="there is no stream 'NOWHERE': make it"):
        await opened(stream="NOWHERE")


async def test_a_consumer_of_another_kind_is_refused(opened: Open, peer: Any, stream: str) -> None:
    config = ConsumerConfig(durable_name="hello", ack_policy=AckPolicy.NONE)
    await (await peer.jetstream()).add_consumer(stream, config=config)
    with pytest.raises(ConnectorError, match="name another `consumer`"):
        await opened()


async def test_a_consumer_follows_the_settings_and_goes_on_where_it_was(opened: Open, peer: Any, stream: str) -> None:
    first = await opened()
    await peer.publish(f"{stream}.new", b"1")
    await first.settle(await read(first), [DONE])
    await first.close(5)
    second = await opened(visibility_timeout=Duration(90), subject=f"{stream}.>")
    await peer.publish(f"{stream}.other", b"2")
    assert bodies(await read(second)) == ["2"]
    config = (await consumer(peer, stream)).config
    assert (config.ack_wait, config.filter_subject, config.max_deliver) == (90, f"{stream}.>", -1)


async def test_a_new_consumer_begins_where_it_is_told(opened: Open, peer: Any, stream: str) -> None:
    await peer.publish(f"{stream}.new", b"old")
    (old,) = await peer.messages(stream)
    latest = await opened(starting_position="LATEST", consumer="latest")
    await peer.publish(f"{stream}.new", b"new")
    assert bodies(await read(latest)) == ["new"]
    assert bodies(await read(await opened(consumer="all"))) == ["old", "new"]
    at = await opened(starting_position="AT_TIMESTAMP", starting_position_timestamp=old.time, consumer="at")
    assert bodies(await read(at)) == ["old", "new"]


async def test_a_consumer_that_is_deleted_is_made_anew(opened: Open, peer: Any, stream: str) -> None:
    trigger = await opened()
    reading = asyncio.ensure_future(read(trigger))
    while not (await consumer(peer, stream)).num_waiting:
        await asyncio.sleep(0.01)
    await (await peer.jetstream()).delete_consumer(stream, "hello")
    with pytest.raises(ConnectorError, match="Consumer Deleted"):
        await reading
    await trigger.connect()
    await peer.publish(f"{stream}.new", b"1")
    assert bodies(await read(trigger)) == ["1"]


# --- the destination --------------------------------------------------------------------------------------------------


@pytest.fixture
async def destination(server: NatsServer, stream: str, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    made: list[NatsDestination] = []

    async def opened(subject: str) -> NatsDestination:
        sink = Clusters(servers=(f"nats://{server.host}:{server.port}",))
        made.append(NatsDestination(subject, sink, destination_context(tmp_path)))
        await made[-1].connect()
        return made[-1]

    yield opened
    for each in made:
        await each.close(1)


async def test_attributes_are_headers_and_a_trigger_reads_them(destination: Any, opened: Open, stream: str) -> None:
    sent = OutgoingRecord("7", b"{}", {"ErrorMessage": "Zoë said:\nno", "eventfn.origin": "fn:f"})
    await (await destination(f"{stream}.out")).write([sent])
    (record,) = (await read(await opened(subject=f"{stream}.out"))).records
    headers = msgspec.json.decode(record.payload)["headers"]
    assert headers == {"Nats-Msg-Id": f"{stream}.out 7", "ErrorMessage": "Zoë said: no", "eventfn.origin": "fn:f"}


async def test_one_record_goes_to_two_subjects_of_a_stream(destination: Any, peer: Any, stream: str) -> None:
    for subject in ("failed", "dead"):
        await (await destination(f"{stream}.{subject}")).write([OutgoingRecord("1", b"{}")])
    assert [message.subject for message in await peer.messages(stream)] == [f"{stream}.failed", f"{stream}.dead"]


async def test_records_wait_for_a_stream_that_takes_them(destination: Any) -> None:
    (answer,) = await (await destination("nobody.takes.this")).write([OutgoingRecord("1", b"{}")])
    assert isinstance(answer, RetryAfter)
    assert "nobody.takes.this" in answer.reason


async def test_a_record_that_no_server_takes_goes_alone(destination: Any, peer: Any, stream: str) -> None:
    records = [OutgoingRecord("1", b"{}"), OutgoingRecord("2", b"x" * 8 * 1024 * 1024), OutgoingRecord("3", b"{}")]
    answers = await (await destination(f"{stream}.out")).write(records)
    assert isinstance(answers[1], Rejected)
    assert "max_payload" in answers[1].reason
    assert len(await peer.messages(stream)) == 2

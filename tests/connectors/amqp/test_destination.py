"""What a broker says to what is published: routed, unroutable, refused, gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from eventfn.destination import WRITTEN, Delivery, OutgoingRecord, Rejected, RetryAfter
from eventfn.errors import ConnectorError
from eventfn.testing import destination_context, eventually
from eventfn_amqp import AmqpDestination
from eventfn_amqp.connection import Brokers
from tests.connectors.amqp.conftest import Peer
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMQ

RECORD = OutgoingRecord(id="record-1", payload=b"{}", attributes={"eventfn.origin": "fn:hello"})


class Bench:
    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self.made: list[AmqpDestination] = []

    async def opened(self, target: str, url: str | None = None, ca_file: str | None = None) -> AmqpDestination:
        settings = Brokers(url=url or self._url, ca_file=ca_file)
        destination = AmqpDestination(target, settings, destination_context(self._folder))
        self.made.append(destination)
        await destination.connect()
        return destination


@pytest_asyncio.fixture
async def bench(server: RabbitMQ, tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(server.url, tmp_path)
    yield bench
    for destination in bench.made:
        await destination.close(5)


async def test_a_record_says_what_it_is(bench: Bench, peer: Peer) -> None:
    queue = await peer.declare()
    assert await (await bench.opened(queue)).write([RECORD]) == [WRITTEN]
    (message,) = await peer.take(queue)
    properties = message.header.properties
    assert (properties.message_id, properties.content_type, properties.delivery_mode) == (
        "record-1",
        "application/json",
        2,
    )
    assert properties.headers["eventfn.origin"] == "fn:hello"


async def test_an_exchange_routes_by_key(bench: Bench, peer: Peer) -> None:
    channel = await peer.channel()
    await channel.exchange_declare("routes", exchange_type="topic")
    wanted, other = await peer.declare(), await peer.declare()
    await channel.queue_bind(wanted, "routes", "failed.*")
    await channel.queue_bind(other, "routes", "done.*")
    assert await (await bench.opened("routes/failed.hello")).write([RECORD]) == [WRITTEN]
    assert [message.body for message in await peer.take(wanted)] == [b"{}"]
    assert await peer.take(other) == []


async def test_a_fanout_needs_no_key(bench: Bench, peer: Peer) -> None:
    channel = await peer.channel()
    await channel.exchange_declare("everybody", exchange_type="fanout")
    queues = [await peer.declare(), await peer.declare()]
    for queue in queues:
        await channel.queue_bind(queue, "everybody", "")
    assert await (await bench.opened("everybody/")).write([RECORD]) == [WRITTEN]
    assert [len(await peer.take(queue)) for queue in queues] == [1, 1]


async def test_what_no_queue_takes_is_rejected_and_says_why(bench: Bench, peer: Peer) -> None:
    destination = await bench.opened("no-such-queue")
    (delivery,) = await destination.write([RECORD])
    assert isinstance(delivery, Rejected)
    assert "no-such-queue" in delivery.reason
    assert "NO_ROUTE" in delivery.reason
    await peer.declare("no-such-queue")
    assert await destination.write([RECORD]) == [WRITTEN]


async def test_an_exchange_that_is_not_there_yet_is_tried_again(bench: Bench, peer: Peer) -> None:
    destination = await bench.opened("not-there-yet/key")
    deliveries = await destination.write([RECORD, RECORD])
    assert all(isinstance(delivery, RetryAfter) for delivery in deliveries)
    assert any(isinstance(each, RetryAfter) and "no exchange 'not-there-yet'" in each.reason for each in deliveries)
    channel = await peer.channel()
    await channel.exchange_declare("not-there-yet")
    await channel.queue_bind(await peer.declare(), "not-there-yet", "key")
    assert await destination.write([RECORD]) == [WRITTEN]


async def test_a_queue_that_is_full_is_tried_again(bench: Bench, peer: Peer) -> None:
    queue = await peer.declare(arguments={"x-queue-type": "classic", "x-max-length": 1, "x-overflow": "reject-publish"})
    destination = await bench.opened(queue)
    assert await destination.write([RECORD]) == [WRITTEN]
    (delivery,) = await destination.write([RECORD])
    assert isinstance(delivery, RetryAfter)
    await peer.take(queue)
    assert await destination.write([RECORD]) == [WRITTEN]


async def test_what_was_written_is_there_after_the_broker_was_killed(
    bench: Bench, server: RabbitMQ, peer: Peer
) -> None:
    queue = await peer.declare()
    destination = await bench.opened(queue)
    records = [OutgoingRecord(id=f"record-{number}", payload=b"%d" % number) for number in range(100)]
    assert await destination.write(records) == [WRITTEN] * 100
    await eventually(lambda: server.remembers(queue))
    server.kill()
    server.start()
    while await destination.write([RECORD]) != [WRITTEN]:
        pass  # the first try may find that the connection is gone; the next one makes another
    found = [message.body for message in await peer.take(queue)]
    assert found == [b"%d" % number for number in range(100)] + [b"{}"]


async def test_what_is_under_way_when_the_network_is_cut_is_written_or_tried_again(
    bench: Bench, proxy: Proxy, peer: Peer
) -> None:
    queue = await peer.declare()
    destination = await bench.opened(queue, f"amqp://guest:guest@{proxy.host}:{proxy.port}/")
    proxy.truncate("up", 20_000)
    left = [OutgoingRecord(id=f"record-{number}", payload=b"%d" % number) for number in range(300)]
    answers: list[Delivery] = []
    while left:
        answers = await destination.write(left)
        assert not any(isinstance(answer, Rejected) for answer in answers)
        left = [record for record, answer in zip(left, answers, strict=True) if answer != WRITTEN]
    found = {message.header.properties.message_id for message in await peer.take(queue)}
    assert found == {f"record-{number}" for number in range(300)}


async def test_a_connection_is_encrypted_with_a_certificate_that_is_trusted(
    bench: Bench, peer: Peer, encrypted: tuple[str, Path]
) -> None:
    url, ca_file = encrypted
    queue = await peer.declare()
    assert await (await bench.opened(queue, url, str(ca_file))).write([RECORD]) == [WRITTEN]
    assert len(await peer.take(queue)) == 1
    with pytest.raises(ConnectorError, match="CERTIFICATE_VERIFY_FAILED"):
        await bench.opened(queue, url)
    with pytest.raises(ConnectorError, match="No such file"):
        await bench.opened(queue, url, "nowhere.pem")

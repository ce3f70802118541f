"""Two brokers by name, each with its own messages: what goes where, and what one that is down is to the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from eventfn.destination import WRITTEN, OutgoingRecord
from eventfn.errors import ConnectorError
from eventfn.testing import destination_context, trigger_context
from eventfn.trigger import DONE
from eventfn_amqp import AmqpDestination, AmqpTrigger
from eventfn_amqp.connection import Broker, Brokers
from eventfn_amqp.settings import QueueSettings
from tests.connectors.amqp.conftest import Peer
from tests.servers.rabbitmq import RabbitMQ

RECORD = OutgoingRecord(id="record-1", payload=b"{}", attributes={})


@pytest.fixture(scope="module")
def second(server: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """`server` is the first one: what is needed is there."""
    with RabbitMQ(tmp_path_factory.mktemp("second")) as broker:
        yield broker


@pytest_asyncio.fixture
async def there(second: RabbitMQ) -> AsyncIterator[Peer]:
    peer = Peer(second.url)
    yield peer
    await peer.close()


@pytest.fixture
def brokers(server: RabbitMQ, second: RabbitMQ) -> Brokers:
    return Brokers(url=server.url, brokers={"second": Broker(url=f"{second.url}%2F")})


async def test_one_queue_on_each_broker(
    brokers: Brokers, peer: Peer, there: Peer, second: RabbitMQ, tmp_path: Path
) -> None:
    queue = await peer.declare()
    assert await there.declare(queue) == queue
    await peer.send(queue, b"1", message_id="first")
    await there.send(queue, b"2", message_id="second")
    triggers = {
        name: AmqpTrigger(QueueSettings(queue=queue, broker=name), brokers, trigger_context(tmp_path))
        for name in (None, "second")
    }
    for name, message in ((None, "first"), ("second", "second")):
        await triggers[name].connect()
        batch = await triggers[name].read(10)
        assert [record.id for record in batch.records] == [message]
        await triggers[name].settle(batch, [DONE])
    second.kill()
    with pytest.raises(ConnectorError):
        await triggers["second"].read(10)
    await peer.send(queue, b"3", message_id="third")
    batch = await triggers[None].read(10)
    assert [record.id for record in batch.records] == ["third"], "the other one is not its business"
    await triggers[None].settle(batch, [DONE])
    second.start()
    for trigger in triggers.values():
        await trigger.close(5)
    assert await peer.waiting(queue) == 0


async def test_records_go_to_the_broker_that_is_named(
    brokers: Brokers, peer: Peer, there: Peer, tmp_path: Path
) -> None:
    queue = await peer.declare()
    await there.declare(queue)
    await (await there.channel()).exchange_declare("routes", exchange_type="topic")
    await (await there.channel()).queue_bind(queue, "routes", routing_key="a.*")
    for target, here, elsewhere in ((queue, 1, 0), (f"@second/{queue}", 0, 1), ("@second/routes/a.b", 0, 1)):
        assert AmqpDestination.check(target, brokers) is None
        destination = AmqpDestination(target, brokers, destination_context(tmp_path))
        await destination.connect()
        assert await destination.write([RECORD]) == [WRITTEN]
        assert len(await peer.take(queue)) == here
        assert len(await there.take(queue)) == elsewhere
        await destination.close(5)


@pytest.mark.parametrize("target", ["@third/queue", "@/queue", "@second", "@second/", "@second//key"])
def test_a_target_that_names_no_broker_or_no_place_is_refused(brokers: Brokers, target: str) -> None:
    assert AmqpDestination.check(target, brokers) is not None

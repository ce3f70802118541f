"""Two brokers by name, each with its own messages: what goes where, and what one that is down is to the other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import aiomqtt
import pytest

from eventfn.destination import WRITTEN, OutgoingRecord
from eventfn.errors import ConnectorError
from eventfn.testing import destination_context, trigger_context
from eventfn.trigger import DONE
from eventfn_mqtt import MqttDestination, MqttTrigger
from eventfn_mqtt.settings import Broker, Brokers, Subscription
from tests.servers.mosquitto import Mosquitto

RECORD = OutgoingRecord(id="record-1", payload=b"{}", attributes={})


@pytest.fixture
def second(server: Mosquitto, tmp_path: Path) -> Iterator[Mosquitto]:
    """`server` is the first one: what is needed is there."""
    with Mosquitto(tmp_path / "second") as broker:
        yield broker


@pytest.fixture
def brokers(server: Mosquitto, second: Mosquitto) -> Brokers:
    return Brokers(
        url=f"mqtt://{server.host}:{server.port}",
        brokers={"second": Broker(url=f"mqtt://{second.host}:{second.port}", protocol="3.1.1")},
    )


async def publish(broker: Mosquitto, topic: str, payload: bytes) -> None:
    async with aiomqtt.Client(broker.host, broker.port) as client:
        await client.publish(topic, payload, qos=1)


async def test_one_topic_on_each_broker(
    brokers: Brokers, server: Mosquitto, second: Mosquitto, topic: str, tmp_path: Path
) -> None:
    # One client_id for both: it is a session's name at one broker, and means nothing at the other.
    triggers = {
        name: MqttTrigger(
            Subscription(client_id=f"watch {topic}", topics=[topic], broker=name), brokers, trigger_context(tmp_path)
        )
        for name in (None, "second")
    }
    for trigger in triggers.values():
        await trigger.connect()
    await publish(server, topic, b"first")
    await publish(second, topic, b"second")
    for name, payload in ((None, b"first"), ("second", b"second")):
        batch = await triggers[name].read(10)
        assert [payload in record.payload for record in batch.records] == [True]
        await triggers[name].settle(batch, [DONE])
    second.stop()
    with pytest.raises(ConnectorError):
        await triggers["second"].read(10)
    await publish(server, topic, b"third")
    batch = await triggers[None].read(10)
    assert [b"third" in record.payload for record in batch.records] == [True], (
        "the other broker is none of its business"
    )
    await triggers[None].settle(batch, [DONE])
    for trigger in triggers.values():
        await trigger.close(5)


async def test_records_go_to_the_broker_that_is_named(
    brokers: Brokers, server: Mosquitto, second: Mosquitto, topic: str, tmp_path: Path
) -> None:
    for target, broker, other in ((topic, server, second), (f"@second/{topic}", second, server)):
        assert MqttDestination.check(target, brokers) is None
        async with (
            aiomqtt.Client(broker.host, broker.port) as there,
            aiomqtt.Client(other.host, other.port) as elsewhere,
        ):
            for client in (there, elsewhere):
                await client.subscribe(topic, qos=1)
            destination = MqttDestination(target, brokers, destination_context(tmp_path))
            await destination.connect()
            assert await destination.write([RECORD]) == [WRITTEN]
            await destination.close(5)
            for client in (there, elsewhere):
                await client.publish(topic, b"mark", qos=1)
            assert [message.payload async for message in _until_mark(there)] == [RECORD.payload]
            assert [message.payload async for message in _until_mark(elsewhere)] == []


async def _until_mark(client: aiomqtt.Client) -> AsyncGenerator[aiomqtt.Message, None]:
    async for message in client.messages:
        if message.payload == b"mark":
            return
        yield message


@pytest.mark.parametrize("target", ["@third/topic", "@/topic", "@second", "@second/", "@second/a/#"])
def test_a_target_that_names_no_broker_or_no_topic_is_refused(brokers: Brokers, target: str) -> None:
    assert MqttDestination.check(target, brokers) is not None

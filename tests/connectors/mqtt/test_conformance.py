"""The conformance suites, against a real Mosquitto behind a proxy that takes it down and up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar, Literal

import msgspec
import pytest_asyncio

from eventfn.event import Record
from eventfn.testing import DestinationSuite, TriggerSuite, memory_queues, trigger_context
from eventfn.trigger import TriggerContext
from eventfn_mqtt import MqttDestination, MqttTrigger
from eventfn_mqtt.settings import Brokers, Subscription
from tests.connectors.mqtt.conftest import Peer
from tests.servers.proxy import Proxy


class _BehindTheProxy:
    proxy: Proxy
    peer: Peer
    protocol: Literal["5", "3.1.1"] = "5"

    @property
    def broker(self) -> Brokers:
        return Brokers(url=f"mqtt://{self.proxy.host}:{self.proxy.port}", protocol=self.protocol)

    async def refuse(self) -> None:
        await self.proxy.refuse()

    async def accept(self) -> None:
        await self.proxy.accept()


class TestMqttTrigger(_BehindTheProxy, TriggerSuite):
    trigger = MqttTrigger
    name = "mqtt"
    variables: ClassVar = {"MQTT_URL": "mqtt://127.0.0.1", "OFFICE_MQTT_URL": "mqtts://127.0.0.1"}
    outside = True
    nonsense: ClassVar = (
        {},
        {"client_id": "a"},
        {"client_id": "a", "topics": []},
        {"client_id": "", "topics": ["a"]},
        {"client_id": "a", "topics": ["a#"]},
        {"client_id": "a", "topics": ["a", "a"]},
        {"client_id": "a", "topics": ["a"], "qos": 0},
    )
    qos = 1

    @pytest_asyncio.fixture(autouse=True)
    async def session(self, host: None, proxy: Proxy, peer: Peer, topic: str) -> AsyncIterator[None]:
        self.proxy, self.peer, self.topic = proxy, peer, topic
        async with memory_queues(self.clock) as self.queues:
            # A session that exists: a broker keeps nothing for a name that it has never heard.
            trigger = await self.opened()
            await trigger.close(5)
            yield

    def make_context(self) -> TriggerContext:
        return trigger_context(self.folder, clock=self.clock, positions=self.positions, queues=self.queues)

    def settings(self) -> Subscription:
        client_id = self.topic.replace("/", "-")
        return Subscription(client_id=client_id, topics=[f"{self.topic}/#"], qos=self.qos, receive_maximum=20)

    async def elsewhere(self) -> Subscription:
        return Subscription(client_id=f"{self.topic}-other", topics=[f"other/{self.topic}"])

    def shared(self) -> Brokers:
        return self.broker

    async def put(self, number: int) -> None:
        await self.peer.client.publish(f"{self.topic}/a", b'{"number": %d}' % number, qos=self.qos)

    def number(self, record: Record) -> int:
        number: int = msgspec.json.decode(msgspec.json.decode(record.payload)["payload"])["number"]
        return number


class TestMqttTriggerAtQualityOfService2(TestMqttTrigger):
    qos = 2


class TestMqttTriggerInVersion3(TestMqttTrigger):
    protocol = "3.1.1"


class TestMqttDestination(_BehindTheProxy, DestinationSuite):
    destination = MqttDestination
    scheme = "mqtt"
    nonsense = ("", "a/#", "a/+/b", "$SYS/broker", "a\0b")
    variables: ClassVar = {"MQTT_URL": "mqtt://127.0.0.1", "OFFICE_MQTT_URL": "mqtts://127.0.0.1"}

    @pytest_asyncio.fixture(autouse=True)
    async def subscriber(self, host: None, proxy: Proxy, peer: Peer, topic: str) -> None:
        self.proxy, self.peer, self.target = proxy, peer, topic
        await peer.client.subscribe(topic, qos=2)

    def settings(self) -> Brokers:
        return self.broker

    async def received(self) -> list[Any]:
        return [msgspec.json.decode(payload) for payload in await self.peer.received(self.target)]


class TestMqttDestinationInVersion3(TestMqttDestination):
    protocol = "3.1.1"

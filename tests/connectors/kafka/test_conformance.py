"""The conformance suites, against a real broker behind a proxy that takes it away."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

import msgspec
import pytest
import pytest_asyncio

from eventfn.event import Record
from eventfn.testing import DestinationSuite, StreamSuite
from eventfn.units import Duration
from eventfn_kafka import KafkaDestination, KafkaTrigger
from eventfn_kafka.library import aiokafka
from eventfn_kafka.settings import Clusters, KafkaSettings
from tests.connectors.kafka.conftest import Broker, Peer
from tests.servers.proxy import Proxy


@pytest_asyncio.fixture
async def proxy(broker: Broker) -> AsyncIterator[Proxy]:
    """Where the broker says it is."""
    proxy = Proxy("127.0.0.1", broker.proxied.port)
    proxy.port = broker.proxied.advertised
    async with proxy:
        yield proxy


class TestKafkaTrigger(StreamSuite):
    trigger = KafkaTrigger
    name = "kafka"
    variables: ClassVar[Mapping[str, str]] = {"KAFKA_PASSWORD": "secret"}
    nonsense = (
        {},
        {"topics": []},
        {"topics": ["two words"]},
        {"topics": ["t", "t"]},
        {"topics": ["t"], "group_id": ""},
        {"topics": ["t"], "event_format": "avro"},
        {"topics": ["t"], "session_timeout": "10ms"},
        {"topics": ["t"], "password": "secret"},
    )
    outside = True
    patience = 30.0  # a broker is asked for its sign of life for some seconds before it is said to be gone

    @pytest_asyncio.fixture(autouse=True)
    async def _topic(self, host: None, peer: Peer, proxy: Proxy) -> None:
        self.peer = peer
        self.proxy = proxy
        self.topic = await peer.create(partitions=2)

    def settings(self) -> KafkaSettings:
        return KafkaSettings(topics=(self.topic,), group_id=self.topic, session_timeout=Duration(6))

    def shared(self) -> Clusters:
        return Clusters(bootstrap_servers=(f"127.0.0.1:{self.proxy.port}",))

    async def elsewhere(self) -> KafkaSettings:
        topic = await self.peer.create()
        return KafkaSettings(topics=(topic,), group_id=topic, session_timeout=Duration(6))

    async def put(self, number: int, key: str | None = None) -> None:
        await self.peer.put(self.topic, str(number).encode(), None if key is None else key.encode())

    def number(self, record: Record) -> int:
        return int(base64.b64decode(msgspec.json.decode(record.payload)["value"]))

    async def refuse(self) -> None:
        await self.proxy.refuse()

    async def accept(self) -> None:
        await self.proxy.accept()


class TestKafkaDestination(DestinationSuite):
    destination = KafkaDestination
    scheme = "kafka"
    too_large = 3_000_000
    variables: ClassVar[Mapping[str, str]] = {"KAFKA_PASSWORD": "secret"}
    nonsense = ("", "..", "two words", "a/b/c", "nowhere/topic", "x" * 250)

    @pytest_asyncio.fixture(autouse=True)
    async def _topic(self, host: None, peer: Peer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("eventfn_kafka.destination.REQUEST", 3.0)  # as long as a write tries while brokers are away
        self.peer = peer
        self.proxy = proxy
        self.target = await peer.create(configs={"max.message.bytes": "2000000"})
        self.elsewhere = await peer.create()

    def settings(self) -> Clusters:
        return Clusters(bootstrap_servers=(f"127.0.0.1:{self.proxy.port}",))

    async def received(self) -> list[Any]:
        count = (await self.peer.ends(self.target, 1))[0]
        consumer = aiokafka.AIOKafkaConsumer(
            self.target, bootstrap_servers=self.peer.bootstrap, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            return [msgspec.json.decode((await consumer.getone()).value) for _ in range(count)]
        finally:
            await consumer.stop()

    async def refuse(self) -> None:
        await self.proxy.refuse()

    async def accept(self) -> None:
        await self.proxy.accept()

"""The conformance suites, against a real RabbitMQ behind a proxy that takes it down and up."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import msgspec
import pytest
import pytest_asyncio

from eventfn.event import Record
from eventfn.testing import DestinationSuite, TriggerSuite, memory_queues, trigger_context
from eventfn.trigger import TriggerContext
from eventfn_amqp import AmqpDestination, AmqpTrigger
from eventfn_amqp.connection import Brokers
from eventfn_amqp.settings import QueueSettings
from tests.connectors.amqp.conftest import Peer
from tests.servers.proxy import Proxy


class _BehindTheProxy:
    proxy: Proxy
    peer: Peer

    @property
    def broker(self) -> Brokers:
        return Brokers(url=f"amqp://guest:guest@{self.proxy.host}:{self.proxy.port}/")

    async def refuse(self) -> None:
        await self.proxy.refuse()

    async def accept(self) -> None:
        await self.proxy.accept()


class TestAmqpTrigger(_BehindTheProxy, TriggerSuite):
    trigger = AmqpTrigger
    name = "amqp"
    variables: ClassVar = dict.fromkeys(("AMQP_URL", "ARCHIVE_AMQP_URL"), "amqp://guest:guest@127.0.0.1/")
    outside = True
    nonsense: ClassVar = (
        {},
        {"queue": ""},
        {"queue": "a", "prefetch": 0},
        {"queue": "a", "arguments": {"x-max-length": 1}},
        {"queue": "a", "queue_type": "classic"},
        {"queue": "a", "declare": True, "queue_type": "stream"},
        {"queue": "a", "dead_letter_queue": "a"},
    )
    queue_type = "quorum"

    @pytest_asyncio.fixture(autouse=True)
    async def queue(self, host: None, proxy: Proxy, peer: Peer) -> AsyncIterator[None]:
        self.proxy, self.peer = proxy, peer
        self.queue_name = await peer.declare(arguments={"x-queue-type": self.queue_type})
        async with memory_queues(self.clock) as self.queues:
            yield

    def make_context(self) -> TriggerContext:
        return trigger_context(self.folder, clock=self.clock, positions=self.positions, queues=self.queues)

    def settings(self) -> QueueSettings:
        return QueueSettings(queue=self.queue_name)

    async def elsewhere(self) -> QueueSettings:
        return QueueSettings(queue=await self.peer.declare())

    def shared(self) -> Brokers:
        return self.broker

    async def put(self, number: int) -> None:
        await self.peer.send(self.queue_name, b'{"number": %d}' % number, message_id=f"message-{number}")

    def number(self, record: Record) -> int:
        number: int = msgspec.json.decode(base64.b64decode(msgspec.json.decode(record.payload)["data"]))["number"]
        return number


class TestAmqpTriggerOfAClassicQueue(TestAmqpTrigger):
    queue_type = "classic"


class TestAmqpDestination(_BehindTheProxy, DestinationSuite):
    destination = AmqpDestination
    scheme = "amqp"
    nonsense = ("", "two words", "/key", "/")
    variables: ClassVar = dict.fromkeys(("AMQP_URL", "ARCHIVE_AMQP_URL"), "amqp://guest:guest@127.0.0.1/")

    @pytest_asyncio.fixture(autouse=True)
    async def queue(self, host: None, proxy: Proxy, peer: Peer) -> None:
        self.proxy, self.peer = proxy, peer
        self.target = await peer.declare()
        self.seen: list[Any] = []

    def settings(self) -> Brokers:
        return self.broker

    async def received(self) -> list[Any]:
        self.seen += [msgspec.json.decode(message.body) for message in await self.peer.take(self.target)]
        return self.seen


@pytest.mark.parametrize("target", ["orders", "billing/failed", "billing/", "a/b/c"])
def test_what_is_a_good_target(target: str) -> None:
    assert AmqpDestination.check(target, Brokers()) is None

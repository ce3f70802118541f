"""The conformance suites against a NATS that is killed and started again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import pytest_asyncio

from eventfn.event import Record
from eventfn.testing import DestinationSuite, TriggerSuite
from eventfn.units import Duration
from eventfn_nats import NatsDestination, NatsTrigger
from eventfn_nats.settings import Server, Sink, Source
from tests.servers.nats import NatsServer
from tests.servers.proxy import Proxy


@pytest.fixture(autouse=True)
def _running(server: NatsServer) -> None:
    """A test that failed may have left it down."""
    if not server._answers():
        server.start()


class TestNatsTrigger(TriggerSuite):
    trigger = NatsTrigger
    name = "nats"

    @pytest_asyncio.fixture(autouse=True)
    async def _server(self, _running: None, server: NatsServer, proxy: Proxy, peer: Any, stream: str) -> None:
        self.server, self.proxy, self.peer, self.stream = server, proxy, peer, stream

    def settings(self) -> Source:
        return Source(
            stream=self.stream,
            subject=f"{self.stream}.new",
            visibility_timeout=Duration(20),
            dead_letter_subject=f"{self.stream}.dead",
        )

    def shared(self) -> Server:
        return Server(servers=(f"nats://{self.proxy.host}:{self.proxy.port}",))

    async def put(self, number: int) -> None:
        await self.peer.publish(f"{self.stream}.new", str(number).encode())

    def number(self, record: Record) -> int:
        return int(msgspec.json.decode(record.payload)["body"])

    async def refuse(self) -> None:
        await self.proxy.refuse()
        self.server.kill()

    async def accept(self) -> None:
        self.server.start()
        await self.proxy.accept()


class TestNatsDestination(DestinationSuite):
    destination = NatsDestination
    scheme = "nats"
    nonsense = ("", "two words", "a..b", "a.*", "a.>")

    @pytest_asyncio.fixture(autouse=True)
    async def _server(self, _running: None, server: NatsServer, proxy: Proxy, peer: Any, stream: str) -> None:
        self.server, self.proxy, self.peer, self.stream = server, proxy, peer, stream
        self.target = f"{stream}.out"

    def settings(self) -> Sink:
        return Sink(servers=(f"nats://{self.proxy.host}:{self.proxy.port}",))

    async def received(self) -> list[Any]:
        return [msgspec.json.decode(message.data) for message in await self.peer.messages(self.stream)]

    async def refuse(self) -> None:
        await self.proxy.refuse()
        self.server.kill()

    async def accept(self) -> None:
        self.server.start()
        await self.proxy.accept()

"""The conformance suites against a NATS that is killed and started again."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest
import pytest_asyncio

from eventfn.event import Record
from eventfn.testing import DestinationSuite, TriggerSuite
from eventfn.units import Duration
from eventfn_nats import NatsDestination, NatsTrigger
from eventfn_nats.settings import Clusters, Source
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
    outside = True
    nonsense = (
        {},
        {"stream": ""},
        {"stream": "two words"},
        {"stream": "A", "consumer": "a.b"},
        {"stream": "A", "subject": "a..b"},
        {"stream": "A", "visibility_timeout": "0s"},
        {"stream": "A", "max_receive_count": 3},
        {"stream": "A", "dead_letter_subject": "dead.>"},
        {"stream": "A", "starting_position": "AT_TIMESTAMP"},
    )
    visibility: Duration = Duration(20)

    @pytest_asyncio.fixture(autouse=True)
    async def _server(self, _running: None, server: NatsServer, proxy: Proxy, peer: Any, stream: str) -> None:
        self.server, self.proxy, self.peer, self.stream = server, proxy, peer, stream

    def settings(self) -> Source:
        return Source(
            stream=self.stream,
            subject=f"{self.stream}.new",
            visibility_timeout=self.visibility,
            dead_letter_subject=f"{self.stream}.dead",
        )

    def shared(self) -> Clusters:
        return Clusters(servers=(f"nats://{self.proxy.host}:{self.proxy.port}",))

    async def put(self, number: int) -> None:
        await self.peer.publish(f"{self.stream}.new", str(number).encode())

    def number(self, record: Record) -> int:
        return int(msgspec.json.decode(record.payload)["body"])

    async def elsewhere(self) -> Source:
        await self.peer.add_stream(f"{self.stream}-elsewhere")
        return Source(stream=f"{self.stream}-elsewhere")

    async def lapse(self) -> None:
        """The server counts by its own clock, and in no time from now on."""
        jetstream = await self.peer.jetstream()
        info = await jetstream.consumer_info(self.stream, "hello")
        await jetstream.add_consumer(self.stream, config=info.config.evolve(ack_wait=0.05))

    async def refuse(self) -> None:
        await self.proxy.refuse()
        self.server.kill()

    async def accept(self) -> None:
        self.server.start()
        await self.proxy.accept()

    async def test_what_a_killed_reader_had_comes_again(self) -> None:
        # It passes on the server's clock, which is real. JSON, in which the reader gets it, knows no Duration.
        self.visibility = cast(Duration, 1.0)
        await super().test_what_a_killed_reader_had_comes_again()


class TestNatsDestination(DestinationSuite):
    destination = NatsDestination
    scheme = "nats"
    nonsense = ("", "two words", "a..b", "a.*", "a.>")
    too_large = 8 * 1024 * 1024  # the server's max_payload

    @pytest_asyncio.fixture(autouse=True)
    async def _server(self, _running: None, server: NatsServer, proxy: Proxy, peer: Any, stream: str) -> None:
        self.server, self.proxy, self.peer, self.stream = server, proxy, peer, stream
        self.target = f"{stream}.out"
        self.elsewhere = f"{stream}-elsewhere.out"
        await peer.add_stream(f"{stream}-elsewhere")

    def settings(self) -> Clusters:
        return Clusters(servers=(f"nats://{self.proxy.host}:{self.proxy.port}",))

    async def received(self) -> list[Any]:
        return [msgspec.json.decode(message.data) for message in await self.peer.messages(self.stream)]

    async def refuse(self) -> None:
        await self.proxy.refuse()
        self.server.kill()

    async def accept(self) -> None:
        self.server.start()
        await self.proxy.accept()

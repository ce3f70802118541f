"""One Mosquitto for all tests here, and topics of their own for each. The other side is another client's: aiomqtt."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import aiomqtt
import pytest
import pytest_asyncio

from eventfn.testing import eventually
from tests.servers import mosquitto
from tests.servers.mosquitto import Mosquitto
from tests.servers.needed import need
from tests.servers.proxy import Proxy

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    need(mosquitto.missing())
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as server:
        yield server


@pytest_asyncio.fixture
async def proxy(server: Mosquitto) -> AsyncIterator[Proxy]:
    async with Proxy(server.host, server.port) as proxy:
        yield proxy


class Peer:
    """The other side: who publishes, and who has subscribed. It does not go through the proxy."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.seen: list[aiomqtt.Message] = []

    async def hear(self) -> None:
        async for message in self.client.messages:
            self.seen.append(message)

    async def received(self, topic: str) -> list[bytes]:
        """All that was published there until now, since `subscribe`: a mark that is published last comes last."""
        mark = b"mark %d" % next(_numbers)
        await self.client.publish(topic, mark, qos=1)
        await eventually(lambda: any(message.payload == mark for message in self.seen))
        payloads = [message.payload for message in self.seen if str(message.topic) == topic]
        return [bytes(payload) for payload in payloads if not bytes(payload).startswith(b"mark ")]


@pytest_asyncio.fixture
async def peer(server: Mosquitto) -> AsyncIterator[Peer]:
    async with aiomqtt.Client(server.host, server.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        peer = Peer(client)
        hearing = asyncio.create_task(peer.hear())
        yield peer
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)


@pytest.fixture
def topic() -> str:
    return f"topic/{next(_numbers)}"

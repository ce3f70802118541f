"""One NATS for all tests here, and a stream of its own for each."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import nats
import nats.errors
import nats.js.errors
import pytest
from nats.js.api import StreamConfig

from tests.servers.nats import NatsServer, missing
from tests.servers.needed import need
from tests.servers.proxy import Proxy

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    need(missing())
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
async def proxy(server: NatsServer) -> AsyncIterator[Proxy]:
    async with Proxy(server.host, server.port) as proxy:
        yield proxy


class Peer:
    """The other side: it makes streams, fills them and looks into them, and does not go through the proxy."""

    def __init__(self, server: NatsServer) -> None:
        self._server = server
        self._client: Any = None

    async def jetstream(self) -> Any:
        if self._client is None or not self._client.is_connected:
            await self.close()
            self._client = await nats.connect(
                f"nats://{self._server.host}:{self._server.port}", allow_reconnect=False, error_cb=_quiet
            )
        return self._client.jetstream()

    async def add_stream(self, name: str, **config: Any) -> None:
        subjects = [f"{name}.>"]
        await (await self.jetstream()).add_stream(StreamConfig(name=name, subjects=subjects, **config))

    async def publish(self, subject: str, body: bytes, **headers: str) -> int:
        """The message's sequence in its stream."""
        answer = await (await self.jetstream()).publish(subject, body, headers=headers or None)
        sequence: int = answer.seq
        return sequence

    async def messages(self, stream: str) -> list[Any]:
        jetstream = await self.jetstream()
        state = (await jetstream.stream_info(stream)).state
        found = []
        for sequence in range(max(state.first_seq, 1), state.last_seq + 1):
            try:
                found.append(await jetstream.get_msg(stream, sequence))
            except nats.js.errors.NotFoundError:
                continue  # deleted
        return found

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


async def _quiet(error: Exception) -> None:
    pass


@pytest.fixture
async def peer(server: NatsServer) -> AsyncIterator[Peer]:
    peer = Peer(server)
    yield peer
    await peer.close()


@pytest.fixture
async def stream(peer: Peer) -> str:
    """Takes all subjects that begin with its name."""
    name = f"STREAM-{next(_numbers)}"
    await peer.add_stream(name)
    return name

"""One RabbitMQ for all tests here, and queues of their own for each."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiormq
import pytest
import pytest_asyncio
from aiormq import spec
from aiormq.abc import AbstractChannel

from tests.servers import rabbitmq
from tests.servers.needed import need
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMQ, free_port

_names = (f"queue-{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    need(rabbitmq.missing())
    folder = tmp_path_factory.mktemp("rabbitmq")
    certificate, key = self_signed(folder)
    encrypted = [
        f"listeners.ssl.local = 127.0.0.1:{free_port()}",
        f"ssl_options.certfile = {certificate}",
        f"ssl_options.keyfile = {key}",
        "ssl_options.verify = verify_none",
    ]
    with RabbitMQ(folder, *encrypted) as server:
        yield server


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for "localhost", and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture
def encrypted(server: RabbitMQ) -> tuple[str, Path]:
    """The URL of the same server with TLS, and the authority to trust."""
    settings = (server.folder / "rabbitmq.conf").read_text()
    port = settings.partition("listeners.ssl.local = 127.0.0.1:")[2].split()[0]
    return f"amqps://guest:guest@localhost:{port}/", server.folder / "certificate.pem"


@pytest_asyncio.fixture
async def proxy(server: RabbitMQ) -> AsyncIterator[Proxy]:
    async with Proxy(server.host, server.port) as proxy:
        yield proxy


class Peer:
    """The other side: who sends to queues, and looks into them. It does not go through the proxy."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None
        self._channel: AbstractChannel

    async def channel(self) -> AbstractChannel:
        if self._connection is None or self._connection.is_closed or self._channel.is_closed:
            await self.close()
            self._connection = await aiormq.connect(self._url)
            self._channel = await self._connection.channel()
        return self._channel

    async def declare(self, queue: str | None = None, arguments: dict[str, Any] | None = None) -> str:
        name = queue or next(_names)
        arguments = {"x-queue-type": "quorum"} | (arguments or {})
        await (await self.channel()).queue_declare(name, durable=True, arguments=arguments)
        return name

    async def send(self, queue: str, body: bytes, **properties: Any) -> None:
        properties = {"delivery_mode": 2} | properties
        answer = await (await self.channel()).basic_publish(
            body, routing_key=queue, properties=spec.Basic.Properties(**properties), mandatory=True
        )
        assert isinstance(answer, spec.Basic.Ack)

    async def take(self, queue: str) -> list[Any]:
        """All messages that wait there, and they are gone."""
        messages = []
        channel = await self.channel()
        while (message := await channel.basic_get(queue, no_ack=True)).delivery_tag is not None:
            messages.append(message)
        return messages

    async def waiting(self, queue: str) -> int:
        found = await (await self.channel()).queue_declare(queue, passive=True)
        return found.message_count or 0

    async def delete(self, queue: str) -> None:
        await (await self.channel()).queue_delete(queue)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()


@pytest_asyncio.fixture
async def peer(server: RabbitMQ) -> AsyncIterator[Peer]:
    peer = Peer(server.url)
    yield peer
    await peer.close()

"""One Redis for all tests here, and a stream of its own for each."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis.asyncio

from tests.servers.needed import need
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer, missing

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    need(missing())
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[Proxy]:
    async with Proxy(server.host, server.port) as proxy:
        yield proxy


@pytest.fixture
async def peer(server: RedisServer) -> AsyncIterator[Any]:
    """The other side: a client that does not go through the proxy."""
    peer: Any = redis.asyncio.Redis(host=server.host, port=server.port)
    yield peer
    await peer.aclose()


@pytest.fixture
def stream() -> str:
    return f"stream-{next(_numbers)}"

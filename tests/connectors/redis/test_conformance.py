"""The conformance suites against a Redis that is killed and started again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest
import pytest_asyncio

from eventfn.event import Record
from eventfn.testing import DestinationSuite, TriggerSuite
from eventfn.units import Duration
from eventfn_redis import RedisDestination, RedisTrigger
from eventfn_redis.settings import Servers, Sinks, Source
from tests.servers.proxy import Proxy
from tests.servers.redis import RedisServer

VARIABLES = {"REDIS_PASSWORD": "secret"}


class TestRedisTrigger(TriggerSuite):
    trigger = RedisTrigger
    name = "redis"
    variables = VARIABLES
    outside = True
    nonsense = (
        {},
        {"stream": ""},
        {"stream": "a", "group": ""},
        {"stream": "a", "visibility_timeout": "0s"},
        {"stream": "a", "max_receive_count": 3},
        {"stream": "a", "dead_letter_stream": "a"},
        {"stream": "a", "starting_position": "AT_TIMESTAMP"},
        {"stream": "a", "starting_position": "NOWHERE"},
    )
    visibility: Duration = Duration(20)

    @pytest_asyncio.fixture(autouse=True)
    async def _server(self, server: RedisServer, proxy: Proxy, peer: Any, stream: str) -> None:
        self.server, self.proxy, self.peer, self.stream = server, proxy, peer, stream

    def settings(self) -> Source:
        return Source(stream=self.stream, visibility_timeout=self.visibility, dead_letter_stream="dead")

    async def elsewhere(self) -> Source:
        return Source(stream=f"{self.stream}-elsewhere")

    def shared(self) -> Servers:
        return Servers(url=f"redis://{self.proxy.host}:{self.proxy.port}")

    async def put(self, number: int) -> None:
        await self.peer.xadd(self.stream, {"body": str(number)})

    def number(self, record: Record) -> int:
        return int(msgspec.json.decode(record.payload)["body"])

    async def lapse(self) -> None:
        for entry in await self.peer.xpending_range(self.stream, "hello", "-", "+", 100):
            await self.peer.xclaim(
                self.stream, "hello", entry["consumer"], 0, [entry["message_id"]], idle=60_000, justid=True
            )

    async def refuse(self) -> None:
        await self.peer.connection_pool.disconnect()  # it is to hear nothing of this
        await self.proxy.refuse()
        self.server.kill()

    async def accept(self) -> None:
        self.server.start()
        await self.proxy.accept()

    async def test_what_a_killed_reader_had_comes_again(self) -> None:
        # It passes on Redis' clock, which is real. JSON, in which the reader gets it, knows no Duration.
        self.visibility = cast(Duration, 1.0)
        await super().test_what_a_killed_reader_had_comes_again()


class TestRedisDestination(DestinationSuite):
    destination = RedisDestination
    scheme = "redis"
    nonsense = ("", "two words", "new\nline")
    variables = VARIABLES

    @pytest_asyncio.fixture(autouse=True)
    async def _server(self, server: RedisServer, proxy: Proxy, peer: Any, stream: str) -> AsyncIterator[None]:
        self.server, self.proxy, self.peer, self.target = server, proxy, peer, stream
        self.elsewhere = f"{stream}-elsewhere"
        yield
        await peer.delete(*[key async for key in peer.scan_iter(f"{stream}:eventfn:*")], stream)

    def settings(self) -> Sinks:
        return Sinks(url=f"redis://{self.proxy.host}:{self.proxy.port}")

    async def received(self) -> list[Any]:
        return [msgspec.json.decode(fields[b"body"]) for _, fields in await self.peer.xrange(self.target)]

    async def refuse(self) -> None:
        await self.peer.connection_pool.disconnect()  # it is to hear nothing of this
        await self.proxy.refuse()
        self.server.kill()

    async def accept(self) -> None:
        self.server.start()
        await self.proxy.accept()


@pytest.fixture(autouse=True)
def _running(server: RedisServer) -> None:
    """A test that failed may have left it down."""
    if not server._answers():
        server.start()

"""The conformance suites, each against three independent servers.

Of the three only kinesalite has shards that end: moto goes on writing into a shard that was split, and moves its
records to the children; MiniStack deletes the parent with all that is in it.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import msgspec
import pytest
import pytest_asyncio

from eventfn.event import Record
from eventfn.testing import DestinationSuite, StreamSuite
from eventfn_aws.kinesis import KinesisDestination, KinesisTrigger
from eventfn_aws.settings import AwsSettings
from tests.connectors.aws_kinesis.conftest import REGION, Peer, reached
from tests.servers.process import HttpServer
from tests.servers.proxy import Proxy


class KinesisSuite(StreamSuite):
    trigger = KinesisTrigger
    name = "kinesis"
    server: ClassVar[str]
    shards: ClassVar[int] = 1

    @pytest_asyncio.fixture(autouse=True)
    async def _stream(self, request: pytest.FixtureRequest, hosts: None) -> AsyncIterator[None]:
        server: HttpServer = request.getfixturevalue(self.server)
        self.peer = Peer(server.url)
        self.stream = await self.peer.create(self.shards)
        async with Proxy(server.host, server.port) as self.proxy:
            yield
        await self.peer.close()

    def settings(self) -> Any:
        return KinesisTrigger.Settings(stream=self.stream)

    def shared(self) -> AwsSettings:
        return reached(f"http://{self.proxy.host}:{self.proxy.port}")

    async def put(self, number: int, key: str | None = None) -> None:
        await self.peer.put(self.stream, key or f"any-{number}", msgspec.json.encode({"number": number}))

    def number(self, record: Record) -> int:
        data = msgspec.json.decode(record.payload)["kinesis"]["data"]
        number: int = msgspec.json.decode(base64.b64decode(data))["number"]
        return number

    async def refuse(self) -> None:
        await self.proxy.refuse()

    async def accept(self) -> None:
        await self.proxy.accept()


class TestOnKinesalite(KinesisSuite):
    server = "kinesalite_server"
    shards = 3

    async def split(self) -> None:
        for shard in await self.peer.open_shards(self.stream):
            await self.peer.split(self.stream, shard)

    async def test_a_timestamp_is_where_it_begins(self) -> None:
        # kinesalite never answers for a shard in which nothing came after the time.
        self.stream = await self.peer.create(shards=1)
        await super().test_a_timestamp_is_where_it_begins()


class TestOnMoto(KinesisSuite):
    server = "moto_server"  # one shard: its sequence numbers are those of a shard, and not of a stream
    flood = 240  # more than a host has in hand at once, and no more: its server is slow


class TestOnMiniStack(KinesisSuite):
    server = "ministack_server"
    shards = 2
    flood = 240  # more than a host has in hand at once, and no more: its server is slow


# --- the destination --------------------------------------------------------------------------------------------------


# aiohttp's opinion of bodies over 1 MB, which is an error in tests only.
@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
class KinesisDestinationSuite(DestinationSuite):
    destination = KinesisDestination
    scheme = "kinesis"
    nonsense = ("", "two words", "arn:aws:sqs:us-east-1:123456789012:orders", "a/b", "x" * 129)
    largest = 1024 * 1024 - 16  # with its partition key 1 MB
    server: ClassVar[str]

    @pytest_asyncio.fixture(autouse=True)
    async def _stream(self, request: pytest.FixtureRequest, host: None) -> AsyncIterator[None]:
        server: HttpServer = request.getfixturevalue(self.server)
        self.peer = Peer(server.url)
        self.target = await self.peer.create()
        async with Proxy(server.host, server.port) as self.proxy:
            yield
        await self.peer.close()

    def settings(self) -> Any:
        url = f"http://{self.proxy.host}:{self.proxy.port}"
        return KinesisDestination.Settings(
            region=REGION, endpoint_url=url, access_key_id="test", secret_access_key="test"
        )

    async def received(self) -> list[Any]:
        return [msgspec.json.decode(data) for data in await self.peer.read_all(self.target)]

    async def refuse(self) -> None:
        await self.proxy.refuse()

    async def accept(self) -> None:
        await self.proxy.accept()


class TestDestinationOnKinesalite(KinesisDestinationSuite):
    server = "kinesalite_server"


class TestDestinationOnMoto(KinesisDestinationSuite):
    server = "moto_server"


class TestDestinationOnMiniStack(KinesisDestinationSuite):
    server = "ministack_server"

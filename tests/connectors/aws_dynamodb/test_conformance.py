"""The conformance suite against two independent servers.

Where they differ from DynamoDB, the contract is what functions see: moto says eventVersion "1.0" and us-east-1 of every
record, and gives times to the microsecond; MiniStack counts no SizeBytes of some. Both have one shard for each stream;
MiniStack gives that of every stream the same name, and lists a table's latest stream only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import msgspec
import pytest
import pytest_asyncio

from eventfn.event import Record
from eventfn.testing import StreamSuite
from eventfn_aws.dynamodb import DynamodbTrigger
from eventfn_aws.settings import AwsSettings
from tests.connectors.aws_dynamodb.conftest import Peer, reached
from tests.servers.process import HttpServer
from tests.servers.proxy import Proxy


class DynamodbSuite(StreamSuite):
    trigger = DynamodbTrigger
    name = "dynamodb"
    flood = 240  # more than a host has in hand at once, and no more: the servers are slow
    server: ClassVar[str]

    @pytest_asyncio.fixture(autouse=True)
    async def _table(self, request: pytest.FixtureRequest, hosts: None) -> AsyncIterator[None]:
        server: HttpServer = request.getfixturevalue(self.server)
        self.peer = Peer(server.url)
        self.table = await self.peer.create()
        async with Proxy(server.host, server.port) as self.proxy:
            yield
        await self.peer.close()

    def settings(self) -> Any:
        return DynamodbTrigger.Settings(table=self.table)

    def shared(self) -> AwsSettings:
        return reached(f"http://{self.proxy.host}:{self.proxy.port}")

    async def put(self, number: int, key: str | None = None) -> None:
        await self.peer.put(self.table, key or f"any-{number}", number={"N": str(number)})

    def number(self, record: Record) -> int:
        image = msgspec.json.decode(record.payload)["dynamodb"]["NewImage"]
        return int(image["number"]["N"])

    async def refuse(self) -> None:
        await self.proxy.refuse()

    async def accept(self) -> None:
        await self.proxy.accept()


class TestOnMoto(DynamodbSuite):
    server = "moto_server"


class TestOnMiniStack(DynamodbSuite):
    server = "ministack_server"

"""The servers, each started once, and the other side: who makes tables and changes items."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from eventfn_aws.client import AwsSettings, Client
from tests.servers import ministack, moto
from tests.servers.needed import need
from tests.servers.process import HttpServer

_names = (f"table-{number}" for number in itertools.count())
REGION = "eu-central-1"


def running(module: Any, folders: pytest.TempPathFactory) -> Iterator[HttpServer]:
    need(module.missing())
    with module.server(folders.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    yield from running(moto, tmp_path_factory)


@pytest.fixture(scope="session")
def ministack_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    yield from running(ministack, tmp_path_factory)


def reached(url: str) -> AwsSettings:
    return AwsSettings(region=REGION, endpoint_url=url, access_key_id="test", secret_access_key="test")


class Peer:
    """The other side of a server. It does not go through a proxy."""

    def __init__(self, url: str) -> None:
        self.client = Client("dynamodb", reached(url))

    async def create(self, view: str | None = "NEW_AND_OLD_IMAGES") -> str:
        """A table whose key is `id`, with a stream unless `view` is None."""
        name = next(_names)
        await self.client.open()
        stream = {"StreamEnabled": view is not None} | ({"StreamViewType": view} if view else {})
        await self.client.call(
            "create_table",
            TableName=name,
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification=stream,
        )
        return name

    async def put(self, table: str, key: str, **values: Any) -> None:
        """`values` are typed: number={"N": "7"}."""
        await self.client.call("put_item", TableName=table, Item={"id": {"S": key}, **values})

    async def delete(self, table: str, key: str) -> None:
        await self.client.call("delete_item", TableName=table, Key={"id": {"S": key}})

    async def stream_arn(self, table: str) -> str:
        arn: str = (await self.client.call("describe_table", TableName=table))["Table"]["LatestStreamArn"]
        return arn

    async def switch_stream(self, table: str, *, on: bool) -> None:
        stream = {"StreamEnabled": on} | ({"StreamViewType": "NEW_IMAGE"} if on else {})
        await self.client.call("update_table", TableName=table, StreamSpecification=stream)

    async def close(self) -> None:
        await self.client.close()

"""The servers, each started once, and the other side: who makes streams and puts records in."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from eventfn_aws.client import AwsSettings, Client
from tests.servers import kinesalite, ministack, moto
from tests.servers.needed import need
from tests.servers.process import HttpServer
from tests.support import until

_names = (f"stream-{number}" for number in itertools.count())
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


@pytest.fixture(scope="session")
def kinesalite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    yield from running(kinesalite, tmp_path_factory)


def reached(url: str, **more: Any) -> AwsSettings:
    keys = {"access_key_id": "test", "secret_access_key": "test"}
    return AwsSettings(region=REGION, endpoint_url=url, **keys | more)


class Peer:
    """The other side of a server. It does not go through a proxy."""

    def __init__(self, url: str) -> None:
        self.client = Client("kinesis", reached(url))

    async def create(self, shards: int = 1) -> str:
        name = next(_names)
        await self.client.open()
        await self.client.call("create_stream", StreamName=name, ShardCount=shards)
        await self.until_active(name)
        return name

    async def until_active(self, stream: str) -> None:
        async def active() -> bool:
            found = await self.client.call("describe_stream_summary", StreamName=stream)
            return bool(found["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE")

        await until(active, f"{stream} is active")

    async def until_gone(self, stream: str) -> None:
        async def gone() -> bool:
            return stream not in (await self.client.call("list_streams"))["StreamNames"]

        await until(gone, f"{stream} is gone")

    async def put(self, stream: str, key: str, data: bytes) -> str:
        answer = await self.client.call("put_record", StreamName=stream, PartitionKey=key, Data=data)
        sequence_number: str = answer["SequenceNumber"]
        return sequence_number

    async def put_many(self, stream: str, records: Sequence[tuple[str, bytes]]) -> None:
        entries = [{"PartitionKey": key, "Data": data} for key, data in records]
        answer = await self.client.call("put_records", StreamName=stream, Records=entries)
        assert answer["FailedRecordCount"] == 0

    async def open_shards(self, stream: str) -> list[dict[str, Any]]:
        listed = (await self.client.call("list_shards", StreamName=stream))["Shards"]
        return [shard for shard in listed if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]

    async def split(self, stream: str, shard: dict[str, Any]) -> None:
        first, last = (int(shard["HashKeyRange"][f"{end}HashKey"]) for end in ("Starting", "Ending"))
        middle = str((first + last) // 2)
        parent = shard["ShardId"]
        await self.client.call("split_shard", StreamName=stream, ShardToSplit=parent, NewStartingHashKey=middle)
        await self._until_closed(stream, parent)

    async def merge(self, stream: str, one: dict[str, Any], other: dict[str, Any]) -> None:
        await self.client.call(
            "merge_shards", StreamName=stream, ShardToMerge=one["ShardId"], AdjacentShardToMerge=other["ShardId"]
        )
        await self._until_closed(stream, one["ShardId"])

    async def _until_closed(self, stream: str, shard: str) -> None:
        async def closed() -> bool:
            return shard not in [each["ShardId"] for each in await self.open_shards(stream)]

        await until(closed, f"{shard} is closed")

    async def read_all(self, stream: str) -> list[bytes]:
        """What is in the stream's shards, one shard after the other."""
        found: list[bytes] = []
        for shard in (await self.client.call("list_shards", StreamName=stream))["Shards"]:
            asked = {"StreamName": stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
            iterator = (await self.client.call("get_shard_iterator", **asked))["ShardIterator"]
            while iterator is not None:
                answer = await self.client.call("get_records", ShardIterator=iterator, Limit=10_000)
                if not answer["Records"]:
                    break
                found += [record["Data"] for record in answer["Records"]]
                iterator = answer.get("NextShardIterator")
        return found

    async def close(self) -> None:
        await self.client.close()


@pytest_asyncio.fixture
async def kinesis(kinesalite_server: HttpServer) -> AsyncIterator[Peer]:
    """The server whose shards close, split and merge as AWS' do."""
    peer = Peer(kinesalite_server.url)
    yield peer
    await peer.close()

"""The stream of a DynamoDB table as a source: shards are read one by one, and the host keeps how far each is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from eventfn.errors import ConnectorError
from eventfn.event import Record
from eventfn.trigger import BatchInfo, Shard, ShardReader, Start, Traits, TriggerContext
from eventfn_aws.client import AwsError, AwsSettings, Client
from eventfn_aws.dynamodb import tables
from eventfn_aws.dynamodb.reading import PACE, TableShard
from eventfn_aws.shards.batch_info import batch_info, with_seconds
from eventfn_aws.shards.reader import PacedReader
from eventfn_aws.shards.tree import one_after_the_other, tree


class DynamodbTrigger:
    class Settings(msgspec.Struct, frozen=True, kw_only=True):
        table: str | None = None  # its name or ARN: all of its streams, one after the other
        stream: str | None = None  # the ARN of one stream

        def __post_init__(self) -> None:
            if (self.table is None) == (self.stream is None):
                raise ValueError("table: expected either a table or the ARN of a stream")
            if self.table is not None and not tables.is_table(self.table):
                raise ValueError('table: expected the name of a table, such as "orders", or its ARN')
            if self.stream is not None and not tables.is_stream(self.stream):
                raise ValueError('stream: expected an ARN such as "arn:aws:dynamodb:...:table/orders/stream/..."')

    Shared: ClassVar[type[msgspec.Struct] | None] = AwsSettings
    traits: ClassVar[Traits] = Traits(
        invocation="request_response",
        ack="prefix",
        ordered=True,
        default_batch_size=100,
        starting_positions=("TRIM_HORIZON", "LATEST"),
    )

    def __init__(self, settings: Settings, shared: AwsSettings, context: TriggerContext) -> None:
        self._stream = settings.stream
        named = settings.stream or settings.table or ""
        self._table = tables.table_name(named)
        self._context = context
        self._client = Client("dynamodbstreams", shared, region=tables.region_of(named), default_region=context.region)
        self._streams: list[str] = [] if settings.stream is None else [settings.stream]  # ARNs, the latest last
        self._stream_of: dict[str, str] = {}  # shard -> ARN, as they were last listed

    @property
    def event_source_arn(self) -> str:
        """Of the table's latest stream, once the trigger is connected."""
        return self._streams[-1] if self._streams else ""

    async def connect(self) -> None:
        await self._client.open()
        await self.shards()  # says what is missing, if something is

    async def shards(self) -> Sequence[Shard]:
        if self._stream is None:
            await self._find_streams()
        trees: list[list[Shard]] = []
        stream_of: dict[str, str] = {}
        for stream in self._streams:
            shards = tree(await self._listed(stream))
            trees.append(shards)
            stream_of |= {shard.id: stream for shard in shards}
        self._stream_of = stream_of
        return one_after_the_other(trees)

    async def _find_streams(self) -> None:
        """A stream that is switched off and on again is another one; what is left in the old one can still be read."""
        found: list[str] = []
        more: dict[str, str] = {}
        while True:
            page = await self._client.call("list_streams", TableName=self._table, **more)
            found += [stream["StreamArn"] for stream in page["Streams"]]
            if "LastEvaluatedStreamArn" not in page:
                break
            more = {"ExclusiveStartStreamArn": page["LastEvaluatedStreamArn"]}
        if not found:
            raise self._no_stream()
        found.sort(key=tables.label)
        if self._streams and found[-1] != self._streams[-1]:
            self._context.log.warning("the table %s has a new stream: %s", self._table, found[-1])
        self._streams = found

    def _no_stream(self) -> ConnectorError:
        what, key = ("no stream", "table") if self._stream is None else ("no such stream", "stream")
        return ConnectorError(
            f"the table {self._table} has {what} in {self._client.region}: switch its stream on, or correct `{key}`"
        )

    async def _listed(self, stream: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = []
        more: dict[str, str] = {}
        while True:
            try:
                answer = await self._client.call("describe_stream", StreamArn=stream, **more)
            except AwsError as error:
                if error.code != "ResourceNotFoundException":
                    raise
                raise self._no_stream() from error
            found = answer["StreamDescription"]
            listed += found["Shards"]
            if "LastEvaluatedShardId" not in found:
                return listed
            more = {"ExclusiveStartShardId": found["LastEvaluatedShardId"]}

    async def open_shard(self, shard: Shard, at: str | Start) -> ShardReader:
        if shard.id not in self._stream_of:
            await self.shards()
        if shard.id not in self._stream_of:
            raise ConnectorError(f"{shard.id} has left the stream of the table {self._table}")
        api = TableShard(self._client, self._stream_of[shard.id], shard.id)
        name = f"{shard.id} of the table {self._table}"
        reader = PacedReader(api, PACE, name, self._context.clock, self._context.log)
        await reader.open(at)
        return reader

    def describe(self, shard: str, records: Sequence[Record]) -> BatchInfo:
        stream = self._stream_of.get(shard, self.event_source_arn)
        return BatchInfo("DDBStreamBatchInfo", batch_info(shard, records, stream, with_seconds))

    async def close(self, deadline: float) -> None:
        await self._client.close()

"""A Kinesis stream as a source: its shards are read one by one, and the host keeps how far each is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from eventfn.errors import ConnectorError
from eventfn.event import Record
from eventfn.trigger import BatchInfo, Filtering, Shard, ShardReader, Start, Traits, TriggerContext
from eventfn_aws.client import AwsError, AwsSettings, Client
from eventfn_aws.kinesis import shape
from eventfn_aws.kinesis.reading import PACE, KinesisShard
from eventfn_aws.kinesis.stream import EXPECTED, is_stream, parameter, region_of
from eventfn_aws.shards.batch_info import batch_info, with_milliseconds
from eventfn_aws.shards.reader import PacedReader
from eventfn_aws.shards.tree import tree


class KinesisTrigger:
    class Settings(msgspec.Struct, frozen=True, kw_only=True):
        stream: str  # its name or ARN
        deaggregate: bool = False  # what the Kinesis Producer Library packed into one record is handed over one by one

        def __post_init__(self) -> None:
            if not is_stream(self.stream):
                raise ValueError(f"stream: {EXPECTED}")

    Shared: ClassVar[type[msgspec.Struct] | None] = AwsSettings
    traits: ClassVar[Traits] = Traits(invocation="request_response", ack="prefix", ordered=True, default_batch_size=100)
    data_key: ClassVar[str] = "data"
    filtering: ClassVar[Filtering] = Filtering(root="kinesis", base64_keys=("data",))

    def __init__(self, settings: Settings, shared: AwsSettings, context: TriggerContext) -> None:
        self._settings = settings
        self._context = context
        self._stream = parameter(settings.stream)
        region = region_of(settings.stream)
        self._client = Client("kinesis", shared, region=region, default_region=context.region)
        self._arn = (
            settings.stream
            if region
            else shape.stream_arn(settings.stream, shared.region or context.region, context.account)
        )

    @property
    def event_source_arn(self) -> str:
        """The service's own word for it once the trigger is connected."""
        return self._arn

    async def connect(self) -> None:
        await self._client.open()
        try:
            found = await self._client.call("describe_stream_summary", **self._stream)
        except AwsError as error:
            if error.code != "ResourceNotFoundException":
                raise
            raise ConnectorError(
                f"the stream {self._settings.stream} is not in {self._client.region}: create it, or correct `stream`"
            ) from error
        self._arn = found["StreamDescriptionSummary"]["StreamARN"]

    async def shards(self) -> Sequence[Shard]:
        listed: list[dict[str, Any]] = []
        page = await self._client.call("list_shards", **self._stream)
        listed += page["Shards"]
        while token := page.get("NextToken"):
            page = await self._client.call("list_shards", NextToken=token)
            listed += page["Shards"]
        return tree(listed)

    async def open_shard(self, shard: Shard, at: str | Start) -> ShardReader:
        place = shape.Place(shard.id, self._arn, self._client.region, shape.role_arn(self._context.account))
        api = KinesisShard(
            self._client, self._stream, shard.id, shape.Shape(place), deaggregate=self._settings.deaggregate
        )
        name = f"{shard.id} of {self._settings.stream}"
        reader = PacedReader(api, PACE, name, self._context.clock, self._context.log)
        await reader.open(at)
        return reader

    def describe(self, shard: str, records: Sequence[Record]) -> BatchInfo:
        return BatchInfo("KinesisBatchInfo", batch_info(shard, records, self._arn, with_milliseconds))

    async def close(self, deadline: float) -> None:
        await self._client.close()

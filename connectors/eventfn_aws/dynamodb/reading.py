"""One shard of a table's stream: what is asked of the service, and records made of its answers."""

from __future__ import annotations

from typing import Any

from eventfn.event import Record
from eventfn.trigger import Start
from eventfn_aws.client import Client
from eventfn_aws.dynamodb import shape
from eventfn_aws.shards.reader import Answer, Pace

PACE = Pace(busy=0.25, idle=0.25, most=1000)  # Lambda's: four reads of a shard a second


class TableShard:
    """A ShardApi. A position is a sequence number. There is no AT_TIMESTAMP: what is older is passed over here."""

    def __init__(self, client: Client, stream_arn: str, shard: str) -> None:
        self._client = client
        self._stream_arn = stream_arn
        self._shard = shard
        self._not_before_ms = 0

    async def iterator(self, at: str | Start) -> str:
        if isinstance(at, str):
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": at}
        elif at.timestamp_ms is not None:
            # Times of records are whole seconds, rounded down.
            self._not_before_ms = at.timestamp_ms // 1000 * 1000
            where = {"ShardIteratorType": "TRIM_HORIZON"}
        else:
            where = {"ShardIteratorType": at.position}
        answer = await self._client.call("get_shard_iterator", StreamArn=self._stream_arn, ShardId=self._shard, **where)
        iterator: str = answer["ShardIterator"]
        return iterator

    async def get(self, iterator: str, limit: int) -> Answer:
        answer = await self._client.call("get_records", ShardIterator=iterator, Limit=limit)
        found: list[dict[str, Any]] = answer["Records"]
        records = [self._record(each) for each in found]
        return Answer(
            records=[record for record in records if record.arrived_ms >= self._not_before_ms],
            next=answer.get("NextShardIterator"),
            last=records[-1].id if records else None,
            behind=False,
        )

    def _record(self, found: dict[str, Any]) -> Record:
        change = found["dynamodb"]
        created_ms = round(change["ApproximateCreationDateTime"].timestamp() * 1000)
        return Record(
            id=change["SequenceNumber"],
            payload=shape.record(found, created_ms, self._client.region, self._stream_arn),
            group=shape.item_key(found),
            arrived_ms=created_ms,
            token=change["SequenceNumber"],
        )

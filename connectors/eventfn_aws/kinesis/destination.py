"""A Kinesis stream as a destination: "kinesis:STREAM", by name or ARN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

from eventfn.destination import ORIGIN, WRITTEN, Delivery, DestinationContext, OutgoingRecord, Rejected, RetryAfter
from eventfn.errors import ConnectorError
from eventfn_aws.client import AwsError, AwsSettings, Client
from eventfn_aws.kinesis.stream import EXPECTED, is_stream, parameter, region_of

# What one request may hold, partition keys included. A stream may be set to take larger single records than this.
_MOST_RECORDS = 500
_MOST_BYTES = 5 * 1024 * 1024
_USUAL_RECORD = 1024 * 1024
_NEVER = ("InvalidArgumentException", "ValidationException")  # of one record: it is too large for this stream


class KinesisDestination:
    class Settings(AwsSettings, frozen=True, kw_only=True):
        # "id": records are spread over all shards. "origin": what comes from one function is in one shard, in order.
        partition_key: Literal["id", "origin"] = "id"

    idempotent: ClassVar[bool] = False

    @classmethod
    def check(cls, target: str, settings: Settings) -> str | None:
        return None if is_stream(target) else EXPECTED

    def __init__(self, target: str, settings: Settings, context: DestinationContext) -> None:
        self._stream = parameter(target)
        self._by_origin = settings.partition_key == "origin"
        self._client = Client("kinesis", settings, region=region_of(target))

    async def connect(self) -> None:
        await self._client.open()

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        entries = [{"Data": record.payload, "PartitionKey": self._partition_key(record)} for record in records]
        answers: list[Delivery] = []
        for request in requests(entries):
            refused = next((answer for answer in answers if isinstance(answer, RetryAfter)), None)
            # What comes later waits too, or it would be ahead of what is tried again.
            answers += [refused] * len(request) if refused else await self._put(request)
        return answers

    def _partition_key(self, record: OutgoingRecord) -> str:
        key = record.attributes.get(ORIGIN, record.id) if self._by_origin else record.id
        return key[:256]

    async def _put(self, entries: Sequence[dict[str, Any]]) -> list[Delivery]:
        try:
            answer = await self._client.call("put_records", **self._stream, Records=entries)
        except ConnectorError as error:
            if len(entries) == 1 and isinstance(error, AwsError) and error.code in _NEVER:
                return [Rejected(str(error))]
            return [RetryAfter(str(error))] * len(entries)
        return [_delivery(each) for each in answer["Records"]]

    async def close(self, deadline: float) -> None:
        await self._client.close()


def _delivery(entry: dict[str, Any]) -> Delivery:
    if code := entry.get("ErrorCode"):
        return RetryAfter(f"{code}: {entry.get('ErrorMessage', '')}")
    return WRITTEN


def requests(entries: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """In order, each within the limits. What is larger than a stream usually takes goes alone: it must not take the
    others with it when it is refused."""
    request: list[dict[str, Any]] = []
    held = 0
    for entry in entries:
        size = len(entry["Data"]) + len(entry["PartitionKey"].encode())
        if size > _USUAL_RECORD:
            if request:
                yield request
            yield [entry]
            request, held = [], 0
            continue
        if len(request) == _MOST_RECORDS or held + size > _MOST_BYTES:
            yield request
            request, held = [], 0
        request.append(entry)
        held += size
    if request:
        yield request

"""A bucket as a destination: "s3://BUCKET/PREFIX", an object for each record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from eventfn.destination import WRITTEN, Delivery, DestinationContext, OutgoingRecord, Rejected, RetryAfter
from eventfn.errors import ConnectorError
from eventfn_aws.client import AwsError, AwsSettings, Client
from eventfn_aws.s3.keys import EXPECTED, Place, folder_and_name

_AT_ONCE = 10  # requests
# What is in the record, or in its key: no other try is taken.
_NEVER = ("EntityTooLarge", "KeyTooLongError")


class S3DestinationSettings(AwsSettings, frozen=True, kw_only=True):
    batched: bool = False  # one object of JSON lines for all records that are written at once


class S3Destination:
    Settings: ClassVar[type[msgspec.Struct]] = S3DestinationSettings
    # A record has one key. Batched, those that are tried again may be together with others.
    idempotent: ClassVar[bool] = True

    @classmethod
    def check(cls, target: str, settings: S3DestinationSettings) -> str | None:
        try:
            Place.parse(target)
        except ValueError:
            return EXPECTED
        return None

    def __init__(self, target: str, settings: S3DestinationSettings, context: DestinationContext) -> None:
        self._place = Place.parse(target)
        self._batched = settings.batched
        self._client = Client("s3", settings)

    async def connect(self) -> None:
        await self._client.open()

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        if self._batched:
            return await self._write_lines(records)
        free = asyncio.Semaphore(_AT_ONCE)

        async def put(record: OutgoingRecord) -> Delivery:
            async with free:
                folder, name = folder_and_name(record)
                return await self._put(f"{folder}/{name}", record.payload, "application/json")

        return await asyncio.gather(*map(put, records))

    async def _write_lines(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        """One object in each folder that they belong to, under the name of its first record."""
        objects: dict[str, tuple[str, list[int]]] = {}
        for place, record in enumerate(records):
            folder, name = folder_and_name(record)
            objects.setdefault(folder, (name, []))[1].append(place)
        answers: list[Delivery] = [WRITTEN] * len(records)
        for folder, (name, places) in objects.items():
            lines = b"".join(_line(records[place].payload) for place in places)
            answer = await self._put(f"{folder}/{name}.jsonl", lines, "application/x-ndjson")
            for place in places:
                answers[place] = answer
        return answers

    async def _put(self, key: str, body: bytes, content_type: str) -> Delivery:
        try:
            await self._client.call(
                "put_object",
                Bucket=self._place.bucket,
                Key=self._place.prefix + key,
                Body=body,
                ContentType=content_type,
            )
        except ConnectorError as error:
            never = isinstance(error, AwsError) and error.code in _NEVER
            return Rejected(str(error)) if never else RetryAfter(str(error))
        return WRITTEN

    async def close(self, deadline: float) -> None:
        await self._client.close()


def _line(payload: bytes) -> bytes:
    """An event may have come with line breaks in it."""
    try:
        return msgspec.json.format(payload, indent=-1) + b"\n"
    except (msgspec.DecodeError, RecursionError):  # nested without end: one record must not keep the others waiting
        return payload.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"

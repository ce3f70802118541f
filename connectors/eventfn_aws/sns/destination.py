"""An SNS topic as a destination: "sns:TOPIC", by name or ARN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from eventfn.destination import Delivery, DestinationContext, OutgoingRecord
from eventfn.errors import ConnectorError
from eventfn_aws.batch import Failed, in_one_call
from eventfn_aws.client import AwsSettings, Client
from eventfn_aws.sending import write
from eventfn_aws.sns.topics import EXPECTED, is_topic, topic_arn

_MOST_BYTES = 256 * 1024  # of a message with its attributes, and of all messages in one request


class SnsDestination:
    Settings: ClassVar[type[msgspec.Struct]] = AwsSettings
    # A FIFO topic takes a record once within five minutes; others do not look.
    idempotent: ClassVar[bool] = False

    @classmethod
    def check(cls, target: str, settings: AwsSettings) -> str | None:
        return None if is_topic(target) else EXPECTED

    def __init__(self, target: str, settings: AwsSettings, context: DestinationContext) -> None:
        arn = topic_arn(target)
        self._name = target
        self._fifo = target.endswith(".fifo")
        self._arn = str(arn) if arn else None
        self._client = Client("sns", settings, region=arn.region if arn else None)

    async def connect(self) -> None:
        await self._client.open()
        if self._arn is None:
            self._arn = await self._find(self._name)

    async def _find(self, name: str) -> str:
        """SNS knows topics by their ARNs alone; its list is read until one has the name."""
        more: dict[str, Any] = {}
        while True:
            answer = await self._client.call("list_topics", **more)
            for topic in answer.get("Topics", ()):
                arn: str = topic["TopicArn"]
                if arn.rpartition(":")[2] == name:
                    return arn
            if not answer.get("NextToken"):
                raise ConnectorError(
                    f"there is no topic {name} in {self._client.region}: create it, or correct its name"
                )
            more = {"NextToken": answer["NextToken"]}

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        return await write(records, "Message", self._send, _MOST_BYTES, fifo=self._fifo)

    async def _send(self, entries: Sequence[Mapping[str, Any]]) -> list[Failed | None]:
        return await in_one_call(
            self._client, "publish_batch", "PublishBatchRequestEntries", entries, TopicArn=self._arn
        )

    async def close(self, deadline: float) -> None:
        await self._client.close()

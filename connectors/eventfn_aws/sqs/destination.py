"""An SQS queue as a destination: "sqs:QUEUE", by name, URL or ARN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from eventfn.destination import Delivery, DestinationContext, OutgoingRecord
from eventfn_aws.batch import Failed
from eventfn_aws.client import AwsSettings
from eventfn_aws.sending import write
from eventfn_aws.sqs.names import QueueName
from eventfn_aws.sqs.queue import Queue

_MOST_BYTES = 1024 * 1024  # of a message with its attributes, and of all messages in one request


class SqsDestination:
    Settings: ClassVar[type[msgspec.Struct]] = AwsSettings
    # A FIFO queue takes a record once within five minutes; others do not look.
    idempotent: ClassVar[bool] = False

    @classmethod
    def check(cls, target: str, settings: AwsSettings) -> str | None:
        try:
            QueueName.parse(target)
        except ValueError as error:
            return str(error)
        return None

    def __init__(self, target: str, settings: AwsSettings, context: DestinationContext) -> None:
        self._queue = Queue(QueueName.parse(target), settings)

    async def connect(self) -> None:
        await self._queue.open()

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        return await write(records, "MessageBody", self._send, _MOST_BYTES, fifo=self._queue.name.fifo)

    async def _send(self, entries: Sequence[Mapping[str, Any]]) -> list[Failed | None]:
        return await self._queue.each("send_message_batch", entries)

    async def close(self, deadline: float) -> None:
        await self._queue.close()

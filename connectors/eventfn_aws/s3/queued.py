"""A queue of SQS that S3 tells, straight or through SNS. A message is deleted once all of its records are on disk."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from eventfn.errors import ConnectorError
from eventfn.event import Batch, Record
from eventfn.trigger import Retry, Settlement, TriggerContext
from eventfn_aws.s3.notified import ended, records
from eventfn_aws.s3.settings import S3Settings, S3Shared
from eventfn_aws.s3.shape import Origin
from eventfn_aws.sqs.names import QueueName
from eventfn_aws.sqs.queue import Queue
from eventfn_aws.sqs.receiving import Receiver
from eventfn_aws.sqs.telling import tell

_USUAL_VISIBILITY = 30  # seconds: a queue's, if nobody has said anything else
_LONGEST = 43_200  # seconds that a message can be invisible


class Queued:
    def __init__(self, settings: S3Settings, shared: S3Shared, context: TriggerContext) -> None:
        assert settings.queue is not None, "the settings have been checked"
        self._wanted = settings.wanted
        self._context = context
        name = QueueName.parse(settings.queue)
        if name.endpoint is not None:  # the store at endpoint_url need not be where the queue is
            shared = msgspec.structs.replace(shared, endpoint_url=None)
        self._queue = Queue(name, shared, context.region)
        self._visibility = _USUAL_VISIBILITY
        self._receiver: Receiver[Record] = Receiver(self._receive, self._keep_ours, self._give_back, context.clock)

    async def connect(self) -> None:
        await self._queue.open()
        said = await self._queue.attributes("VisibilityTimeout")
        # A queue may say 0, and then nothing keeps what was received from being received again.
        self._visibility = max(1, int(said.get("VisibilityTimeout", _USUAL_VISIBILITY)))
        self._receiver.keep = min(self._receiver.keep, self._visibility / 3)

    async def read(self, limit: int) -> Batch:
        return Batch(tuple(await self._receiver.read(limit)))

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        await self._end(zip(batch.records, settlements, strict=True))

    async def pending(self) -> int:
        said = await self._queue.attributes("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return sum(int(count) for count in said.values())

    async def close(self, deadline: float) -> None:
        """What was not settled is visible again when its timeout ends."""
        try:
            async with asyncio.timeout(deadline):
                await self._receiver.close()
        except TimeoutError:
            self._context.log.info("notifications that were not read come again by themselves: no answer")
        await self._queue.close()

    # --- receiving ---------------------------------------------------------------------------------------------------

    async def _receive(self, count: int, wait: int) -> list[Record]:
        answer = await self._queue.call("receive_message", MaxNumberOfMessages=count, WaitTimeSeconds=wait)
        found: list[Record] = []
        unwanted: list[str] = []
        for message in answer.get("Messages") or ():
            try:
                of_message = self._records(message)
            except (msgspec.DecodeError, RecursionError) as error:
                self._context.log.warning(
                    "message %s is no notification of S3, and is left to the RedrivePolicy of the queue: %s",
                    message["MessageId"],
                    error,
                )
                continue
            found += of_message
            if not of_message:
                unwanted.append(message["ReceiptHandle"])
        if unwanted:
            try:
                await self._delete(unwanted)
            except ConnectorError as error:
                self._context.log.info("messages that nobody wants come again: %s", error)
        return found

    def _records(self, message: dict[str, Any]) -> list[Record]:
        context = self._context
        origin = Origin(context.source, self._queue.client.region, context.account)
        return records(message["Body"], self._wanted, origin, context.clock.now_ms(), message["ReceiptHandle"])

    async def _keep_ours(self, unread: Sequence[Record]) -> None:
        claims = {record.token.claim for record in unread}
        entries = [{"ReceiptHandle": claim, "VisibilityTimeout": self._visibility} for claim in claims]
        try:
            await tell(self._queue, "change_message_visibility_batch", entries, self._context.clock)
        except ConnectorError as error:
            self._context.log.info("%d notifications that wait to be read may come again: %s", len(unread), error)

    async def _give_back(self, unread: Sequence[Record]) -> None:
        try:
            await self._end((record, Retry(0)) for record in unread)
        except ConnectorError as error:
            self._context.log.info(
                "%d notifications that were not read come again by themselves: %s", len(unread), error
            )

    # --- settling ----------------------------------------------------------------------------------------------------

    async def _end(self, ends: Iterable[tuple[Record, Settlement]]) -> None:
        done: list[str] = []
        again: list[dict[str, Any]] = []
        for held in ended(ends, self._context.log):
            if not isinstance(held.fate, Retry):
                done.append(held.claim)
            elif held.fate.after is not None:
                after = min(math.ceil(held.fate.after), _LONGEST)
                again.append({"ReceiptHandle": held.claim, "VisibilityTimeout": after})
        try:
            await self._delete(done)
        finally:
            await tell(self._queue, "change_message_visibility_batch", again, self._context.clock)

    async def _delete(self, receipts: Sequence[str]) -> None:
        """A claim that has lapsed deletes nothing: the message comes again, and its records are known."""
        entries = [{"ReceiptHandle": receipt} for receipt in receipts]
        await tell(self._queue, "delete_message_batch", entries, self._context.clock)

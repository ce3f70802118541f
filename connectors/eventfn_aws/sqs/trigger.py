"""An SQS queue as a source: received by long polls, settled in batches, kept invisible while functions run."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import msgspec

from eventfn.errors import ConnectorError
from eventfn.event import Batch, Record
from eventfn.trigger import Done, Reject, Retry, Settlement, Traits, TriggerContext
from eventfn.units import Between, Duration
from eventfn_aws.arns import Arn
from eventfn_aws.client import AwsError, AwsSettings
from eventfn_aws.sqs import shape
from eventfn_aws.sqs.names import QueueName
from eventfn_aws.sqs.queue import Queue
from eventfn_aws.sqs.receiving import MOST_REQUESTS, Receiver
from eventfn_aws.sqs.telling import tell

_USUAL_VISIBILITY = 30.0  # seconds: a queue's, if nobody has said anything else
_LONGEST = 43_200  # seconds after it was received that a message can stay invisible


class SqsSettings(msgspec.Struct, frozen=True, kw_only=True):
    queue: str  # name, URL or ARN
    visibility_timeout: Annotated[Duration, Between(1, _LONGEST)] | None = None  # None: the queue's own

    def __post_init__(self) -> None:
        try:
            QueueName.parse(self.queue)
        except ValueError as error:
            raise ValueError(f"queue: {error}") from None


class _Held(msgspec.Struct, frozen=True):
    """The claim on a message."""

    receipt: str
    at: float  # when it was received, on the context's clock


class SqsTrigger:
    Settings: ClassVar[type[msgspec.Struct]] = SqsSettings
    Shared: ClassVar[type[msgspec.Struct] | None] = AwsSettings
    traits: ClassVar[Traits] = Traits(invocation="request_response", ordered=True, settles_at_once=True)
    data_key: ClassVar[str] = "body"

    def __init__(self, settings: SqsSettings, shared: AwsSettings, context: TriggerContext) -> None:
        name = QueueName.parse(settings.queue)
        self._fifo = name.fifo
        self._queue = Queue(name, shared, context.region)
        self._own_visibility = settings.visibility_timeout
        self._visibility = float(settings.visibility_timeout or _USUAL_VISIBILITY)
        self._clock = context.clock
        self._log = context.log
        self._receiver: Receiver[Record] = Receiver(
            self._receive,
            self._keep_ours,
            self._give_back,
            context.clock,
            # Two answers at once could be in the wrong order.
            1 if name.fifo else MOST_REQUESTS,
        )
        self._attempt = uuid.uuid4().hex  # of receiving from a FIFO queue
        self._arn = ""
        self._region = context.region
        self._shared = shared
        self._dead_letters: Queue | None = None

    @property
    def lease(self) -> float:
        """From the first connect on it is the queue's own."""
        return self._visibility

    async def connect(self) -> None:
        await self._queue.open()
        attributes = await self._queue.attributes("QueueArn", "VisibilityTimeout", "RedrivePolicy")
        self._arn = attributes["QueueArn"]
        arn = Arn.parse(self._arn)
        self._region = arn.region if arn else self._queue.client.region
        if self._own_visibility is None:
            # A queue may say 0, and then nothing keeps what was received from being received again.
            self._visibility = max(1.0, float(attributes.get("VisibilityTimeout", _USUAL_VISIBILITY)))
        self._receiver.keep = min(self._receiver.keep, self._visibility / 3)
        await self._find_dead_letters(attributes.get("RedrivePolicy"))

    # --- read --------------------------------------------------------------------------------------------------------

    def expect(self, records: int) -> None:
        if not self._fifo:  # what is behind a message of its group is not to be in another's hands
            self._receiver.expected = records

    async def read(self, limit: int) -> Batch:
        return Batch(tuple(await self._receiver.read(limit)))

    async def _receive(self, count: int, wait: int) -> list[Record]:
        more: dict[str, Any] = {}
        if self._own_visibility is not None:
            more["VisibilityTimeout"] = math.ceil(self._own_visibility)
        if self._fifo:
            # Asked with the same id, the server says again what it said in an answer that was lost on its way.
            more["ReceiveRequestAttemptId"] = self._attempt
        answer = await self._queue.call(
            "receive_message",
            MaxNumberOfMessages=count,
            WaitTimeSeconds=wait,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
            **more,
        )
        self._attempt = uuid.uuid4().hex
        now = self._clock.monotonic()
        messages: list[dict[str, Any]] = answer.get("Messages") or []
        return [
            shape.record(message, self._arn, self._region, _Held(message["ReceiptHandle"], now)) for message in messages
        ]

    async def _keep_ours(self, records: Sequence[Record]) -> None:
        try:
            await self._set_visibility(records, self._visibility)
        except ConnectorError as error:
            self._log.info("%d messages that wait for a place may come again: %s", len(records), error)

    async def _give_back(self, records: Sequence[Record]) -> None:
        try:
            await self._set_visibility(records, 0)
        except ConnectorError as error:
            self._log.info("%d messages that were not read come again by themselves: %s", len(records), error)

    # --- settle ------------------------------------------------------------------------------------------------------

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        done: list[Record] = []
        retried: dict[float | None, list[Record]] = {}
        rejected: list[tuple[Record, str]] = []
        failed: dict[str, float | None] = {}  # FIFO groups
        for record, settlement in zip(batch.records, settlements, strict=True):
            match settlement:
                case Done():
                    done.append(record)
                case Reject(reason):
                    rejected.append((record, reason))
                case Retry(after):
                    # What is behind the first one of a group does not come before it.
                    if self._fifo and record.group is not None:
                        after = failed.setdefault(record.group, after)
                    retried.setdefault(after, []).append(record)
        # Nothing that was received since may overtake them.
        overtaking = self._receiver.take(lambda record: record.group in failed)
        try:
            await self._delete(done)
        finally:
            for after, records in [*retried.items(), (0.0, overtaking)]:
                if after is not None:
                    await self._set_visibility(records, after)
            # Last, since it may fail in a way of its own.
            for record, reason in rejected:
                await self._reject(record, reason)

    async def _reject(self, record: Record, reason: str) -> None:
        """Straight to the queue's dead letters: waiting for its RedrivePolicy would try again what never works."""
        target = self._dead_letters
        if target is None:
            self._log.warning(
                "message %s of %s can never be handled and comes again until its retention ends, "
                "since the queue has no RedrivePolicy: %s",
                record.id,
                self._arn,
                reason,
            )
            return
        try:
            await target.call("send_message", **shape.dead_letter(record, reason))
        except AwsError as error:
            if error.passing:
                raise
            self._log.warning("message %s is left to the queue's RedrivePolicy: %s", record.id, error)
            return
        await self._delete([record])

    async def _delete(self, records: Sequence[Record]) -> None:
        await self._tell("delete_message_batch", records, [_receipt(record) for record in records])

    async def _find_dead_letters(self, policy: str | None) -> None:
        previous, self._dead_letters = self._dead_letters, None
        if previous is not None:
            await previous.close()
        arn = Arn.parse(str(msgspec.json.decode(policy).get("deadLetterTargetArn", ""))) if policy else None
        if arn is None:
            return
        target = Queue(QueueName(arn.resource, arn.account, arn.region), self._shared)
        try:
            await target.open()
        except ConnectorError as error:
            self._log.info("what can never be handled is left to the queue's RedrivePolicy: %s", error)
            await target.close()
        else:
            self._dead_letters = target

    # --- visibility --------------------------------------------------------------------------------------------------

    async def extend(self, batch: Batch, seconds: float) -> None:
        # Never to less than the queue itself gives: a host may have asked for the lease before the queue was known.
        await self._set_visibility(batch.records, max(seconds, self._visibility))

    async def _set_visibility(self, records: Sequence[Record], seconds: float) -> None:
        now = self._clock.monotonic()
        entries: list[dict[str, Any]] = []
        for record in records:
            longest = _LONGEST - math.ceil(now - record.token.at) - 1
            visibility = max(0, min(math.ceil(seconds), longest))
            entries.append(_receipt(record) | {"VisibilityTimeout": visibility})
        await self._tell("change_message_visibility_batch", records, entries)

    async def _tell(self, operation: str, records: Sequence[Record], entries: Sequence[dict[str, Any]]) -> None:
        late = [records[place].id for place in await tell(self._queue, operation, entries, self._clock)]
        if late:
            self._log.warning(
                "%d messages of %s were handled after their visibility timeout and may come again: %s",
                len(late),
                self._arn,
                ", ".join(late[:10]),
            )

    async def pending(self) -> int:
        said = await self._queue.attributes("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return sum(int(count) for count in said.values())

    async def close(self, deadline: float) -> None:
        """What was not settled is visible again when its timeout ends."""
        try:
            async with asyncio.timeout(deadline):
                await self._receiver.close()
        except TimeoutError:
            self._log.info("messages that were not read come again by themselves: %s does not answer", self._arn)
        if self._dead_letters is not None:
            await self._dead_letters.close()
        await self._queue.close()


def _receipt(record: Record) -> dict[str, Any]:
    return {"ReceiptHandle": record.token.receipt}

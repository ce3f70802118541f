"""A topic as a destination: "kafka:TOPIC", or "kafka:CLUSTER/TOPIC" for a named cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

from eventfn.destination import WRITTEN, Delivery, DestinationContext, OutgoingRecord, Rejected, RetryAfter
from eventfn_kafka.connecting import REQUEST, options
from eventfn_kafka.library import KafkaError, aiokafka, errors, outside, said
from eventfn_kafka.settings import EXPECTED_TOPIC, TOPIC, Clusters

ID = "eventfn.id"  # the header that is the same on every try: a reader that remembers ids sees a record once
_LARGEST = 8 * 1024 * 1024  # more than a record of ours can have; how much a topic takes is the brokers' business
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_LAST_WORD = 1.0  # seconds that a producer has to close which has just failed


class KafkaDestination:
    Settings = Clusters
    # Brokers drop what one producer sends twice; after a failure it is another producer that tries again.
    idempotent: ClassVar[bool] = False

    @classmethod
    def check(cls, target: str, settings: Clusters) -> str | None:
        cluster, topic = _parts(target)
        if not TOPIC.fullmatch(topic):
            return EXPECTED_TOPIC
        if settings.named(cluster) is None:
            return f"no cluster is called '{cluster}': add [destinations.kafka.clusters.{cluster}]"
        return None

    def __init__(self, target: str, settings: Clusters, context: DestinationContext) -> None:
        cluster, self._topic = _parts(target)
        self._cluster = settings.named(cluster)
        self._folder = context.folder
        self._producer: Any = None

    async def connect(self) -> None:
        assert self._cluster is not None, "check() was not asked"
        await self.close(_LAST_WORD)
        self._producer = aiokafka.AIOKafkaProducer(
            **await options(self._cluster, self._folder, "eventfn"),
            acks="all",
            enable_idempotence=True,
            max_request_size=_LARGEST,
        )
        try:
            with outside(f"connecting to {', '.join(self._cluster.bootstrap_servers)}"):
                async with asyncio.timeout(REQUEST):
                    await self._producer.start()
        except BaseException:
            await self.close(_LAST_WORD)
            raise

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        answers = await self._write(records)
        if len(records) > 1 and any(isinstance(answer, Rejected) for answer in answers):
            # It may have been too large only for those that went in one request with it, and what came behind it was
            # not taken either: one by one it shows.
            for place, answer in enumerate(answers):
                if answer != WRITTEN:
                    answers[place : place + 1] = await self._write([records[place]])
        return answers

    async def _write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        if self._producer is None:
            await self.connect()
        deadline = asyncio.get_running_loop().time() + REQUEST
        answers: list[Delivery | asyncio.Future[Any]] = []
        for record in records:
            try:
                async with asyncio.timeout_at(deadline):  # it waits for the topic's leaders, and for room
                    answers.append(await self._send(record))
            except _TOO_LARGE as error:
                answers.append(Rejected(f"topic {self._topic}: {error}"))
            except (KafkaError, TimeoutError) as error:
                answers.append(self._again(error))
        sent = [answer for answer in answers if isinstance(answer, asyncio.Future)]
        if sent:
            await asyncio.wait(sent, timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
        found = [self._outcome(answer) if isinstance(answer, asyncio.Future) else answer for answer in answers]
        if found != [WRITTEN] * len(found):
            # It counts what it sends, and brokers take nothing behind a gap. What it may still have in its hands is
            # tried again with a new one, and must not come twice.
            await self.close(_LAST_WORD)
        return found

    async def _send(self, record: OutgoingRecord) -> asyncio.Future[Any]:
        headers = [(name, value.encode()) for name, value in record.attributes.items()]
        sent: asyncio.Future[Any] = await self._producer.send(
            self._topic, value=record.payload, key=record.id.encode(), headers=[(ID, record.id.encode()), *headers]
        )
        return sent

    def _outcome(self, sent: asyncio.Future[Any]) -> Delivery:
        if not sent.done():
            return self._again(TimeoutError(f"no answer within {REQUEST:g} s"))
        match sent.exception():
            case None:
                return WRITTEN
            case error if isinstance(error, _TOO_LARGE):
                return Rejected(f"topic {self._topic}: {error}")
            case error:
                return self._again(error)

    def _again(self, error: BaseException) -> RetryAfter:
        return RetryAfter(f"topic {self._topic}: {said(error)}")

    async def close(self, deadline: float) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        # Not stop(), which waits until everything is sent: what was not has been said to come again. Cancelled once, it
        # ends when requests under way do; cancelled twice, it ends.
        sending: asyncio.Task[None] | None = producer._sender.sender_task
        for _ in range(2):
            if sending is not None and not sending.done():
                sending.cancel()
                await asyncio.wait({sending}, timeout=deadline / 2)
        producer._closed = True
        await producer.client.close()


def _parts(target: str) -> tuple[str | None, str]:
    cluster, slash, topic = target.rpartition("/")
    return (cluster if slash else None), topic

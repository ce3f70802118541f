"""A queue of RabbitMQ as a source. The broker pushes at most `prefetch` messages that are not settled; all else waits
there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from aiormq.abc import DeliveredMessage

from eventfn.destination import ORIGIN, REASON
from eventfn.errors import ConnectorError, EngineError, Refused
from eventfn.event import Batch, Record
from eventfn.trigger import DONE, Filtering, QueueMessage, Reject, Retry, Settlement, Traits, TriggerContext
from eventfn_amqp import shape
from eventfn_amqp.connection import TIMEOUT, Brokers, telling
from eventfn_amqp.session import DELIVERED_BEFORE, Session, tag_of
from eventfn_amqp.settings import QueueSettings

DEAD_LETTERS = "dead-letters"  # the host's queue for what has no dead letters of its own


class AmqpTrigger:
    Settings: ClassVar[type[QueueSettings]] = QueueSettings
    Shared: ClassVar[type[Brokers]] = Brokers
    traits: ClassVar[Traits] = Traits(invocation="request_response", default_batch_size=100)
    data_key: ClassVar[str] = "data"
    filtering: ClassVar[Filtering] = Filtering(base64_keys=("data",), mismatch="ignore")

    @classmethod
    def check(cls, settings: Any, shared: Any) -> tuple[str, str] | None:
        if shared.named(settings.broker) is None:
            return "broker", f"no broker is called '{settings.broker}': add [amqp.brokers.{settings.broker}]"
        return None

    def __init__(self, settings: QueueSettings, shared: Brokers, context: TriggerContext) -> None:
        self._settings = settings
        broker = shared.named(settings.broker)
        assert broker is not None, "check() has seen it"
        self._broker = broker
        self._context = context
        self._key = shape.queue_key(settings.queue, broker.virtual_host)
        self._arn = settings.event_source_arn or shape.broker_arn(broker.host, context.region, context.account)
        self._session: Session | None = None

    async def connect(self) -> None:
        await self._disconnect()
        connection = await self._broker.connect(self._context.folder)
        self._session = Session(connection, self._settings, self._context.clock)
        with telling(f"cannot consume queue {self._settings.queue}"):
            await self._session.open()

    async def read(self, limit: int) -> Batch:
        session = self._connected()
        while not session.unread:
            if session.lost is not None:
                raise ConnectorError(f"queue {self._settings.queue}: {session.lost}")
            session.changed.clear()
            await session.changed.wait()
        messages = [session.unread.popleft() for _ in range(min(limit, len(session.unread)))]
        return Batch(tuple(self._record(message) for message in messages), token=session)

    def _record(self, message: DeliveredMessage) -> Record:
        properties = message.header.properties
        headers: dict[str, Any] = dict(properties.headers or {})
        counted = headers.get(DELIVERED_BEFORE)  # in a classic queue a sender may have written anything there
        before = counted if isinstance(counted, int) else int(bool(message.redelivered))
        sent = properties.timestamp
        return Record(
            # Only its sender can name a message for good; without that it is known by this delivery.
            id=properties.message_id or f"delivery-{tag_of(message)}",
            payload=shape.record(properties, headers, bool(message.redelivered), message.body),
            arrived_ms=0 if sent is None else max(0, round(sent.timestamp() * 1000)),
            receives=1 + before,
            token=message,
        )

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        session: Session = batch.token
        if session is not self._session or session.lost is not None:
            raise ConnectorError("the connection is gone by which these messages came")
        done: set[int] = set()
        with telling("cannot settle"):
            for record, settlement in zip(batch.records, settlements, strict=True):
                ended = await self._bury(session, record, settlement) if isinstance(settlement, Reject) else settlement
                if isinstance(ended, Retry):
                    after = float(self._settings.retry_delay) if ended.after is None else ended.after
                    await session.give_back(tag_of(record.token), after)
                else:
                    done.add(tag_of(record.token))
            await session.acknowledge(done)

    async def _bury(self, session: Session, record: Record, rejected: Reject) -> Settlement:
        """RabbitMQ drops what is rejected where a queue has no dead letter exchange, and does not say whether it has
        one. So the message is safe elsewhere before it is acknowledged, and comes again while it is not."""
        queue = self._settings.dead_letter_queue
        try:
            if queue is not None:
                await session.bury(record.token, queue, rejected.reason)
            else:
                # As the event that it is: a redrive hands it to the function once more.
                attributes = {ORIGIN: f"fn:{self._context.function}", REASON: rejected.reason[:1024]}
                event = QueueMessage(body=self.encode([record]), attributes=attributes)
                await self._context.queues.send(DEAD_LETTERS, [event])
        except (ConnectorError, EngineError, Refused) as error:
            self._context.log.error("a rejected message stays in queue %s: %s", self._settings.queue, error)
            return Retry()
        return DONE

    def encode(self, records: Sequence[Record]) -> bytes:
        return shape.event(self._key, self._arn, [record.payload for record in records])

    async def pending(self) -> int:
        """What waits in the queue, and what we have of it; not what other consumers have."""
        session = self._connected()
        with telling(f"cannot look at queue {self._settings.queue}"):
            return await session.ready() + len(session.outstanding)

    async def close(self, deadline: float) -> None:
        """What was not settled goes back to the queue by itself, and counts as delivered once."""
        await self._disconnect(deadline)

    def _connected(self) -> Session:
        if self._session is None:
            raise ConnectorError("not connected")
        return self._session

    async def _disconnect(self, deadline: float = TIMEOUT) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close(deadline)

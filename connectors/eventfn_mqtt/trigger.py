"""Topics of an MQTT broker as a source. The broker keeps a session for us: what is published while we are away waits
there, and what was not acknowledged comes again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from eventfn.destination import ORIGIN, REASON
from eventfn.errors import ConnectorError, EngineError, Refused
from eventfn.event import Batch, Record
from eventfn.trigger import Done, QueueMessage, Reject, Retry, Settlement, Traits, TriggerContext
from eventfn_mqtt import shape
from eventfn_mqtt.connection import Connection
from eventfn_mqtt.packets import Publish
from eventfn_mqtt.settings import Brokers, Subscription
from eventfn_mqtt.window import Arrived, Window

DEAD_LETTERS = "dead-letters"  # the host's queue for what has no dead letters of its own
_SUBSCRIBED = "topics"  # position: what the broker's session is subscribed to


class MqttTrigger:
    Settings: ClassVar[type[Subscription]] = Subscription
    Shared: ClassVar[type[Brokers]] = Brokers
    # A session belongs to one connection at a time: a second node with its name would throw the first one out.
    traits: ClassVar[Traits] = Traits(invocation="request_response", ordered=True, shared=False, default_batch_size=100)
    data_key: ClassVar[str] = "payload"

    @classmethod
    def check(cls, settings: Any, shared: Any) -> tuple[str, str] | None:
        if shared.named(settings.broker) is None:
            return "broker", f"no broker is called '{settings.broker}': add [mqtt.brokers.{settings.broker}]"
        return None

    def __init__(self, settings: Subscription, shared: Brokers, context: TriggerContext) -> None:
        self._settings = settings
        broker = shared.named(settings.broker)
        assert broker is not None, "check() has seen it"
        self._broker = broker
        self._context = context
        self._session: _Session | None = None

    async def connect(self) -> None:
        await self._disconnect()
        session = _Session(self._settings, self._context)
        session.connection = await Connection.open(
            self._broker,
            self._context.folder,
            self._settings.client_id,
            clean=False,
            properties={
                "session_expiry_interval": round(self._settings.session_expiry),
                "receive_maximum": self._settings.receive_maximum,
            },
            on_message=session.arrive,
            on_lost=session.changed.set,
        )
        self._session = session
        await self._subscribe(session.connection)
        session.paced = True

    async def _subscribe(self, connection: Connection) -> None:
        """To all of it each time: only the broker knows what it has kept. It keeps what we no longer want, too."""
        topics = self._settings.topics
        kept = await self._context.positions.get(_SUBSCRIBED)
        before: list[str] = [] if kept is None else msgspec.json.decode(kept)
        unwanted = [topic for topic in before if topic not in topics]
        if unwanted and connection.session_present:
            await connection.unsubscribe(unwanted)
        if before != topics:
            # Before they are subscribed to: what stands here and is not subscribed to costs nothing.
            await self._context.positions.put(_SUBSCRIBED, msgspec.json.encode([*topics]))
        for topic, granted in zip(topics, await connection.subscribe(topics, self._settings.qos), strict=False):
            if granted < self._settings.qos:
                self._context.log.warning("the broker grants %s no more than quality of service %d", topic, granted)

    async def read(self, limit: int) -> Batch:
        session = self._connected()
        while True:
            if session.connection.lost is not None:  # what is not read yet could not be acknowledged any more
                raise ConnectorError(f"MQTT: {session.connection.lost}")
            if taken := session.take(limit):
                return Batch(tuple(self._record(arrived) for arrived in taken), token=session)
            await session.wait()

    def _record(self, arrived: Arrived) -> Record:
        identifier = shape.message_id(arrived.message, arrived.sequence)
        return Record(
            id=identifier,
            payload=shape.record(arrived.message, identifier, arrived.arrived_ms, self._broker.host),
            group=arrived.message.topic,
            arrived_ms=arrived.arrived_ms,
            receives=arrived.receives,
            token=arrived,
        )

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        session: _Session = batch.token
        if session is not self._session or session.connection.lost is not None:
            raise ConnectorError("the connection is gone by which these messages came")
        finished: list[Arrived] = []
        for record, settlement in zip(batch.records, settlements, strict=True):
            if await self._is_finished(record, settlement):
                finished.append(record.token)
            else:
                after = settlement.after if isinstance(settlement, Retry) else None
                session.retry(record.token, float(self._settings.retry_delay) if after is None else after)
        await session.connection.acknowledge(session.window.finish(finished))

    async def _is_finished(self, record: Record, settlement: Settlement) -> bool:
        """MQTT has no dead letters: what can never be handled, and what the function has failed on too often, goes to
        eventfn's own before it is acknowledged."""
        arrived: Arrived = record.token
        match settlement:
            case Done():
                return True
            case Reject(reason):
                return await self._bury(record, reason)
            case Retry(None):  # the function has failed; other retries are nobody's fault
                arrived.failures += 1
                return arrived.failures >= self._settings.max_receive_count and await self._bury(
                    record, f"the function failed on it {arrived.failures} times"
                )
            case Retry():
                return False

    async def _bury(self, record: Record, reason: str) -> bool:
        # As the event that it is: a redrive hands it to the function once more.
        attributes = {ORIGIN: f"fn:{self._context.function}", REASON: reason[:1024]}
        event = QueueMessage(body=b'{"Records":[%b]}' % record.payload, attributes=attributes)
        try:
            await self._context.queues.send(DEAD_LETTERS, [event])
        except (EngineError, Refused) as error:
            self._context.log.error("message %s stays with the broker: %s", record.id, error)
            return False
        return True

    async def close(self, deadline: float) -> None:
        """The broker keeps the session: what was not settled comes again."""
        await self._disconnect()

    def _connected(self) -> _Session:
        if self._session is None:
            raise ConnectorError("not connected")
        return self._session

    async def _disconnect(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.connection.close()


class _Session:
    """What came by one connection: it is acknowledged there and nowhere else."""

    def __init__(self, settings: Subscription, context: TriggerContext) -> None:
        self.window = Window()
        self.changed = asyncio.Event()
        self.connection: Connection
        self.paced = False  # not before it is read: the broker sends what it has kept, and then it answers
        self._most = settings.receive_maximum
        self._clock = context.clock

    def arrive(self, message: Publish) -> None:
        self.window.arrive(message, self._clock.now_ms())
        self.changed.set()
        if self.paced and self.window.unread > self._most:
            # The broker itself stops at quality of service 1 and 2; what it need not keep for us it sends on and on.
            self.connection.room.clear()

    def take(self, limit: int) -> list[Arrived]:
        taken = self.window.take(limit, self._clock.monotonic())
        if self.window.unread <= self._most:
            self.connection.room.set()
        return taken

    def retry(self, arrived: Arrived, after: float) -> None:
        self.window.retry(arrived, self._clock.monotonic() + after)
        self.changed.set()

    async def wait(self) -> None:
        """Until something came, or something that is to be retried is due."""
        self.changed.clear()
        due = self.window.due()
        waiting: set[asyncio.Future[Any]] = {asyncio.ensure_future(self.changed.wait())}
        if due is not None:
            waiting.add(asyncio.ensure_future(self._clock.sleep(due - self._clock.monotonic())))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

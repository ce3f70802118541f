"""A JetStream stream as a source: a function is invoked with batches of its messages, pulled from a durable consumer.

The consumer on the server is all the state there is: what is read is ours for its AckWait, and comes again after that,
to whichever node asks.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from eventfn.destination import ORIGIN, REASON, SHAPE
from eventfn.errors import ConnectorError
from eventfn.event import Batch, Record
from eventfn.trigger import Done, QueueMessage, Reject, Retry, Settlement, Traits, TriggerContext
from eventfn_nats import shape
from eventfn_nats.inbox import ACK, NAK, PROGRESS, TERM, Inbox
from eventfn_nats.publishing import publish
from eventfn_nats.server import Connection
from eventfn_nats.settings import Clusters, Source

BUILT_IN_DEAD_LETTERS = "dead-letters"  # the host's queue for what has no dead letters of its own
LONG_POLL = 5.0  # seconds that the server holds a request while there is nothing
_STARTS = {
    "TRIM_HORIZON": DeliverPolicy.ALL,
    "LATEST": DeliverPolicy.NEW,
    "AT_TIMESTAMP": DeliverPolicy.BY_START_TIME,
}


class NatsTrigger:
    Settings: ClassVar[type[msgspec.Struct]] = Source
    Shared: ClassVar[type[msgspec.Struct] | None] = Clusters
    # Not ordered: those who pull from a consumer have neighbouring messages at the same time.
    traits: ClassVar[Traits] = Traits(invocation="request_response", ordered=False)
    data_key: ClassVar[str] = "body"

    @classmethod
    def check(cls, settings: Any, shared: Any) -> tuple[str, str] | None:
        if shared.named(settings.cluster) is None:
            return "cluster", f"no cluster is called '{settings.cluster}': add [nats.clusters.{settings.cluster}]"
        return None

    def __init__(self, settings: Source, shared: Clusters, context: TriggerContext) -> None:
        self._settings = settings
        self._consumer = settings.consumer or context.function
        server = shared.named(settings.cluster)
        assert server is not None, "check() has seen it"
        self._server = server
        self._context = context
        self._clock = context.clock
        self._connection: Connection | None = None
        self._inbox: Inbox | None = None
        self._open: dict[str, Msg] = {}  # read and not settled, by reply subject
        self._kept: dict[str, float] = {}  # reply subject -> until when it is kept ours, by the monotonic clock
        self._keeping: asyncio.Task[None] | None = None

    @property
    def lease(self) -> float:
        return float(self._settings.visibility_timeout)

    # --- its life ----------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        await self._disconnect()
        connection = self._connection = Connection(self._server)
        await connection.open(self._context.folder)
        await connection.answer(self._declare(connection.client.jetstream()))
        inbox = Inbox(connection, self._settings.stream, self._consumer)
        await inbox.open()
        self._inbox = inbox
        self._go_on_keeping()

    async def _declare(self, jetstream: Any) -> None:
        """The consumer as it stands in eventfn.toml; where it began is never changed."""
        settings = self._settings
        ours = {"ack_wait": self.lease, "filter_subject": settings.subject}
        try:
            there: Any = (await jetstream.consumer_info(settings.stream, self._consumer)).config
        except NotFoundError as error:
            if "stream" in str(error.description):
                raise ConnectorError(
                    f"{self._server.name}: there is no stream {settings.stream!r}: make it, for instance with "
                    f"`nats stream add {settings.stream}`"
                ) from None
            there = ConsumerConfig(
                name=self._consumer,
                durable_name=self._consumer,
                ack_policy=AckPolicy.EXPLICIT,
                deliver_policy=_STARTS[settings.starting_position],
                opt_start_time=settings.starting_position_timestamp,
                max_deliver=-1,  # a message that nobody delivers any more would lie there, handled by nobody
                max_ack_pending=-1,  # how much is under way is the host's to say
            )
        else:
            if there.ack_policy != AckPolicy.EXPLICIT or there.deliver_subject is not None:
                raise ConnectorError(
                    f"{self._server.name}: the consumer {self._consumer!r} of stream {settings.stream!r} is not a pull "
                    "consumer with explicit acknowledgements: name another `consumer`"
                )
            if all(getattr(there, key) == value for key, value in ours.items()):
                return
        await jetstream.add_consumer(settings.stream, config=there.evolve(**ours))

    async def close(self, deadline: float) -> None:
        inbox = self._inbox
        try:
            async with asyncio.timeout(deadline):
                if inbox is not None:
                    # Nobody works on anything of ours any more: the others may have it at once.
                    mine = [*self._open, *(message.reply for message in inbox.arrived)]
                    await inbox.tell([(reply, NAK) for reply in mine])
        except (ConnectorError, TimeoutError):
            pass  # it comes again when its AckWait is over
        finally:
            self._open.clear()
            self._kept.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline):
                    await self._disconnect()

    async def _disconnect(self) -> None:
        self._inbox = None
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    # --- reading -----------------------------------------------------------------------------------------------------

    async def read(self, limit: int) -> Batch:
        inbox = self._connected()
        while True:
            if inbox.is_asking:  # by a read that was cancelled
                await inbox.answered()
            if not inbox.arrived:
                await inbox.ask(limit)
                await inbox.answered()
            if not inbox.arrived:
                # One first, and then what else has come: a longer answer would go on arriving while nobody reads.
                await inbox.ask(1, LONG_POLL)
                await inbox.answered()
                if inbox.arrived and limit > 1:
                    await inbox.ask(limit - 1)
                    await inbox.answered()
            await self._give_up_what_came_too_often(inbox)
            if inbox.arrived:
                break
        messages = inbox.arrived[:limit]
        del inbox.arrived[:limit]
        self._open.update((message.reply, message) for message in messages)
        return Batch(tuple(_record(message) for message in messages))

    async def _give_up_what_came_too_often(self, inbox: Inbox) -> None:
        most = self._settings.max_receive_count
        if most is None:
            return
        for message in [message for message in inbox.arrived if shape.delivery(message.reply).receives > most]:
            try:
                await self._dead_letter(message, f"received {most} times, and never handled")
            except ConnectorError as error:  # it comes again later; what was read with it must not wait for that
                self._context.log.error("message %s cannot be given to the dead letters: %s", message.reply, error)
            inbox.arrived.remove(message)

    # --- settling ----------------------------------------------------------------------------------------------------

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        words: list[tuple[str, bytes]] = []
        rejected: list[tuple[Record, str]] = []
        for record, settlement in zip(batch.records, settlements, strict=True):
            reply: str = record.token
            self._kept.pop(reply, None)
            match settlement:
                case Done():
                    words.append((reply, ACK))
                case Retry(after) if after is not None:
                    words.append((reply, _again(after)))
                case Retry():
                    pass  # it comes again when its AckWait is over, as in SQS
                case Reject(reason):
                    rejected.append((record, reason))
                    continue
            self._open.pop(reply, None)
        await self._connected().tell(words)
        # Last: dead letters that take no more must not bring back what is done.
        for record, reason in rejected:
            if self._settings.dead_letter_subject is None:
                await self._to_the_built_in_queue(record, reason)
                await self._connected().tell([(record.token, TERM)])
            elif (message := self._open.get(record.token)) is not None:
                await self._dead_letter(message, reason)
            self._open.pop(record.token, None)

    async def _dead_letter(self, message: Msg, reason: str) -> None:
        """It is stored there before it is ended here: it may be there twice, and never nowhere."""
        told = shape.delivery(message.reply)
        ours = {
            "Eventfn-Stream": told.stream,
            "Eventfn-Subject": message.subject,
            "Eventfn-Sequence": str(told.stream_sequence),
            "Eventfn-Reason": reason[:1024],
        }
        inbox = self._connected()
        assert self._connection is not None
        await publish(
            self._connection,
            str(self._settings.dead_letter_subject),
            f"{told.stream} {told.stream_sequence} {self._consumer}",
            message.data,
            (message.headers or {}) | ours,
        )
        await inbox.tell([(message.reply, TERM)])
        self._context.log.error(
            "message %d of stream %s is in the dead letters %s: %s",
            told.stream_sequence,
            told.stream,
            self._settings.dead_letter_subject,
            reason,
        )

    async def _to_the_built_in_queue(self, record: Record, reason: str) -> None:
        """As the event of a function that failed, so that a redrive gives it to the function again."""
        attributes = {ORIGIN: f"fn:{self._context.function}", SHAPE: "event", REASON: reason[:1024]}
        dead = QueueMessage(
            body=b'{"Records":[' + record.payload + b"]}",
            attributes=attributes,
            dedupe_key=f"{self._settings.stream} {record.id}",
        )
        await self._context.queues.send(BUILT_IN_DEAD_LETTERS, [dead])

    # --- keeping -----------------------------------------------------------------------------------------------------

    async def extend(self, batch: Batch, seconds: float) -> None:
        """The server knows one length of a lease: what is to be longer is renewed by us until then."""
        if seconds > self.lease:
            self._kept |= dict.fromkeys((record.token for record in batch.records), self._clock.monotonic() + seconds)
            self._go_on_keeping()
        await self._connected().tell([(record.token, PROGRESS) for record in batch.records])

    def _go_on_keeping(self) -> None:
        if self._kept and (self._keeping is None or self._keeping.done()):
            self._keeping = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while self._kept:
            await self._clock.sleep(self.lease / 3)
            now = self._clock.monotonic()
            self._kept = {reply: until for reply, until in self._kept.items() if until > now}
            with contextlib.suppress(ConnectorError):  # `read` hears of it too
                await self._connected().tell([(reply, PROGRESS) for reply in self._kept])

    async def pending(self) -> int:
        self._connected()
        assert self._connection is not None
        asking = self._connection.client.jetstream().consumer_info(self._settings.stream, self._consumer)
        info = await self._connection.answer(asking)
        return (info.num_pending or 0) + (info.num_ack_pending or 0)

    def _connected(self) -> Inbox:
        if self._inbox is None:
            raise ConnectorError(f"{self._server.name}: not connected")
        return self._inbox


def _record(message: Msg) -> Record:
    told = shape.delivery(message.reply)
    return Record(
        id=str(told.stream_sequence),
        payload=shape.record(message.subject, message.headers, message.data, told),
        arrived_ms=told.stored_ms,
        receives=told.receives,
        token=message.reply,
    )


def _again(after: float) -> bytes:
    """At once, or after so many seconds. Source: NATS ADR-15."""
    return NAK + b' {"delay": %d}' % round(after * 1e9) if after > 0 else NAK

"""The named queues ("queue:name"), with SQS's semantics over the engine's queues `q/<name>`.

What belongs here: what SQS promises of a queue (visibility, receive count, delay, groups, deduplication, limit), dead
letters and their way back. Who consumes a queue: the connector eventfn_queue, which sees trigger.Queues and no more.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from eventfn.bus import names
from eventfn.bus.ids import new_id
from eventfn.bus.waiting import wait_for
from eventfn.clock import Clock
from eventfn.destination import DESTINATION, ORIGIN, SHAPE
from eventfn.engine.contract import (
    Claim,
    Complete,
    Engine,
    Extend,
    Message,
    Move,
    Operation,
    QueueFull,
    Release,
    Send,
)
from eventfn.errors import EngineError, Fenced, Refused, Throttled
from eventfn.functions.model import Queue
from eventfn.trigger import QueueFacts, QueueMessage, ReceivedMessage

DEFAULT_MAX_RECEIVE_COUNT = 3  # of a queue with dead letters that says nothing else
REDRIVE_LEASE_MS = 60_000  # how long a message that is being sent back stays hidden if this node dies meanwhile
REDRIVE_AT_ONCE = 100

Submit = Callable[[str, bytes, str], Awaitable[object]]  # (function, payload, dedupe key), returns once on disk


class QueueStatus(msgspec.Struct, frozen=True):
    """A queue, for people. `oldest_ms`: when the oldest message was sent, epoch ms."""

    name: str
    fifo: bool
    visible: int
    in_flight: int
    delayed: int
    oldest_ms: int | None
    dead_letter_queue: str | None


class Redriven(msgspec.Struct, frozen=True):
    """What a redrive did: how many messages went back, and why the others stayed (message id -> reason)."""

    moved: int
    kept: dict[str, str]


class NamedQueues:
    """`facts` holds the queues that are declared; any other name is a queue with the defaults.

    `run` is the one waker of all queues: without it, `wait` returns for what this node sends and for nothing else.
    """

    def __init__(self, engine: Engine, facts: Mapping[str, Queue], clock: Clock) -> None:
        self._engine = engine
        self._declared = facts
        self._clock = clock
        self._asked_for: set[str] = set()  # by a trigger or a destination: in use, declared or not
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._look_again = asyncio.Event()
        engine.on_send(self._sent)

    # --- trigger.Queues ----------------------------------------------------------------------------------------------

    def facts(self, queue: str) -> QueueFacts:
        self._asked_for.add(queue)
        declared = self._queue(queue)
        count = declared.max_receive_count
        if count is None and declared.dead_letter_queue is not None:
            count = DEFAULT_MAX_RECEIVE_COUNT
        return QueueFacts(
            name=queue,
            fifo=declared.fifo,
            visibility_timeout=float(declared.visibility_timeout),
            dead_letter_queue=declared.dead_letter_queue,
            max_receive_count=count,
        )

    async def send(self, queue: str, messages: Sequence[QueueMessage]) -> list[str]:
        """Also raises Refused for what a queue cannot hold: a body that is not text, and in a FIFO queue a message
        without a group or a deduplication id."""
        declared = self._queue(queue)
        now = self._clock.now_ms()
        sends = [self._send(declared, message, now) for message in messages]
        try:
            ids = await self._engine.commit(sends, now)
        except QueueFull as error:
            raise Throttled(f"queue {queue} holds its maximum of {error.limit} messages") from error
        if any(send.visible_ms for send in sends):
            self._look_again.set()
        return [str(each) for each in ids]

    async def receive(self, queue: str, limit: int, visibility: float | None = None) -> list[ReceivedMessage]:
        facts = self.facts(queue)
        now = self._clock.now_ms()
        seconds = facts.visibility_timeout if visibility is None else visibility
        until_ms = now + round(seconds * 1000)
        messages = await self._take(facts, limit, until_ms, now)
        return [_received(queue, message, until_ms) for message in messages]

    async def wait(self, queue: str) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(names.NAMED + queue, set())
        waiters.add(waiter)
        self._look_again.set()  # something may be visible already
        try:
            await waiter
        finally:
            waiters.discard(waiter)

    async def delete(self, messages: Sequence[ReceivedMessage]) -> list[bool]:
        return await self._each([Complete(message.claim) for message in messages])

    async def release(self, messages: Sequence[ReceivedMessage], after: float | None = None) -> list[bool]:
        """With None nothing has to be done, and nothing can be late: the visibility timeout ends by itself."""
        if after is None:
            return [True] * len(messages)
        visible_ms = self._clock.now_ms() + round(after * 1000)
        released = await self._each([Release(message.claim, visible_ms) for message in messages])
        self._look_again.set()
        return released

    async def extend(self, messages: Sequence[ReceivedMessage], seconds: float) -> list[bool]:
        until_ms = self._clock.now_ms() + round(seconds * 1000)
        return await self._each([Extend(message.claim, until_ms) for message in messages])

    async def depth(self, queue: str) -> int:
        """All messages that are not deleted: visible, in flight and delayed."""
        name = names.NAMED + queue
        stats = await self._engine.stats(name, self._clock.now_ms())
        return sum(each.total for each in stats if each.queue == name)

    # --- the waker ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled: wakes whoever waits for a queue once its next message is visible. One timer for all."""
        while True:
            self._look_again.clear()
            due_ms = await self._wake() if any(self._waiters.values()) else None
            seconds = None if due_ms is None else (due_ms - self._clock.now_ms()) / 1000
            await wait_for(self._look_again, self._clock, seconds)

    async def _wake(self) -> int | None:
        """Wakes those whose queue has something visible; returns when the next one has, epoch ms."""
        try:
            upcoming = await self._engine.next_visible(names.NAMED)
        except EngineError as error:
            for waiter in self._waiting():
                waiter.set_exception(error)  # whoever reads the queue knows when to try again; the waker does not
            return None
        now = self._clock.now_ms()
        later = [visible_ms for queue, visible_ms in upcoming.items() if visible_ms > now and self._waiters.get(queue)]
        for queue, visible_ms in upcoming.items():
            if visible_ms <= now:
                self._sent(queue)
        return min(later, default=None)

    def _sent(self, queue: str) -> None:
        for waiter in self._waiters.get(queue, ()):
            if not waiter.done():
                waiter.set_result(None)

    def _waiting(self) -> list[asyncio.Future[None]]:
        return [waiter for waiters in self._waiters.values() for waiter in waiters if not waiter.done()]

    # --- for people --------------------------------------------------------------------------------------------------

    async def overview(self) -> list[QueueStatus]:
        """Every queue that is declared, in use or holds something, by name."""
        stats = await self._engine.stats(names.NAMED, self._clock.now_ms())
        held = {each.queue.removeprefix(names.NAMED): each for each in stats}
        found: list[QueueStatus] = []
        for name in sorted({*self._declared, *self._asked_for, *held}):
            queue, counts = self._queue(name), held.get(name)
            found.append(
                QueueStatus(
                    name=name,
                    fifo=queue.fifo,
                    visible=counts.visible if counts else 0,
                    in_flight=counts.in_flight if counts else 0,
                    delayed=counts.delayed if counts else 0,
                    oldest_ms=counts.oldest_ms if counts else None,
                    dead_letter_queue=queue.dead_letter_queue,
                )
            )
        return found

    async def peek(self, queue: str, limit: int, after: int = 0) -> list[Message]:
        """Messages in order, from the one behind sequence `after`; their receive count does not change."""
        return await self._engine.peek(names.NAMED + queue, limit, after)

    async def purge(self, queue: str) -> int:
        """Drops every message of the queue, those in flight too. How many."""
        return await self._engine.purge(names.NAMED + queue)

    # --- dead letters, and their way back -----------------------------------------------------------------------------

    async def redrive(self, queue: str, submit: Submit, limit: int | None = None) -> Redriven:
        """Sends up to `limit` visible messages of a queue back to where they came from: to their queue, or once more
        to their function.

        A message leaves only after it has arrived. A crash in between sends it again with its id as the dedupe key,
        so nothing more happens by it. What comes back while this runs is not sent again. Raises Throttled when a
        function takes no more; what was not sent is still there then.
        """
        name = names.NAMED + queue
        stats = await self._engine.stats(name, self._clock.now_ms())
        left = sum(each.visible for each in stats if each.queue == name)
        left = left if limit is None else min(left, limit)
        moved, kept, held = 0, dict[str, str](), list[Claim]()
        try:
            while left > 0:
                now = self._clock.now_ms()
                messages = await self._engine.claim(name, min(left, REDRIVE_AT_ONCE), now + REDRIVE_LEASE_MS, now)
                held += [message.claim for message in messages]
                for message in messages:
                    try:
                        moved += await self._send_back(queue, message, submit)
                        held.remove(message.claim)
                    except Throttled:
                        raise
                    except Refused as refused:
                        kept[message.id] = str(refused)
                left -= len(messages)
                if not messages:
                    break
        finally:
            now = self._clock.now_ms()
            await self._each([Release(claim, now, count=False) for claim in held])
        return Redriven(moved, kept)

    async def _send_back(self, queue: str, message: Message, submit: Submit) -> int:
        """How many went back: 0 when the message was not ours any more. Raises Refused when it has to stay."""
        undelivered = message.attributes.get(DESTINATION)  # the function has run: only its record is to go out again
        if undelivered is not None:
            return sum(await self._each([Move(message.claim, names.OUTBOX + undelivered)]))
        kind, _, name = message.attributes.get(ORIGIN, "").partition(":")
        if kind == "queue" and name != queue:
            return sum(await self._each([Move(message.claim, names.NAMED + name)]))
        if kind == "fn":
            await submit(name, _event_of(message), message.id)
            return sum(await self._each([Complete(message.claim)]))
        raise Refused("it does not say where it came from" if not kind else "it came from this very queue")

    # --- the engine --------------------------------------------------------------------------------------------------

    def _queue(self, name: str) -> Queue:
        return self._declared.get(name) or Queue(name=name)

    def _send(self, queue: Queue, message: QueueMessage, now: int) -> Send:
        try:
            message.body.decode()
        except UnicodeDecodeError as error:
            raise Refused(f"the body of a message must be UTF-8 text: {error}") from error
        dedupe_key = message.dedupe_key
        if queue.fifo:
            if message.group is None:
                raise Refused(f"queue {queue.name} is a FIFO queue: a message for it needs a group")
            if dedupe_key is None and queue.content_based_deduplication:
                dedupe_key = hashlib.sha256(message.body).hexdigest()
            if dedupe_key is None:
                raise Refused(
                    f"queue {queue.name} is a FIFO queue without content_based_deduplication: "
                    "a message for it needs a deduplication id"
                )
        delay = queue.delay if message.delay is None else message.delay
        return Send(
            queue=names.NAMED + queue.name,
            id=new_id(),
            body=message.body,
            attributes=message.attributes,
            visible_ms=now + round(delay * 1000) if delay > 0 else 0,
            group=message.group if queue.fifo else None,
            dedupe_key=dedupe_key,
            dedupe_until_ms=now + round(queue.dedupe_window * 1000) if dedupe_key is not None else 0,
            limit=queue.maximum_messages,
        )

    async def _take(self, facts: QueueFacts, limit: int, until_ms: int, now: int) -> list[Message]:
        """Claims, and moves what was received too often to the dead letters. Cancelled, it has taken nothing."""
        messages = await self._engine.claim(names.NAMED + facts.name, limit, until_ms, now)
        most = facts.max_receive_count
        if most is None or facts.dead_letter_queue is None:
            return messages
        # Not the engine's own dead-lettering: a message that leaves is told where it came from, for its way back.
        target, origin = names.NAMED + facts.dead_letter_queue, f"queue:{facts.name}"
        if worn_out := [Move(each.claim, target, _origin(each, origin)) for each in messages if each.attempts > most]:
            messages = [message for message in messages if message.attempts <= most]
            await self._unless_cancelled(self._each(worn_out), messages)
        return messages

    async def _unless_cancelled(self, work: Coroutine[Any, Any, object], messages: Sequence[Message]) -> None:
        """Cancelled, it hands back the messages before it raises."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            await self._hand_back(messages)
            raise

    async def _hand_back(self, messages: Sequence[Message]) -> None:
        """They were never received: nothing counts."""
        now = self._clock.now_ms()
        await self._each([Release(message.claim, now, count=False) for message in messages])

    async def _each(self, operations: Sequence[Operation]) -> list[bool]:
        """Whether each was kept. All in one commit; only when a claim has lapsed is each tried by itself."""
        if not operations:
            return []
        now = self._clock.now_ms()
        try:
            await self._engine.commit(operations, now)
        except Fenced:
            if len(operations) == 1:
                return [False]
            return [kept for operation in operations for kept in await self._each([operation])]
        return [True] * len(operations)


def _received(queue: str, message: Message, until_ms: int) -> ReceivedMessage:
    # By position: names make it half as dear again, and there are thousands.
    return ReceivedMessage(
        queue,
        message.id,
        message.body,
        message.attributes,
        message.claim,
        message.attempts,  # as receives: without what was claimed for a reader that was cancelled
        message.sent_ms,
        message.first_claimed_ms,
        until_ms,
        message.claim.sequence,
        message.group,
        message.dedupe_key,
    )


def _origin(message: Message, origin: str) -> dict[str, str]:
    """Added to a dead letter. One that came from a function before keeps that as its origin: it is what failed."""
    return {} if ORIGIN in message.attributes else {ORIGIN: origin}


class _Record(msgspec.Struct, rename="camel"):
    request_payload: msgspec.Raw


class _GivenUp(msgspec.Struct):
    payload: msgspec.Raw


def _event_of(message: Message) -> bytes:
    """The event inside a dead letter, byte for byte."""
    shape = message.attributes.get(SHAPE)
    try:
        if shape == "batch":
            return bytes(msgspec.json.decode(message.body, type=_GivenUp).payload)
        if shape != "record":
            return message.body
        return bytes(msgspec.json.decode(message.body, type=_Record).request_payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused(f"it is no destination record of Lambda's: {error}") from error

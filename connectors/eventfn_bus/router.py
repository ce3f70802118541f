"""Takes the events of one bus from its queue to all targets of the rules that match.

    queue bus.NAME ─receive─▶ rules ─▶ function: submitted, on disk │ destination: in the outbox ─▶ delete

A message leaves its queue after every target has the event durably. Until then it comes again, and each target is given
it under the same key, so what has it takes it once. What a target can never take goes to the dead letters.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Coroutine, Sequence
from typing import Any

from eventfn.clock import Clock
from eventfn.destination import DESTINATION, ORIGIN, REASON, SHAPE
from eventfn.errors import EngineError, FunctionNotFound, PayloadTooLarge, Refused, Throttled
from eventfn.trigger import Deliver, QueueMessage, Queues, ReceivedMessage
from eventfn.units import recognisable
from eventfn_bus.events import ONLY_RULE, Home, event_of, queue_of
from eventfn_bus.inputs import Sight
from eventfn_bus.rules import Rule, Target

DEAD_LETTERS = "dead-letters"  # the host's queue for what has no dead letters of its own
AT_ONCE = 100  # their commits are made side by side, so the engine groups them
LEASE = 10.0  # seconds; routing takes milliseconds, and after a crash the events are there again so soon
FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0  # seconds until an event that a target could not take yet comes again
LONGEST_TRY_MS = 24 * 3_600_000  # a target that could not take an event for a day gets it no more: EventBridge's age


class _Again(Exception):
    """The target may take it later."""

    def __init__(self, reason: str, after: float) -> None:
        self.after = after
        super().__init__(reason)


class _Never(Exception):
    """The target can never take it."""


class Router:
    """`run` it in a task; after `stop` it ends with what it has in its hands."""

    def __init__(
        self, bus: str, home: Home, queues: Queues, deliver: Deliver, clock: Clock, log: logging.Logger
    ) -> None:
        self.rules: Sequence[Rule] = ()
        self._bus = bus
        self._home = home
        self._queue = queue_of(bus)
        self._queues = queues
        self._deliver = deliver
        self._clock = clock
        self._log = log
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self) -> None:
        while not self._stopped.is_set():
            try:
                messages = await self._queues.receive(self._queue, AT_ONCE, LEASE)
                if messages:
                    await self._route_all(messages)
                else:
                    await self._unless_stopped(self._queues.wait(self._queue))
            except Exception as error:  # whatever it is, what was received comes again when its lease ends
                if isinstance(error, EngineError):
                    self._log.warning("bus %s waits for the engine: %s", self._bus, error)
                else:
                    self._log.exception("bus %s could not route", self._bus)
                await self._unless_stopped(self._clock.sleep(FIRST_DELAY))

    async def _unless_stopped(self, waiting: Coroutine[Any, Any, None]) -> None:
        waiter, stopped = asyncio.create_task(waiting), asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({waiter, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            done = waiter.done()
            waiter.cancel()
            stopped.cancel()
            await asyncio.wait({waiter, stopped})
        if done:
            waiter.result()

    async def _route_all(self, messages: Sequence[ReceivedMessage]) -> None:
        delays = await asyncio.gather(*(self._route(message) for message in messages))
        await self._queues.delete([message for message, delay in zip(messages, delays, strict=True) if delay is None])
        later = [(message, delay) for message, delay in zip(messages, delays, strict=True) if delay is not None]
        await asyncio.gather(*(self._queues.release([message], delay) for message, delay in later))

    async def _route(self, message: ReceivedMessage) -> float | None:
        """None when every target has it, else the seconds until it is to come again."""
        try:
            event, payload = event_of(
                message.body, message.dedupe_key or message.id, message.sent_ms, self._bus, self._home
            )
        except ValueError as error:
            self._log.error("what waits in %s can never become an event: %s", self._queue, error)
            origin = {ORIGIN: f"queue:{self._queue}"} | message.attributes
            await self._dead_letter(message.body, origin | {REASON: str(error)}, message.id)
            return None
        given = [
            self._give(message, Sight(event, payload, message.sent_ms, rule.arn, rule.name), target)
            for rule in self.rules
            if rule.matches(event, message.attributes.get(ONLY_RULE))
            for target in rule.targets
        ]
        return max((delay for delay in await asyncio.gather(*given) if delay is not None), default=None)

    async def _give(self, message: ReceivedMessage, sight: Sight, target: Target) -> float | None:
        key = f"{message.id}/{sight.rule_name}/{target.key}"
        payload = sight.json
        try:
            payload = target.input(sight)
            await self._hand_over(target, payload, key, sight)
        except _Again as again:
            if self._clock.now_ms() - message.sent_ms < LONGEST_TRY_MS:
                self._log.warning("%s waits for %s: %s", sight.event["id"], recognisable(target.name), again)
                backed_off = min(FIRST_DELAY * 2.0 ** min(message.receives - 1, 10), LONGEST_DELAY)
                return max(again.after, backed_off)
            await self._give_up(sight, target, payload, key, f"it took no event for a day: {again}")
        except _Never as never:
            await self._give_up(sight, target, payload, key, str(never))
        return None

    async def _hand_over(self, target: Target, payload: bytes, key: str, sight: Sight) -> None:
        """Returns once the target has it durably. Raises _Again and _Never."""
        try:
            if isinstance(target.to, str):
                await self._deliver(target.to, key, payload, {"RULE_ARN": sight.rule_arn})
            else:
                await target.to.submit(payload, str(uuid.uuid4()), key)
        except Throttled as error:
            raise _Again(error.reason, error.retry_after) from error
        except (FunctionNotFound, PayloadTooLarge) as error:
            raise _Never(str(error)) from error
        except (Refused, EngineError) as error:
            raise _Again(str(error), 0) from error

    async def _give_up(self, sight: Sight, target: Target, payload: bytes, key: str, reason: str) -> None:
        self._log.error("%s cannot be given to %s: %s", sight.event["id"], recognisable(target.name), reason)
        attributes = {SHAPE: "event", REASON: reason, "RULE_ARN": sight.rule_arn, "ERROR_MESSAGE": reason}
        # Where a redrive sends it.
        attributes |= {DESTINATION: target.to} if isinstance(target.to, str) else {ORIGIN: target.name}
        await self._dead_letter(payload, attributes, key)

    async def _dead_letter(self, body: bytes, attributes: dict[str, str], key: str) -> None:
        attributes = attributes | {REASON: attributes[REASON][:1024]}
        await self._queues.send(DEAD_LETTERS, [QueueMessage(body, attributes, dedupe_key=key)])

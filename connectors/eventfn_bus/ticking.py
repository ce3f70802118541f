"""Scheduled rules: puts EventBridge's "Scheduled Event" on the default bus, for one rule, whenever that is due.

Nothing is remembered: a tick has the same event id whoever notices it, and the queue takes an id once, so several
nodes, or a try after a failure, make one event. A start looks back a minute, so that a restart misses nothing; what
passed before that is not made up for, as in EventBridge (a `cron` trigger has policies for it). `rate` counts from the
epoch, so that a restart does not begin it anew.
"""

from __future__ import annotations

import datetime
import logging
import uuid
from collections.abc import Mapping

import msgspec

from eventfn.clock import Clock
from eventfn.errors import EngineError, Refused
from eventfn.schedules import Schedule, latest_ticks
from eventfn.trigger import QueueMessage, Queues
from eventfn_bus.events import DEFAULT_BUS, ONLY_RULE, Home, envelope, queue_of

# The wall clock may jump (NTP, a suspended laptop), so it is looked at again at least this often. A tick that is
# noticed later than that was missed.
LOOK_AGAIN = 60
RETRY_AFTER = 1.0

_EPOCH = 0


class Ticker:
    """`run` it in a task, and cancel it."""

    def __init__(
        self, schedules: Mapping[str, Schedule], home: Home, queues: Queues, clock: Clock, log: logging.Logger
    ) -> None:
        self._schedules = schedules  # by the names of their rules
        self._home = home
        self._queues = queues
        self._clock = clock
        self._log = log

    async def run(self) -> None:
        last = self._now() - LOOK_AGAIN
        while True:
            now = self._now()
            if now - last > 2 * LOOK_AGAIN or last - now > LOOK_AGAIN:
                self._log.warning("the clock went from %d to %d: scheduled rules go on from there", last, now)
                last = now
            try:
                await self._tick(last, now)
            except (EngineError, Refused) as error:
                self._log.warning("the event of a scheduled rule could not be kept: %s", error)
                await self._clock.sleep(RETRY_AFTER)
                continue
            last = max(last, now)
            await self._clock.sleep(self._until_next(last))

    async def _tick(self, after: int, until: int) -> None:
        for rule, schedule in self._schedules.items():
            for tick in latest_ticks(schedule, after, until, _EPOCH, datetime.UTC, 1):
                await self._put(rule, tick)

    async def _put(self, rule: str, tick: int) -> None:
        arn = self._home.rule_arn(DEFAULT_BUS, rule)
        event = envelope(
            event_id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{arn}@{tick}")),
            detail_type="Scheduled Event",
            source="aws.events",
            time_ms=tick * 1000,
            resources=[arn],
            detail={},
            home=self._home,
        )
        message = QueueMessage(msgspec.json.encode(event), {ONLY_RULE: rule}, dedupe_key=event["id"])
        await self._queues.send(queue_of(DEFAULT_BUS), [message])

    def _until_next(self, last: int) -> float:
        upcoming = [schedule.next_after(last, _EPOCH, datetime.UTC) for schedule in self._schedules.values()]
        seconds = [tick - self._clock.now_ms() / 1000 for tick in upcoming if tick is not None]
        return min([LOOK_AGAIN, *seconds])

    def _now(self) -> int:
        return self._clock.now_ms() // 1000

"""The trigger: waits for the next tick and hands it over, one at a time.

What is remembered is one position: the schedule, when it began and its last tick. The host writes it with the event of
that tick, so a tick is announced once whatever dies in between. The next tick is handed over only after the last one
was settled: a position that runs ahead of an unsettled tick would lose it.
"""

from __future__ import annotations

import asyncio
import collections
import datetime
import zoneinfo
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from eventfn.event import Batch, Position, Record
from eventfn.schedules import latest_ticks, parse
from eventfn.trigger import Done, Reject, Retry, Settlement, Traits, TriggerContext
from eventfn_cron.events import event_id, scheduled_event
from eventfn_cron.settings import CronSettings

# The wall clock may jump (NTP, a suspended laptop), so it is looked at again at least this often. A tick that is
# noticed later than that was missed.
LOOK_AGAIN = 60
# "all" brings back so many missed ticks, the latest ones: two thirds of a day of minutes.
MOST_MISSED = 1000
# A last tick further ahead than this says that the clock was wrong when it was written, not that it was set back.
CLOCK_WAS_WRONG = 86_400
RETRY_AFTER = 1.0

_POSITION = "schedule"


class Progress(msgspec.Struct, frozen=True):
    """What the position holds, as JSON. A schedule that was changed in the file begins anew."""

    schedule: str
    timezone: str
    origin: int  # when the schedule began, seconds since the epoch
    last: int  # its last tick that was announced; `origin` before the first


class CronTrigger:
    Settings: ClassVar[type[msgspec.Struct]] = CronSettings
    Shared: ClassVar[type[msgspec.Struct] | None] = None
    traits: ClassVar[Traits] = Traits(
        invocation="event", ack="prefix", ordered=True, shared=False, max_batch_size=1, default_batch_size=1
    )

    def __init__(self, settings: CronSettings, shared: None, context: TriggerContext) -> None:
        self._settings = settings
        self._context = context
        self._clock = context.clock
        self._schedule = parse(settings.schedule)
        self._zone: datetime.tzinfo = datetime.UTC
        self._progress: Progress | None = None
        self._due: collections.deque[int] = collections.deque()  # ticks to announce; the first may be on its way
        self._settled = asyncio.Event()
        self._settled.set()
        self._not_before = 0.0  # monotonic: a tick that the host could not take waits until then

    async def connect(self) -> None:
        self._zone = zoneinfo.ZoneInfo(self._settings.timezone)
        kept = await self._context.positions.get(_POSITION)
        progress = None if kept is None else msgspec.json.decode(kept, type=Progress)
        now = self._now()
        here = self._settings.schedule, self._settings.timezone
        if progress is None or (progress.schedule, progress.timezone) != here:
            progress = Progress(*here, origin=now, last=now)
            await self._context.positions.put(_POSITION, msgspec.json.encode(progress))
        self._progress = progress
        if self._next_after(progress.last) is None:
            self._context.log.warning("schedule %r has no tick left: it will not run again", self._settings.schedule)

    async def read(self, limit: int) -> Batch:
        while True:
            await self._settled.wait()
            wait = self._not_before - self._clock.monotonic()
            if wait <= 0:
                if not self._due:
                    self._due.extend(self._now_due())
                if self._due:
                    self._settled.clear()
                    return Batch((self._record(self._due[0]),))
                wait = self._until_next()
            await self._clock.sleep(min(wait, LOOK_AGAIN))

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        (settlement,) = settlements
        self._settled.set()
        match settlement:
            case Retry(after):
                self._not_before = self._clock.monotonic() + (RETRY_AFTER if after is None else after)
            case Reject(reason):
                self._progress = self._after(self._due.popleft())
                self._context.log.error("%s: the host gave up the event of a tick: %s", batch.records[0].id, reason)
                await self._context.positions.put(_POSITION, msgspec.json.encode(self._progress))
            case Done():
                self._progress = self._after(self._due.popleft())

    async def close(self, deadline: float) -> None:
        """What was handed over and not settled is due again after the next `connect`."""
        self._due.clear()
        self._settled.set()

    def _now_due(self) -> list[int]:
        """The ticks to announce, in order, by the policy for those that nobody noticed in time."""
        now, log = self._now(), self._context.log
        ahead = self._known.last - now
        if ahead > CLOCK_WAS_WRONG:
            log.warning(
                "the last tick lies %d s in the future: the clock was wrong; the schedule goes on from now", ahead
            )
            self._progress = self._after(now)
        count = MOST_MISSED if self._settings.missed == "all" else 1
        ticks = latest_ticks(self._schedule, self._known.last, now, self._known.origin, self._zone, count)
        if len(ticks) == MOST_MISSED:
            log.warning("many ticks were missed: the latest %d come now, those before do not", MOST_MISSED)
        if self._settings.missed == "skip" and ticks and now - ticks[0] > LOOK_AGAIN:
            log.warning("ticks were missed, the last one %d s ago: they are skipped", now - ticks[0])
            self._progress = self._after(ticks.pop())
        return ticks

    def _until_next(self) -> float:
        following = self._next_after(self._known.last)
        return LOOK_AGAIN if following is None else following - self._clock.now_ms() / 1000

    def _record(self, tick: int) -> Record:
        source, given = self._context.source, self._settings.input
        return Record(
            id=event_id(source, tick),
            payload=scheduled_event(source, tick, self._context.account, self._context.region)
            if given is msgspec.UNSET
            else msgspec.json.encode(given),
            arrived_ms=self._clock.now_ms(),
            dedupe_key=f"{source}@{tick}",
            position=Position(_POSITION, msgspec.json.encode(self._after(tick))),
        )

    def _after(self, tick: int) -> Progress:
        return msgspec.structs.replace(self._known, last=tick)

    def _next_after(self, moment: int) -> int | None:
        return self._schedule.next_after(moment, self._known.origin, self._zone)

    @property
    def _known(self) -> Progress:
        assert self._progress is not None, "connect comes first"
        return self._progress

    def _now(self) -> int:
        return self._clock.now_ms() // 1000

"""A task for each engine queue under a prefix that has something visible, for as long as it has.

What belongs here: finding out which queues have work, without polling. What is done with the work: dispatch.py for
functions' events, destinations.py for the outbox.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from eventfn.bus.waiting import wait_for
from eventfn.clock import Clock
from eventfn.engine.contract import Engine
from eventfn.errors import EngineError
from eventfn.units import recognisable

PAUSE = 1.0  # seconds after which what went wrong is tried again

log = logging.getLogger("eventfn.lanes")


class Lane:
    """One queue that is being worked off. `poke` is set when there may be something new to do."""

    def __init__(self, queue: str, name: str) -> None:
        self.queue = queue
        self.name = name  # the queue's, without the prefix
        self.poke = asyncio.Event()
        self.ended = asyncio.Event()


class Lanes:
    """`work(lane)` runs in a task of its own and returns when nothing of the queue is visible or `draining` is set."""

    def __init__(self, engine: Engine, clock: Clock, prefix: str, work: Callable[[Lane], Awaitable[None]]) -> None:
        self.draining = False
        self.open: dict[str, Lane] = {}
        self._engine = engine
        self._clock = clock
        self._prefix = prefix
        self._work = work
        self._look_again = asyncio.Event()
        self._tasks: asyncio.TaskGroup

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            self._engine.on_send(self._sent)
            while True:
                self._look_again.clear()
                earliest: int | None = None
                now = self._clock.now_ms()
                for queue, visible_ms in (await self._next_visible(self._prefix)).items():
                    if queue in self.open or self.draining:
                        continue
                    if visible_ms <= now:
                        self._open(queue)
                    elif earliest is None or visible_ms < earliest:
                        earliest = visible_ms
                await wait_for(self._look_again, self._clock, None if earliest is None else (earliest - now) / 1000)

    def drain(self) -> list[Lane]:
        """No new lanes; those open are told to look. They are returned, to be waited for."""
        self.draining = True
        lanes = list(self.open.values())
        for lane in lanes:
            lane.poke.set()
        return lanes

    def look_again(self) -> None:
        self._look_again.set()

    async def until_visible(self, lane: Lane) -> None:
        """Waits for a poke, or until the queue's next message is due."""
        now = self._clock.now_ms()
        due_ms = (await self._next_visible(lane.queue)).get(lane.queue)
        await wait_for(lane.poke, self._clock, None if due_ms is None else (due_ms - now) / 1000)

    async def _next_visible(self, prefix: str) -> dict[str, int]:
        """Asks until the engine answers: a full disk must not end the work on what is on it."""
        while True:
            try:
                return await self._engine.next_visible(prefix)
            except EngineError as error:
                log.warning("cannot look for work in %s, trying again: %s", prefix, error)
                await self._clock.sleep(PAUSE)

    def _sent(self, queue: str) -> None:
        if not queue.startswith(self._prefix):
            return
        if (lane := self.open.get(queue)) is not None:
            lane.poke.set()
        elif not self.draining:  # without asking the engine first: mostly there is something, and it should not wait
            self._open(queue)

    def _open(self, queue: str) -> None:
        lane = self.open[queue] = Lane(queue, queue.removeprefix(self._prefix))
        self._tasks.create_task(self._run_lane(lane))

    async def _run_lane(self, lane: Lane) -> None:
        try:
            await self._work(lane)
        except Exception:
            # A fault of ours, said aloud. It stops nobody else's lane; what this one had claimed comes again with it.
            log.exception(
                "eventfn bug: the work on %s broke off and begins anew in %g s", recognisable(lane.queue), PAUSE
            )
            await self._clock.sleep(PAUSE)
        finally:
            del self.open[lane.queue]
            lane.ended.set()
            self._look_again.set()

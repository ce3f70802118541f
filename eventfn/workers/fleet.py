"""All environments of one version of one function: who is free, who waits, how many more are wanted.

Free ones are a stack: the one that was used last is used next, so the rest grow old and are reaped. Waiting
invocations are a queue.

A function that answers quickly keeps as many environments busy as there are cores, and the next request waits for one
of them: it is served sooner than by waking one more process, whose memory is in no cache, to share the same cores. That
is no limit: as soon as nothing is answered any more, whoever waits gets an environment of his own.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import Protocol

from eventfn.event import Outcome
from eventfn.workers.contract import Prepared
from eventfn.workers.environment import Environment
from eventfn.workers.failures import Failure
from eventfn.workers.launching import Scripts
from eventfn.workers.pace import Pace
from eventfn.workers.request import NEVER, Request
from eventfn.workers.snapshots import Snapshot

# Seconds between two looks at whether anything is answered. Nothing twice in a row: those who are busy wait for
# something, and the cores are free for others. Once may be a long turn of the loop with the answers behind it.
_LOOK = 0.001
# Bytes of a request that is sent ahead, or goes with the settings: small beside what the channel holds.
_MOST_AHEAD = 16_384
_CORES = os.cpu_count() or 1


class Host(Protocol):
    """The pool, as a fleet sees it."""

    def wants(self, fleet: Fleet) -> None:
        """The fleet would have more environments."""
        ...

    def finished(self, request: Request, outcome: Outcome) -> None: ...

    def empty(self, fleet: Fleet) -> None:
        """A retired fleet has nothing left."""
        ...


class Fleet:
    def __init__(self, prepared: Prepared, host: Host) -> None:
        self.prepared = prepared
        self.key = prepared.key
        self.environments: set[Environment] = set()
        self.waiting: deque[Request] = deque()
        self.starting = 0
        self.scripts = Scripts()
        self.failures = 0  # failed inits in a row
        self._failure: Failure | None = None  # the latest of them
        self.retired = False
        self.snapshot: asyncio.Task[Snapshot] | None = None  # of a function with snap_start
        self.held_back = False  # no starts for now, after failed ones
        self._host = host
        self.ahead = 0  # requests that wait no more, in the hands of environments that are starting
        self._free: list[Environment] = []
        self._busy: dict[Environment, None] = {}  # of those that read ahead
        self._capacity: int = prepared.function.concurrency_per_environment
        self._was_ready = False
        self._loop = asyncio.get_running_loop()
        self._answers = 0
        self._pace = Pace()
        self._stalled = False  # nothing was answered for a while, and still is not
        self._look: asyncio.TimerHandle | None = None

    # --- the hot path ----------------------------------------------------------------------------------------------

    def take(self, request: Request) -> None:
        if self.waiting or not self._place(request):
            self.waiting.append(request)
            self._serve_waiting()

    def freed(self, environment: Environment) -> None:
        """It can take one more."""
        self._busy.pop(environment, None)
        if environment.stale:
            if not environment.requests:
                environment.end()
            return
        if self.retired and not self.waiting:
            if not environment.requests:
                environment.end()
            return
        if not self._free or (environment is not self._free[-1] and environment not in self._free):
            self._free.append(environment)
        if self.waiting:
            self._serve_waiting()

    def finished(self, request: Request, outcome: Outcome) -> None:
        self._answers += 1
        self._pace.answered(request.took_ms or outcome.duration_ms)
        self._stalled = False
        # There may be room ahead; or it is quick only now, and those who wait are looked after.
        if self.waiting and (self._busy or self._look is None):
            self._serve_waiting()
        self._host.finished(request, outcome)

    def given_back(self, requests: list[Request]) -> None:
        self.waiting.extendleft(reversed(requests))
        self._serve_waiting()

    def _place(self, request: Request) -> bool:
        """Whether it is an environment's now."""
        pace, busy = self._pace, self._busy
        if busy and pace.together and self._send_ahead(request, pace.together):
            return True
        if self._free and self._may_run():
            self._run(self._free[-1], request)
            return True
        return bool(busy) and pace.ahead > pace.together and self._send_ahead(request, pace.ahead)

    def _run(self, environment: Environment, request: Request) -> None:
        environment.run(request)
        if environment.full:
            self._free.pop()
            if environment.reads_ahead:
                self._busy[environment] = None

    def _send_ahead(self, request: Request, most: int) -> bool:
        """Always to the same one of those that are busy, as long as it has room: the others need not wake up."""
        if request.stream is not None or request.tail is not None or request.invocation.size > _MOST_AHEAD:
            return False
        for environment in self._busy:
            if len(environment.ahead) < most and environment.may_send_ahead:
                environment.send_ahead(request)
                if self._look is None:
                    self._watch()
                return True
        return False

    @property
    def _quick(self) -> bool:
        return self._pace.quick and self._capacity == 1

    def _may_run(self) -> bool:
        """Whether one more environment may be busy now."""
        busy = len(self.environments) - len(self._free)
        return busy < _CORES or not self._quick or self._stalled or self.retired

    def _serve_waiting(self) -> None:
        while self.waiting and self._place(self.waiting[0]):
            self.waiting.popleft()
        if not self.waiting:
            return
        if self._may_run():
            self._host.wants(self)
        if self._quick and self._look is None:
            self._watch()

    def _watch(self) -> None:
        ahead = {environment: environment.answers for environment in self._busy if environment.ahead}
        self._look = self._loop.call_later(_LOOK, self._look_for_stall, self._answers, ahead, False)

    def _look_for_stall(self, answers: int, ahead: dict[Environment, int], again: bool) -> None:
        """Of all its environments, and of those that were sent something `ahead`."""
        self._look = None
        stalled = self._answers == answers
        slow = {each: count for each, count in ahead.items() if each.ahead and each.answers == count}
        if (stalled or slow) and not again:
            self._look = self._loop.call_later(_LOOK, self._look_for_stall, answers, slow, True)
            return
        self._stalled = stalled
        for environment in slow:
            environment.take_back()
        self._serve_waiting()
        if self._look is None and any(environment.ahead for environment in self._busy):
            self._watch()

    # --- how many --------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> int:
        return sum(1 for environment in self._free if not environment.requests)

    @property
    def taken_snapshot(self) -> Snapshot | None:
        task = self.snapshot
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    @property
    def in_flight(self) -> int:
        return sum(len(environment.requests) for environment in self.environments)

    @property
    def waits(self) -> int:
        return len(self.waiting) + self.ahead + sum(len(environment.ahead) for environment in self.environments)

    def wanted(self) -> int:
        """Environments to start now, beyond those starting."""
        for_waiting = -(-(len(self.waiting) + self.ahead) // self._capacity) - self.starting
        if not self._may_run() or (self.held_back and self._failure is not None):
            for_waiting = 0
        wanted, most = max(for_waiting, self.provisioned_wanted()), self.prepared.most_environments
        return wanted if most is None else min(wanted, most - len(self.environments) - self.starting)

    def provisioned_wanted(self) -> int:
        if self.retired or self.held_back:
            return 0
        return self.prepared.function.provisioned_concurrency - self._present - self.starting

    @property
    def _present(self) -> int:
        """Without those that are ending: that may take half a second."""
        return sum(1 for environment in self.environments if not environment.ended)

    # --- the first request of all ----------------------------------------------------------------------------------

    def hand_over(self) -> Request | None:
        """For the environment that is being started, where no other could have it sooner."""
        if not self.waiting or self.environments or self.starting > 1:
            return None
        if self.waiting[0].invocation.size > _MOST_AHEAD:
            return None
        self.ahead += 1
        return self.waiting.popleft()

    def handed_over(self, unbegun: Request | None) -> None:
        """It has begun with it, or gives it back."""
        self.ahead -= 1
        if unbegun is not None:
            self.waiting.appendleft(unbegun)

    # --- what happens to environments ------------------------------------------------------------------------------

    def ready(self, environment: Environment) -> None:
        self.failures = 0
        self._failure = None
        self._was_ready = True
        if environment.ended:  # it died in the same moment
            return
        self.environments.add(environment)
        if not environment.full:
            self.freed(environment)

    def failed(self, environment: Environment, failure: Failure) -> None:
        """An init failed, and with it the requests that waited for it. Where no init has ever worked that is all of
        them: the next ones would fail alike, one slow init after the other."""
        self.failures += 1
        self._failure = failure
        count = min(self._capacity, len(self.waiting)) if self._was_ready else len(self.waiting)
        for request in [self.waiting.popleft() for _ in range(count)]:
            environment.refuse(request, failure)

    def refuse_waiting(self, environment: Environment) -> None:
        """While starts are held back whoever would wait for one gets what the latest failed with, at once."""
        assert self._failure is not None
        for request in [self.waiting.popleft() for _ in range(len(self.waiting))]:
            environment.refuse(request, self._failure)

    @property
    def hopeless(self) -> bool:
        """Nobody who waits now is served soon: starts are held back, and nothing is left of earlier ones."""
        return self.held_back and self._failure is not None and not self.environments and not self.starting

    def ending(self, environment: Environment) -> None:
        self._busy.pop(environment, None)
        if environment in self._free:
            self._free.remove(environment)

    def gone(self, environment: Environment, undelivered: list[Request]) -> None:
        self.environments.discard(environment)
        for request in reversed(undelivered):
            request.resent = True
            self.waiting.appendleft(request)
        self._serve_waiting()
        if self.provisioned_wanted() > 0:
            self._host.wants(self)
        self.check_empty()

    def reap(self, now: float, idle_timeout: float) -> float:
        """Ends what has been idle for too long, the longest idle first, down to the provisioned ones, and all whose
        credentials expire soon, as they get done. When the next one is due, on the same clock."""
        for environment in [each for each in self.environments if each.good_until <= now and not each.ended]:
            environment.stale = True
            if environment in self._free:
                self._free.remove(environment)
                self.freed(environment)
        spare = self._present - self.prepared.function.provisioned_concurrency
        due = min((each.good_until for each in self.environments if not each.stale), default=NEVER)
        for environment in self.idle_environments()[: max(spare, 0)]:
            if environment.idle_since + idle_timeout <= now:
                environment.end()
            else:
                due = min(due, environment.idle_since + idle_timeout)
                break
        return due

    def idle_environments(self) -> list[Environment]:
        """The longest idle first."""
        return sorted((item for item in self._free if not item.requests), key=lambda item: item.idle_since)

    @property
    def to_spare(self) -> Environment | None:
        """The one that it would miss least: the longest idle, and none that is provisioned."""
        if self._present <= self.prepared.function.provisioned_concurrency:
            return None
        return next(iter(self.idle_environments()), None)

    def retire(self) -> None:
        """Idle environments go now, busy ones when they are done."""
        self.retired = True
        for environment in list(self._free):
            if not environment.requests:
                environment.end()
        self._free.clear()
        self.check_empty()

    def check_empty(self) -> None:
        if self.retired and not self.environments and not self.waiting and not self.starting:
            self._host.empty(self)

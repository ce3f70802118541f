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
from eventfn.workers.environment import NEVER, Environment, Request
from eventfn.workers.failures import Failure
from eventfn.workers.launching import Scripts
from eventfn.workers.snapshots import Snapshot

# A function that answers within this computes; a slower one mostly waits, and costs no cache. Not less, since what is
# measured here has turns of the loop in it, which take milliseconds under hundreds of connections.
_QUICK_MS = 5.0
# Seconds between two looks at whether anything is answered. Nothing twice in a row: those who are busy wait for
# something, and the cores are free for others. Once may be a long turn of the loop with the answers behind it.
_LOOK = 0.001
_MOST_AHEAD = 16_384  # bytes of a request that goes with the settings: small beside what the channel holds
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
        self._capacity: int = prepared.function.concurrency_per_environment
        self._was_ready = False
        self._loop = asyncio.get_running_loop()
        self._answers = 0
        self._typical_ms = float("inf")
        self._stalled = False  # nothing was answered for a while, and still is not
        self._look: asyncio.TimerHandle | None = None

    # --- the hot path ----------------------------------------------------------------------------------------------

    def take(self, request: Request) -> None:
        free = self._free
        if free and not self.waiting and (len(self.environments) - len(free) < _CORES or self._may_run()):
            self._run(free[-1], request)
            return
        self.waiting.append(request)
        self._serve_waiting()

    def freed(self, environment: Environment) -> None:
        """It can take one more."""
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
        # The least of late, and not the mean: on a busy machine an answer may take any time, and a few are still quick.
        typical_ms, milliseconds = self._typical_ms * 1.03 + 0.01, outcome.duration_ms
        self._typical_ms = milliseconds if milliseconds < typical_ms else typical_ms
        self._stalled = False
        if self.waiting and self._look is None:  # it may be quick only now, and those who wait are looked after
            self._serve_waiting()
        self._host.finished(request, outcome)

    def _run(self, environment: Environment, request: Request) -> None:
        environment.run(request)
        if environment.full:
            self._free.pop()

    @property
    def _quick(self) -> bool:
        return self._typical_ms <= _QUICK_MS and self._capacity == 1

    def _may_run(self) -> bool:
        """Whether one more environment may be busy now."""
        busy = len(self.environments) - len(self._free)
        return not self._quick or busy < _CORES or self._stalled or self.retired

    def _serve_waiting(self) -> None:
        while self.waiting and self._free and self._may_run():
            self._run(self._free[-1], self.waiting.popleft())
        if not self.waiting:
            return
        if self._may_run():
            self._host.wants(self)
        if self._quick and self._look is None:
            self._look = self._loop.call_later(_LOOK, self._look_for_stall, self._answers, False)

    def _look_for_stall(self, answers: int, again: bool) -> None:
        self._look = None
        if self._answers == answers and not again:
            self._look = self._loop.call_later(_LOOK, self._look_for_stall, answers, True)
            return
        self._stalled = self._answers == answers
        self._serve_waiting()

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
        invocation = self.waiting[0].invocation
        if len(invocation.payload) + (0 if invocation.apart is None else len(invocation.apart.body)) > _MOST_AHEAD:
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

"""The pool: every function's environments, the zygotes that they come from, and how many start at once.

An invocation takes the function's most recently used free environment, or waits for one to be free or started. What
starts is bounded to twice the cores, in turn between functions, so that one function's thousand cold starts do not
keep another's first waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from eventfn.clock import Clock
from eventfn.errors import ConnectorError
from eventfn.event import Invocation, Outcome, OutcomeKind, ResponseStream
from eventfn.functions import model
from eventfn.sandbox import privileges
from eventfn.sandbox.probe import Sandbox
from eventfn.workers import failures, pressure
from eventfn.workers.contract import Done, LogSink, PoolStats, Prepared, Surroundings
from eventfn.workers.environment import Environment, InitFailed, NotStarted
from eventfn.workers.external import External
from eventfn.workers.fleet import Fleet
from eventfn.workers.launching import Launch
from eventfn.workers.names import Names
from eventfn.workers.relay import OwnApi
from eventfn.workers.request import NEVER, Request
from eventfn.workers.sandboxes import Sandboxes
from eventfn.workers.snapshots import Snapshot, SnapshotDied
from eventfn.workers.zygote import ZygoteDied

_log = logging.getLogger(__name__)

_SLOT_SECONDS = (
    1.0  # a start gives its turn on after this: by then it waits for something, mostly, and does not compute
)
_ATTEMPTS = 3  # for one start, when zygotes die over it
_INIT_OF_A_SNAPSHOT = 130.0  # seconds, or the function's timeout: Lambda's
_TOLERATED = 3  # inits that fail one after the other, before starts are held back
_BEFORE_EXPIRY = 180.0  # seconds, and the function's timeout: the longest that an environment goes on after a look
_LOOK = 60.0  # seconds between two looks at what has to end, at most
_BACK_OFF = (1.0, 60.0)  # seconds that they are: first, most


class WorkerPool:
    """Implements workers.contract.Pool."""

    def __init__(
        self,
        settings: model.Workers,
        clock: Clock,
        logs: LogSink,
        available: Callable[[], float] = pressure.available,
        surroundings: Surroundings | None = None,
        own_api: OwnApi | None = None,
    ) -> None:
        """`surroundings`: None tells functions nothing of AWS. `own_api`: None, if there is none that they reach."""
        self._settings = settings
        self._sandbox: Sandbox
        self._sandboxes: Sandboxes
        self._names: Names
        self._clock = clock
        self._logs = logs
        self._available = available
        self._surroundings = surroundings
        self._own_api = own_api
        self._fleets: dict[str, Fleet] = {}
        self._retired: set[Fleet] = set()
        self._environments: set[Environment] = set()  # every one that has a process
        self._wanting: deque[Fleet] = deque()
        self._slots = 2 * (os.cpu_count() or 1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._quiet = asyncio.Event()
        self._closed = False

    async def start(self, sandbox: Sandbox) -> None:
        """`sandbox`: what this machine keeps functions in with."""
        # This process holds every function's variables, and functions run as its user: none may open its memory.
        privileges.hide_memory()
        self._sandbox = sandbox
        self._sandboxes = Sandboxes(sandbox, self._clock)
        self._names = Names(self._clock)
        self._own(self._reap())

    # --- what is deployed ------------------------------------------------------------------------------------------

    def deploy(self, prepared: Prepared) -> None:
        old = self._fleets.get(prepared.key)
        if old is not None and old.prepared == prepared:
            return
        new = self._fleets[prepared.key] = Fleet(prepared, self)
        if old is not None:
            new.waiting, old.waiting = old.waiting, new.waiting  # nobody's request is lost between two versions
            self._retire(old)
        self._own(self._warm(new))
        self.wants(new)

    def retire(self, key: str) -> None:
        fleet = self._fleets.pop(key, None)
        if fleet is not None:
            self._retire(fleet)

    def _retire(self, fleet: Fleet) -> None:
        self._retired.add(fleet)
        fleet.retire()

    def empty(self, fleet: Fleet) -> None:
        self._retired.discard(fleet)
        if (snapshot := fleet.taken_snapshot) is not None:
            snapshot.end()

    # --- the hot path ----------------------------------------------------------------------------------------------

    def invoke(
        self, invocation: Invocation, done: Done, *, log_tail: bool = False, stream: ResponseStream | None = None
    ) -> None:
        fleet = self._fleets.get(invocation.function)
        request = Request(invocation, done, bytearray() if log_tail else None, stream)
        self._in_flight += 1
        if fleet is None or self._closed:
            why = "the workers are closed" if self._closed else f"Function not found: {invocation.function}"
            self._refuse(request, why)
            return
        fleet.take(request)

    def finished(self, request: Request, outcome: Outcome) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._quiet.set()
        try:
            request.done(outcome)
        except Exception:  # the caller's fault, which must not break the environment that others share, nor `close`
            _log.exception("the outcome of %s could not be taken", request.invocation.request_id)

    def _refuse(self, request: Request, why: str) -> None:
        self.finished(request, Outcome(OutcomeKind.SYSTEM_ERROR, b"", request.invocation.request_id, None, why))

    @property
    def sandbox(self) -> Sandbox:
        """What functions are kept in with. Known once started."""
        return self._sandbox

    def stats(self, key: str) -> PoolStats:
        fleets = [fleet for fleet in (self._fleets.get(key), *self._retired) if fleet is not None and fleet.key == key]
        return PoolStats(
            environments=sum(len(fleet.environments) for fleet in fleets),
            idle=sum(fleet.idle for fleet in fleets),
            starting=sum(fleet.starting for fleet in fleets),
            in_flight=sum(fleet.in_flight for fleet in fleets),
            waiting=sum(fleet.waits for fleet in fleets),
            failing=any(fleet.hopeless for fleet in fleets),
        )

    # --- starting environments -------------------------------------------------------------------------------------

    def wants(self, fleet: Fleet) -> None:
        if fleet.hopeless:
            nowhere = self._new(fleet)
            fleet.refuse_waiting(nowhere)
            nowhere.kill()
            return
        if fleet not in self._wanting:
            self._wanting.append(fleet)
        self._start_some()

    def _start_some(self) -> None:
        while self._slots and self._wanting and not self._closed:
            fleet = self._wanting.popleft()
            wanted = fleet.wanted()
            if wanted <= 0:
                continue
            provisioned = fleet.provisioned_wanted() > 0
            self._slots -= 1
            fleet.starting += 1
            self._own(self._start(fleet, provisioned))
            if wanted > 1:
                self._wanting.append(fleet)  # behind the others

    def slot_free(self) -> None:
        self._slots += 1
        self._start_some()

    def _make_room(self) -> None:
        """One more environment is about to be started: where memory or descriptors are short, the two
        that were idle longest go."""
        if self._available() >= pressure.SHORT:
            return
        for _ in range(2):
            spare = [idle for fleet in self._fleets.values() if (idle := fleet.to_spare) is not None]
            if spare:
                min(spare, key=lambda environment: environment.idle_since).end()

    async def _start(self, fleet: Fleet, provisioned: bool) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(self._make_room)  # as soon as this start waits for somebody else
        slot = _Slot(self)
        timer = loop.call_later(_SLOT_SECONDS, slot.give_back)
        try:
            environment = await self._started(fleet, provisioned)
        finally:
            timer.cancel()
            fleet.starting -= 1
            slot.give_back()
        if environment is not None:
            fleet.ready(environment)
        self.wants(fleet)
        fleet.check_empty()

    async def _started(self, fleet: Fleet, provisioned: bool) -> Environment | None:
        """A ready environment; None when there is none and whoever waited for it knows."""
        why = ""
        timeout, phase = float(self._settings.init_timeout), "init"
        for _ in range(_ATTEMPTS):
            environment = self._new(fleet, provisioned=provisioned)
            try:
                prepared, environment.good_until = await self._told(fleet.prepared)
                restored = prepared.function.snap_start
                if restored:
                    snapshot = await self._snapshot(fleet)
                    launch: Launch = functools.partial(snapshot.copy, prepared=prepared)
                else:
                    launch = await self._sandboxes.launch(prepared, fleet.scripts, provisioned=provisioned)
                forked = not (prepared.is_program or prepared.speaks_runtime_api)
                first = fleet.hand_over() if forked and not provisioned else None
                try:
                    await environment.start(launch, timeout, phase, restored=restored, first=first)
                finally:
                    if first is not None:
                        fleet.handed_over(environment.unbegun())
            except InitFailed as error:
                function = fleet.prepared.function
                allowed = 0.0 if provisioned or function.snap_start else float(function.timeout)
                if error.failure.error_type == failures.TIMED_OUT and allowed > timeout:
                    timeout, phase = allowed, "invoke"  # a slow init is run again within the invocation, as in Lambda
                    continue
                fleet.failed(environment, error.failure)
                environment.kill()
                self._hold_back(fleet)
                return None
            except (ZygoteDied, SnapshotDied) as error:
                environment.kill()
                why = str(error)
            except (NotStarted, OSError, ConnectorError) as error:
                environment.kill()
                why = str(error)
                break
            except Exception as error:  # ours: said once, to those who wait, and not tried again without end
                _log.exception("eventfn bug: starting an environment of %s", fleet.key)
                environment.kill()
                why = f"EventfnBug: {error!r}"
                break
            else:
                environment.look_after()
                return environment
        # Nothing ran, and it is not the function's fault.
        fleet.failures += 1
        for request in [fleet.waiting.popleft() for _ in range(len(fleet.waiting))]:
            self._refuse(request, f"no environment could be started: {why}")
        self._hold_back(fleet)
        return None

    async def _snapshot(self, fleet: Fleet) -> Snapshot:
        """The one that this function's environments are copies of; one start for all who wait. Raises InitFailed,
        NotStarted, ZygoteDied, OSError, ConnectorError."""
        task = fleet.snapshot
        if task is None or (task.done() and (fleet.taken_snapshot is None or fleet.taken_snapshot.dead)):
            task = fleet.snapshot = asyncio.create_task(self._take_snapshot(fleet))
        return await asyncio.shield(task)

    async def _take_snapshot(self, fleet: Fleet) -> Snapshot:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                prepared, _ = await self._told(fleet.prepared)
                launch = await self._sandboxes.launch(prepared, fleet.scripts, control=theirs)
                original = self._new(fleet)
                timeout = max(_INIT_OF_A_SNAPSHOT, float(fleet.prepared.function.timeout))
                await original.start(launch, timeout)
        except BaseException:
            ours.close()
            raise
        snapshot = Snapshot(fleet.prepared, original, ours)
        if fleet.retired and not fleet.environments:
            original.end()
        return snapshot

    async def _warm(self, fleet: Fleet) -> None:
        await self._sandboxes.warm(self._networked(fleet.prepared), fleet.scripts)
        if fleet.prepared.function.snap_start and not fleet.retired:
            # As soon as it is published, as in Lambda. Whoever invokes it takes another one if this fails, and is told.
            with contextlib.suppress(InitFailed, NotStarted, ZygoteDied, OSError, ConnectorError):
                await self._snapshot(fleet)

    async def _told(self, prepared: Prepared) -> tuple[Prepared, float]:
        """With what an environment that is started now is told besides, and until when it is good for a request, on the
        pool's clock. Raises ConnectorError."""
        if self._surroundings is None:
            return prepared, NEVER
        function = prepared.function
        told, expires = await self._surroundings.told(function, prepared.runtime)
        left = expires - self._clock.now_ms() / 1000 - float(function.timeout) - _BEFORE_EXPIRY
        return msgspec.structs.replace(self._networked(prepared), told=told), self._clock.monotonic() + left

    def _networked(self, prepared: Prepared) -> Prepared:
        """With the network that it reaches."""
        function = prepared.function
        network = function.network if self._surroundings is None else self._surroundings.network(function)
        if network == function.network:
            return prepared
        return msgspec.structs.replace(prepared, function=msgspec.structs.replace(function, network=network))

    def _new(self, fleet: Fleet, *, provisioned: bool = False) -> Environment:
        kind = External if fleet.prepared.speaks_runtime_api else Environment
        environment = kind(
            fleet.prepared, fleet, self._clock, self._logs, self._names, self._own_api, provisioned=provisioned
        )
        self._environments.add(environment)
        environment.gone.add_done_callback(lambda _: self._environments.discard(environment))
        return environment

    def _hold_back(self, fleet: Fleet) -> None:
        """Only time keeps a crashing init from spinning: at once where nobody waits for the environments, which are
        provisioned, and after some failures in a row where somebody does."""
        tolerated = 1 if fleet.prepared.function.provisioned_concurrency else _TOLERATED
        if fleet.held_back or fleet.failures < tolerated:
            return
        fleet.held_back = True
        first, most = _BACK_OFF
        self._own(self._let_go(fleet, min(first * 2 ** min(fleet.failures - tolerated, 10), most)))

    async def _let_go(self, fleet: Fleet, seconds: float) -> None:
        await self._clock.sleep(seconds)
        fleet.held_back = False
        self.wants(fleet)

    # --- ending ----------------------------------------------------------------------------------------------------

    async def _reap(self) -> None:
        while True:
            now, wait = self._clock.monotonic(), min(float(self._settings.idle_timeout), _LOOK)
            for fleet in (*self._fleets.values(), *self._retired):
                wait = min(wait, fleet.reap(now, self._settings.idle_timeout) - now)
            await self._clock.sleep(max(wait, 0.001))

    async def drain(self, deadline: float) -> None:
        self._quiet.clear()
        if not self._in_flight:
            return
        quiet = asyncio.create_task(self._quiet.wait())
        late = asyncio.create_task(self._clock.sleep(deadline))
        try:
            await asyncio.wait((quiet, late), return_when=asyncio.FIRST_COMPLETED)
        finally:
            quiet.cancel()
            late.cancel()
            await asyncio.gather(quiet, late, return_exceptions=True)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        snapshots = [fleet.snapshot for fleet in (*self._fleets.values(), *self._retired) if fleet.snapshot is not None]
        tasks: list[asyncio.Task[Any]] = [*self._tasks, *(task for task in snapshots if not task.done())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        originals = [taken for fleet in (*self._fleets.values(), *self._retired) if (taken := fleet.taken_snapshot)]
        environments = self._environments - {snapshot.original for snapshot in originals}
        for environment in environments:
            running = environment.abandon()
            for request in running:
                self._refuse(request, "the workers were closed while it ran")
            if running:
                environment.kill()
            else:
                environment.end()
        for fleet in (*self._fleets.values(), *self._retired):
            while fleet.waiting:
                self._refuse(fleet.waiting.popleft(), "the workers were closed before it ran")
        await asyncio.gather(*(environment.gone for environment in environments))
        for snapshot in originals:  # last, since their copies go with them
            snapshot.end()
        await asyncio.gather(*(snapshot.original.gone for snapshot in originals))
        self._names.close()
        await self._sandboxes.close()

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Slot:
    """The right to start an environment, given back once."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool: WorkerPool | None = pool

    def give_back(self) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.slot_free()

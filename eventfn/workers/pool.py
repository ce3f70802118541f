"""The pool: every function's environments, the zygotes that they come from, and how many start at once.

An invocation takes the function's most recently used free environment, or waits for one to be free or started. What
starts is bounded to twice the cores, in turn between functions, so that one function's thousand cold starts do not
keep another's first waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections import deque
from collections.abc import Coroutine
from typing import Any, NamedTuple

from eventfn.clock import Clock
from eventfn.event import Invocation, Outcome, OutcomeKind
from eventfn.functions import model
from eventfn.sandbox import allow_list, privileges
from eventfn.sandbox.probe import Sandbox
from eventfn.workers.blanks import Blank, Blanks
from eventfn.workers.contract import Done, LogSink, PoolStats, Prepared
from eventfn.workers.environment import Environment, InitFailed, NotStarted, Request
from eventfn.workers.fleet import Fleet
from eventfn.workers.names import Names
from eventfn.workers.owners import Owners
from eventfn.workers.runtimes import python
from eventfn.workers.zygote import Kind, Tree, Zygote, ZygoteDied

_log = logging.getLogger(__name__)

_SLOT_SECONDS = (
    1.0  # a start gives its turn on after this: by then it waits for something, mostly, and does not compute
)
_ZYGOTE_ATTEMPTS = 3  # for one start
_BACK_OFF = (1.0, 60.0)  # seconds between provisioned starts that fail: first, most


class Source(NamedTuple):
    """Where the environments of one interpreter come from."""

    zygote: Zygote
    blanks: Blanks


class WorkerPool:
    """Implements workers.contract.Pool."""

    def __init__(self, settings: model.Workers, clock: Clock, logs: LogSink) -> None:
        self._settings = settings
        self._sandbox: Sandbox
        self._names: Names
        self._owners = Owners()
        self._clock = clock
        self._logs = logs
        self._fleets: dict[str, Fleet] = {}
        self._retired: set[Fleet] = set()
        self._environments: set[Environment] = set()  # every one that has a process
        self._sources: dict[str, asyncio.Task[Source]] = {}
        self._blanks: list[Blanks] = []
        self._started_zygotes: list[Zygote] = []  # dead ones too, while a clone of theirs may be left
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
        self._names = Names(self._clock)
        self._own(self._reap())

    # --- what is deployed ------------------------------------------------------------------------------------------

    def deploy(self, prepared: Prepared) -> None:
        name = prepared.function.name
        old = self._fleets.get(name)
        if old is not None and old.prepared == prepared:
            return
        new = self._fleets[name] = Fleet(prepared, self)
        if old is not None:
            new.waiting, old.waiting = old.waiting, new.waiting  # nobody's request is lost between two versions
            self._retire(old)
        self._own(self._warm(prepared.interpreter))
        self.wants(new)

    def retire(self, name: str) -> None:
        fleet = self._fleets.pop(name, None)
        if fleet is not None:
            self._retire(fleet)

    def _retire(self, fleet: Fleet) -> None:
        self._retired.add(fleet)
        fleet.retire()

    def empty(self, fleet: Fleet) -> None:
        self._retired.discard(fleet)

    # --- the hot path ----------------------------------------------------------------------------------------------

    def invoke(self, invocation: Invocation, done: Done, *, log_tail: bool = False) -> None:
        fleet = self._fleets.get(invocation.function)
        request = Request(invocation, done, bytearray() if log_tail else None)
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

    def stats(self, name: str) -> PoolStats:
        fleets = [
            fleet for fleet in (self._fleets.get(name), *self._retired) if fleet is not None and fleet.name == name
        ]
        return PoolStats(
            environments=sum(len(fleet.environments) for fleet in fleets),
            idle=sum(fleet.idle for fleet in fleets),
            starting=sum(fleet.starting for fleet in fleets),
            in_flight=sum(fleet.in_flight for fleet in fleets),
            waiting=sum(len(fleet.waiting) for fleet in fleets),
        )

    # --- starting environments -------------------------------------------------------------------------------------

    def wants(self, fleet: Fleet) -> None:
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

    async def _start(self, fleet: Fleet, provisioned: bool) -> None:
        slot = _Slot(self)
        timer = asyncio.get_running_loop().call_later(_SLOT_SECONDS, slot.give_back)
        try:
            environment = await self._started(fleet, provisioned)
        finally:
            timer.cancel()
            fleet.starting -= 1
            slot.give_back()
        if environment is not None:
            fleet.ready(environment)
        if fleet.wanted() > 0:
            self.wants(fleet)
        fleet.check_empty()

    async def _started(self, fleet: Fleet, provisioned: bool) -> Environment | None:
        """A ready environment; None when there is none and whoever waited for it knows."""
        why = ""
        for _ in range(_ZYGOTE_ATTEMPTS):
            try:
                blank, trees = await self._place(fleet.prepared)
            except ZygoteDied as error:
                why = str(error)
                continue
            except OSError as error:
                why = str(error)
                break
            environment = self._new(fleet, provisioned)
            try:
                await environment.start(blank, trees, self._sandbox.tier, self._settings.init_timeout)
            except InitFailed as error:
                fleet.failed(environment, error.failure)
                self._hold_back(fleet)
                return None
            except (NotStarted, OSError) as error:
                why = str(error)
                break
            except Exception as error:  # ours: said once, to those who wait, and not tried again without end
                _log.exception("eventfn bug: starting an environment of %s", fleet.name)
                why = f"EventfnBug: {error!r}"
                break
            else:
                return environment
        # Nothing ran, and it is not the function's fault.
        fleet.failures += 1
        for request in [fleet.waiting.popleft() for _ in range(len(fleet.waiting))]:
            self._refuse(request, f"no environment could be started: {why}")
        self._hold_back(fleet)
        return None

    async def _place(self, prepared: Prepared) -> tuple[Blank, list[int]]:
        """A sandbox that stands, and what is to be mounted in it. Raises ZygoteDied, OSError."""
        network = prepared.function.network
        if (why := allow_list.unenforceable(network, self._sandbox.tier)) is not None:
            raise OSError(errno.ENOTSUP, why)
        source = await self._source(prepared.interpreter)
        shared = bool(prepared.function.file_system_configs) and os.geteuid() == 0
        trees: list[int] = []
        if self._sandbox.tier == "full":
            trees = await source.zygote.trees([await self._tree(place) for place in python.places(prepared, "full")])
        try:
            return await source.blanks.take(Kind(network == "egress", shared)), trees
        except BaseException:
            for descriptor in trees:
                os.close(descriptor)
            raise

    async def _tree(self, place: python.Place) -> Tree:
        owners = await self._owners.of(place.path) if place.shared and os.geteuid() == 0 else None
        return Tree(place.path, place.read_only, owners)

    def _new(self, fleet: Fleet, provisioned: bool) -> Environment:
        environment = Environment(fleet.prepared, fleet, self._clock, self._logs, self._names, provisioned=provisioned)
        self._environments.add(environment)
        environment.gone.add_done_callback(lambda _: self._environments.discard(environment))
        return environment

    def _hold_back(self, fleet: Fleet) -> None:
        """Nobody waits for a provisioned environment, so only time keeps a crashing init from spinning. The others
        are paced by their callers: each failed init uses up an invocation."""
        if not fleet.held_back and fleet.prepared.function.provisioned_concurrency:
            fleet.held_back = True
            first, most = _BACK_OFF
            self._own(self._let_go(fleet, min(first * 2 ** min(fleet.failures - 1, 10), most)))

    async def _let_go(self, fleet: Fleet, seconds: float) -> None:
        await self._clock.sleep(seconds)
        fleet.held_back = False
        self.wants(fleet)

    # --- where sandboxes come from -----------------------------------------------------------------------------------

    async def _source(self, interpreter: str) -> Source:
        """A living zygote of this interpreter, one start for all who wait. Raises ZygoteDied, OSError."""
        task = self._sources.get(interpreter)
        if task is not None and task.done() and (task.cancelled() or task.exception() or task.result().zygote.dead):
            task = None
        if task is None:
            task = self._sources[interpreter] = asyncio.create_task(self._start_source(interpreter))
        return await asyncio.shield(task)

    async def _start_source(self, interpreter: str) -> Source:
        zygote = Zygote(interpreter, self._sandbox)
        self._started_zygotes = [old for old in self._started_zygotes if not (old.dead and old.reap_strays())]
        self._started_zygotes.append(zygote)
        await zygote.started()
        blanks = Blanks(zygote, self._sandbox, self._clock)
        self._blanks.append(blanks)
        return Source(zygote, blanks)

    async def _warm(self, interpreter: str) -> None:
        with contextlib.suppress(ZygoteDied, OSError):  # whoever needs it tries again, and is told
            await self._source(interpreter)

    # --- ending ----------------------------------------------------------------------------------------------------

    async def _reap(self) -> None:
        while True:
            now, wait = self._clock.monotonic(), float(self._settings.idle_timeout)
            for fleet in (*self._fleets.values(), *self._retired):
                due = fleet.reap(now, self._settings.idle_timeout)
                wait = wait if due is None else min(wait, due - now)
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
        tasks: list[asyncio.Task[Any]] = [*self._tasks, *self._sources.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        environments = list(self._environments)
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
        await asyncio.gather(*(blanks.close() for blanks in self._blanks))
        await self._owners.close()
        self._names.close()
        for zygote in self._started_zygotes:
            zygote.close()

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

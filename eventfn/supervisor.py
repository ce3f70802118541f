"""Start, serve, drain, close: one node from the first line to the last.

          triggers                          bus                              workers
    http ─────────────────invoke──▶ admission ──────────────────▶ pool ──▶ environments
    files, cron ─submit─▶ engine ─▶ dispatcher ─▶ admission ─▶ pool
    queue ─read─▶ intake ─────────────────────────▶ admission ─▶ pool
                          engine ◀── outcomes, records ──▶ deliverer ──▶ destinations

What is started first is closed last: the engine outlives everybody who keeps something in it, the pool outlives the
triggers that feed it. A drain goes from the left to the right of the picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import gc
import logging
import os
import resource
import secrets
import signal
from collections.abc import AsyncGenerator, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from eventfn import config
from eventfn.api.identity import Identities
from eventfn.api.inward import Inward
from eventfn.api.listener import AdminListener, is_loopback
from eventfn.aws.clients import Clients
from eventfn.aws.log_writer import LogWriter
from eventfn.aws.placing import placed_destination
from eventfn.aws.roles import Roles
from eventfn.aws.sessions import Sessions
from eventfn.aws.surroundings import Surroundings
from eventfn.bus.admission import Admission
from eventfn.bus.bus import Bus
from eventfn.bus.destinations import Deliverer
from eventfn.bus.dispatch import Dispatcher
from eventfn.bus.queues import NamedQueues
from eventfn.clock import Clock, SystemClock
from eventfn.destination import Destination, DestinationContext
from eventfn.durable.running import DurableExecutions
from eventfn.engine.sqlite import SqliteEngine
from eventfn.errors import ConfigError, ConnectorError, EventfnError, Problem
from eventfn.function_urls import FunctionUrls
from eventfn.functions import kept, s3_code
from eventfn.functions.control import Control
from eventfn.functions.deployment import Deployments
from eventfn.functions.model import Project, Queue
from eventfn.functions.packages import prepare
from eventfn.functions.registry import Changes, Registry
from eventfn.functions.store import Store
from eventfn.mapping.running import Mappings
from eventfn.node import Node, shown
from eventfn.observe import node_file
from eventfn.observe.logs import LogStore
from eventfn.observe.metrics import Metrics
from eventfn.observe.report import Loaded, Reporter
from eventfn.observe.status import summary
from eventfn.plugins import Plugins, PluginUnusable
from eventfn.sandbox import allow_list
from eventfn.sandbox.probe import Probe, Sandbox, TooWeak
from eventfn.sources import URLS, Sources
from eventfn.workers.contract import Prepared
from eventfn.workers.pool import WorkerPool

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

LAST_WORDS = 5.0  # seconds for what must be written after the drain: handed back events, log lines

log = logging.getLogger("eventfn")


class Options:
    """What the command line says: where the declaration is, what overrides it, whether to watch it."""

    def __init__(self, target: Path, data: Path | None, http: str | None, admin: str | None, *, watch: bool) -> None:
        self.target = target
        self.data = data
        self.http = http
        self.admin = admin
        self.watch = watch

    def load(self, plugins: Plugins) -> Project:
        return config.load(self.target, plugins, data=self.data, http=self.http, admin=self.admin)


async def serve(
    target: Path,
    probing: Probe,
    *,
    data: Path | None,
    http: str | None,
    admin: str | None,
    watch: bool,
    reporter: Reporter,
) -> int:
    """Runs until SIGTERM or SIGINT; the exit code. A second signal ends the process at once.

    Raises DataFolderLocked and DataFolderUnusable, ConnectorError when an address cannot be listened on.
    """
    options = Options(target, data, http, admin, watch=watch)
    try:
        plugins = Plugins.installed()
        project = options.load(plugins)
        await Supervisor(project, plugins, reporter, SystemClock()).serve(options, probing)
    except ConfigError as error:
        reporter.problems(error.problems)
        return 1
    return 0


class Supervisor:
    """Builds the parts, without I/O; `serve` gives them their life."""

    def __init__(self, project: Project, plugins: Plugins, reporter: Reporter, clock: Clock) -> None:
        self._project = project
        self._plugins = plugins
        self._reporter = reporter
        self._clock = clock
        self._queue_facts: dict[str, Queue] = {}
        self._destination_settings: dict[str, Any] = {}
        limits = project.limits
        self._metrics = Metrics()
        self._engine = SqliteEngine(Path(project.data))
        self._logs = LogStore(Path(project.data) / "logs", clock)
        self._registry = Registry()
        self._store = Store(self._engine, clock)
        self._admission = Admission(limits.concurrency)
        self._sessions = Sessions()
        self._clients = Clients(project.aws)
        fetch = functools.partial(s3_code.fetch, self._clients)
        roles = Roles(project.aws, self._sessions, self._clients, clock)
        self._control = Control(
            self._store, self._registry, self._engine, clock, lambda: self._project, fetch, roles=roles
        )
        self._surroundings = Surroundings(project.aws, roles)
        self._log_writer: LogWriter | None = None
        if "logs" in project.aws.endpoints:
            self._log_writer = LogWriter(self._logs, self._clients, self._registry.log_group, self._metrics, clock)
        sink = self._log_writer or self._logs
        self._inward = Inward()
        self._pool = WorkerPool(project.workers, clock, sink, surroundings=self._surroundings, own_api=self._inward)
        self._bus = Bus(self._registry, self._pool, self._engine, self._admission, self._metrics, clock, limits)
        self._queues = NamedQueues(self._engine, self._queue_facts, clock)
        self._dispatcher = Dispatcher(
            self._registry,
            self._pool,
            self._engine,
            self._admission,
            self._metrics,
            clock,
            in_flight_per_function=limits.asynchronous_concurrency,
        )
        self._deployments = Deployments(
            self._store,
            self._registry,
            self._pool,
            self._engine,
            lambda: self._project,
            self._functions_in_force,
            lambda function: allow_list.unenforceable(function.network, self._pool.sandbox.tier),
            self._control.new_id,
        )
        self._deliverer = Deliverer(self._engine, clock, self._metrics, self._open_destination)
        self._sources = Sources(plugins, self._bus, self._queues, self._engine, self._deliverer.outbox, clock, reporter)
        self._durable = DurableExecutions(self._store, self._bus.call, clock)
        self._mappings = Mappings(self._store, self._sources, self._registry, plugins, lambda: self._project, clock)
        self._urls = FunctionUrls(self._control, self._sources, self._identities_of_urls, clock)
        self._node = Node(
            project,
            self._registry,
            self._control,
            self._sessions,
            self._mappings,
            self._durable,
            self._bus,
            self._queues,
            self._deliverer,
            self._sources,
            self._pool,
            self._engine,
            self._logs,
            self._metrics,
            clock,
        )

    async def serve(self, options: Options, probing: Probe) -> None:
        started = self._clock.monotonic()
        stop = _first_signal()
        _allow_many_connections()
        _keep_freed_memory()
        async with contextlib.AsyncExitStack() as closing:
            closing.push_async_callback(self._engine.close)
            await self._engine.open(self._clock.now_ms())
            await self._store.load()
            closing.push_async_callback(self._logs.close)
            self._logs.open()
            closing.push_async_callback(self._clients.close)
            if self._log_writer is not None:
                closing.push_async_callback(self._log_writer.close, LAST_WORDS)
            token = secrets.token_urlsafe(32)
            admin = AdminListener(self._node, self._project.admin.listen, token, self._inward)
            closing.push_async_callback(admin.close)
            # Before anything is deployed: environments are told the address, and whoever connects waits for an answer.
            self._node.admin_address = self._surroundings.api = await admin.bind()
            sandbox = await asyncio.to_thread(probing.sandbox)
            _require(sandbox, self._project)
            self._node.walls = shown(sandbox.walls())
            closing.push_async_callback(self._pool.close)
            await self._pool.start(sandbox)
            if not await _ended_before(stop, self._make_ready()):  # installing takes minutes
                self._reporter.drained(0)
                return
            await asyncio.to_thread(kept.clear, Path(self._project.data), self._clock.now_ms() / 1000)
            self._report_loaded()
            loops = [self._queues.run(), self._dispatcher.run(), self._deliverer.run(), self._deployments.run()]
            if self._log_writer is not None:
                loops.append(self._log_writer.run())
            async with _background(*loops) as tasks:
                closing.push_async_callback(self._sources.close)
                await self._sources.declare(self._project, tasks)
                # What starts and stops sources and invocations by itself; at a drain, which there are must be certain.
                changing = [tasks.create_task(self._mappings.run()), tasks.create_task(self._durable.run())]
                changing.append(tasks.create_task(self._urls.run()))
                self._node.urls = self._urls
                await self._urls.changed()
                closing.push_async_callback(admin.close)  # no request comes in while the sources close
                self._reporter.listening("admin", self._node.admin_address)
                self._announce(token)
                closing.callback(node_file.remove, Path(self._project.data), os.getpid())
                self._reporter.ready((self._clock.monotonic() - started) * 1000)
                tasks.create_task(_serve(admin))
                if options.watch:
                    changing.append(tasks.create_task(self._reload_on_change(options, tasks)))
                await stop.wait()
                for each in changing:
                    each.cancel()
                await asyncio.wait(changing)
                await self._drain()

    def _identities_of_urls(self) -> Identities:
        return Identities(
            secrets.token_urlsafe(32),  # nobody's: who may use the admin listener is not thereby a caller of URLs
            lambda: self._project.aws,
            self._sessions.recognise,
            lambda: self._clock.now_ms() / 1000,
            loopback=is_loopback((self._sources.address(URLS) or "").rpartition(":")[0].strip("[]")),
        )

    def _announce(self, token: str) -> None:
        """Lets the commands find this node."""
        facts = node_file.NodeFile(
            pid=os.getpid(),
            version=self._node.version,
            started_ms=self._clock.now_ms(),
            admin=self._node.admin_address,
            http=self._sources.address("http"),
            token=token,
        )
        node_file.write(Path(self._project.data), facts)

    async def _drain(self) -> None:
        deadline = float(self._project.workers.drain_timeout)
        self._node.draining = True
        self._reporter.draining(self._in_flight())
        # Sources hand back what is not under way; what runs on goes to its end, its outcome is kept by the dispatcher.
        await asyncio.gather(self._sources.drain(deadline), self._dispatcher.drain(deadline))
        self._bus.close()
        unfinished = self._in_flight()
        # The pool ends what is left. That is a fault of ours, so the dispatcher hands those events back, uncounted.
        await self._pool.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self._dispatcher.settled()
        await self._deliverer.drain(LAST_WORDS)
        self._reporter.drained(unfinished)

    def _in_flight(self) -> int:
        keys = [key for name in self._registry.names() for key in self._registry.keys(name)]
        return sum(self._pool.stats(key).in_flight + self._pool.stats(key).waiting for key in keys)

    # --- what is declared --------------------------------------------------------------------------------------------

    async def _make_ready(self) -> None:
        """What the project declares, and what was made through the API before. Raises ConfigError."""
        await self._declare(self._project)
        await self._deployments.load()

    def _functions_in_force(self) -> None:
        self._admission.declare(self._registry.functions())
        self._dispatcher.look_again()

    async def _declare(self, project: Project) -> Changes:
        """Makes the functions of the project those that run. Raises ConfigError before anything has changed."""
        _refuse_what_cannot_be_kept(project, self._pool.sandbox)
        self._deployments.check_names(project)
        prepared = {
            name: await prepare(
                function,
                project,
                functools.partial(self._reporter.preparing, name),
                for_others=os.geteuid() == 0,  # with a tree of its own no function runs as root
            )
            for name, function in project.functions.items()
        }
        self._project = self._node.project = project
        self._queue_facts.clear()
        self._queue_facts.update(project.queues)
        self._destination_settings.clear()
        self._destination_settings.update(project.destinations)
        self._deliverer.declared_anew()
        changes = self._registry.declare(prepared)
        for one in prepared.values():
            self._pool.deploy(one)
        for name in changes.removed:
            self._pool.retire(name)
        self._functions_in_force()
        return changes

    async def _reload_on_change(self, options: Options, tasks: asyncio.TaskGroup) -> None:
        """Until cancelled. A declaration that is wrong changes nothing: what ran before runs on."""
        from eventfn.reload import changes  # a watcher that most nodes go without

        started_with = self._project
        try:
            async with contextlib.aclosing(changes(lambda: self._project)) as looks:
                async for _ in looks:
                    await self._reload(options, started_with, tasks)
        except OSError as error:  # the kernel's limit of watches, mostly
            log.error("changes are not seen any more, until the next start: %s", error)

    async def _reload(self, options: Options, started_with: Project, tasks: asyncio.TaskGroup) -> None:
        try:
            project = _keeping(started_with, await asyncio.to_thread(options.load, self._plugins))
            changed = await self._declare(project)
            await self._sources.declare(project, tasks)
            self._mappings.look_again()
            await self._urls.changed()
        except ConfigError as error:
            self._reporter.problems(error.problems)
        except EventfnError as error:
            log.error("the new declaration is not, or only half, in force: %s", error)
        except Exception:  # a connector's, mostly: what runs does not go down over it
            log.exception("the new declaration is not, or only half, in force")
        else:
            if changed.added or changed.changed or changed.removed:
                self._reporter.reloaded(changed.added, changed.changed, changed.removed)

    def _open_destination(self, uri: str) -> Destination:
        scheme, _, target = uri.partition(":")
        try:
            plugin: Any = self._plugins.destination(scheme)
        except PluginUnusable as unusable:
            raise ConnectorError(unusable.message) from unusable
        declared = self._destination_settings.get(scheme)
        settings = placed_destination(uri, plugin.Settings() if declared is None else declared, self._project.aws)
        context = DestinationContext(
            folder=self._project.folder,
            clock=self._clock,
            log=logging.getLogger(f"eventfn.{scheme}"),
            queues=self._queues,
            submit=self._submit,
            functions=self._registry.names,
        )
        destination: Destination = plugin(target, settings, context)
        return destination

    async def _submit(self, function: str, payload: bytes, dedupe_key: str) -> str:
        return await self._bus.submit(function, payload, dedupe_key=dedupe_key)

    def _report_loaded(self) -> None:
        self._reporter.loaded(
            self._project.folder, self._project.data, [_loaded(target.prepared) for target in self._registry.latest()]
        )
        self._reporter.enforcement(self._node.walls)


async def _serve(admin: AdminListener) -> None:
    await admin.serve()
    # The start is over, and what it made stays: a full collection that went through it would stop the loop for 20 ms.
    gc.freeze()


def _require(sandbox: Sandbox, project: Project) -> None:
    """Raises ConfigError: with less around functions than the operator has asked for, nothing starts."""
    try:
        sandbox.require(project.workers.sandbox)
    except TooWeak as weak:
        problem = Problem(project.file or project.folder, None, "workers.sandbox", str(weak))
        raise ConfigError([problem]) from weak


def _keeping(started_with: Project, project: Project) -> Project:
    """The new declaration with those sections of the old one that a node cannot change while it runs."""
    for section in ("admin", "aws", "data", "limits", "workers"):
        if getattr(project, section) != getattr(started_with, section):
            log.warning("[%s] has changed: that takes effect at the next start", section)
    return msgspec.structs.replace(
        project,
        admin=started_with.admin,
        aws=started_with.aws,
        data=started_with.data,
        limits=started_with.limits,
        workers=started_with.workers,
    )


def _refuse_what_cannot_be_kept(project: Project, sandbox: Sandbox) -> None:
    """Raises ConfigError for a function whose network policy this machine cannot enforce."""
    problems = [
        Problem(function.where.file, function.where.line, f"functions.{function.name}.network", why)
        for function in project.functions.values()
        if (why := allow_list.unenforceable(function.network, sandbox.tier)) is not None
    ]
    problems += [
        Problem(
            function.where.file,
            function.where.line,
            f"functions.{function.name}.file_system_configs",
            f"local_mount_path takes a tree of files of one's own, and this machine has none: {sandbox.reason}",
        )
        for function in project.functions.values()
        if sandbox.tier != "full" and any(each.local_mount_path for each in function.file_system_configs)
    ]
    if problems:
        raise ConfigError(problems)


def _loaded(prepared: Prepared) -> Loaded:
    function = prepared.function
    triggers = tuple((binding.type, summary(binding.settings)) for binding in function.triggers)
    return Loaded(function.name, function.handler, prepared.shown_runtime, triggers)


def _first_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT. The second one ends the process there and then: what was accepted is on disk,
    and environments die with their parent."""
    stop = asyncio.Event()

    def received() -> None:
        if stop.is_set():
            os._exit(128 + signal.SIGTERM)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, received)
    return stop


async def _ended_before(stop: asyncio.Event, work: Coroutine[Any, Any, object]) -> bool:
    """Whether the work came to its end; it is cancelled when `stop` is set first."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        await working  # an error of it is ours
        return True
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.wait({working, stopping})


def _keep_freed_memory() -> None:
    """Memory of large bodies is used again for the next ones. glibc would give it back and fetch it anew, page by page,
    for a third of such a request's cost."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 8 << 20)
        mallopt(_M_TRIM_THRESHOLD, 32 << 20)


def _allow_many_connections() -> None:
    """A shell's usual 1024 descriptors are fewer than the connections and environments that a node is made for."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.asynccontextmanager
async def _background(*loops: Coroutine[Any, Any, None]) -> AsyncGenerator[asyncio.TaskGroup]:
    """Runs what runs until it is cancelled, and cancels it at the end. One that fails takes the node down, loudly;
    an error of ours in the body comes out as it is, not wrapped in a group."""
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(loop) for loop in loops]
            yield tasks
            for task in running:
                task.cancel()
    except BaseExceptionGroup as group:
        ours, bugs = group.split(EventfnError)
        if ours is None or bugs is not None:
            raise
        first = ours.exceptions[0]
        raise first from first.__cause__

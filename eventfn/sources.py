"""The triggers of a running node: one host for each pulled source, one listener for each connector that listens.

What belongs here: which of them run, now and after a reload or a change through the API. How a pulled source is worked
off: bus/intake.py, bus/stream.py and bus/announce.py; what a request is: the connector.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from eventfn.bus import names, switches
from eventfn.bus.alone import Alone, Host
from eventfn.bus.announce import Announcer
from eventfn.bus.bus import Bus
from eventfn.bus.intake import Intake
from eventfn.bus.outbox import Outbox
from eventfn.bus.positions import EnginePositions
from eventfn.bus.queues import NamedQueues
from eventfn.bus.stream import HostAssignments, StreamIntake
from eventfn.bus.waiting import within
from eventfn.clock import Clock
from eventfn.engine.contract import Engine, Put, Send
from eventfn.errors import ConnectorError, EventfnError, Refused
from eventfn.event import Apart, Outcome, Record, ResponseStream
from eventfn.functions.model import Function, Project, TriggerBinding
from eventfn.observe.report import Reporter
from eventfn.observe.status import HeldUp, Records, SourceStatus, summary
from eventfn.plugins import Plugins, is_stream
from eventfn.trigger import (
    AnswersUrls,
    Caller,
    Extends,
    FunctionUrl,
    ListenContext,
    Listener,
    Mounted,
    TriggerContext,
)
from eventfn.units import recognisable

URLS = "http"  # the connector that answers function URLs
FIRST_TRY = 1.0  # seconds that a start waits for sources to connect
GRACE = 5.0  # seconds that a listener has beyond its deadline, and to close
DELIVERED_ONCE_MS = 24 * 3_600_000  # a record that a listener hands over again within a day is the same
PROBE_PATIENCE = 10.0  # seconds that a source has to answer when a mapping to it is made
LAG_PATIENCE = 1.0  # seconds that a source has to say how far behind it is

log = logging.getLogger("eventfn.sources")


class Bound(msgspec.Struct, frozen=True):
    """A trigger and what it feeds. `function` has the name by which the bus finds it: "jobs", or "jobs:live"."""

    function: Function
    arn: str
    binding: TriggerBinding


class Sources:
    """`declare` starts and stops what a declaration changes, in the task group it was given, and `map` what the API
    changes; `drain` ends all."""

    def __init__(
        self,
        plugins: Plugins,
        bus: Bus,
        queues: NamedQueues,
        engine: Engine,
        outbox: Outbox,
        clock: Clock,
        reporter: Reporter,
    ) -> None:
        self._plugins = plugins
        self._bus = bus
        self._queues = queues
        self._engine = engine
        self._outbox = outbox
        self._clock = clock
        self._reporter = reporter
        self._owner = str(uuid.uuid4())  # of leases: this node, for as long as it runs
        self._hosts: dict[str, _Host] = {}
        self._listeners: dict[str, _Listening] = {}
        self._mapped: dict[str, Bound] = {}  # by source: what was made through the API
        self._urls: Sequence[FunctionUrl] = ()
        self._current: tuple[Project, asyncio.TaskGroup] | None = None
        self._switched: dict[str, bool] | None = None  # by an operator, at run time; None: not read yet
        self._one_at_a_time = asyncio.Lock()  # a reload and an operator

    async def declare(self, project: Project, tasks: asyncio.TaskGroup) -> None:
        """Makes what runs what is declared. Sources that did not change are not touched; one that did is drained
        first, so that no record is in two hands. Raises ConnectorError when an address cannot be listened on."""
        async with self._one_at_a_time:
            if self._switched is None:
                self._switched = await switches.read(self._engine)
            self._current = project, tasks
            await self._declare(project, tasks)

    async def map(self, mapped: Iterable[Bound]) -> None:
        """From now on these are the event source mappings, beside what is declared. Returns once those that are not
        among them any more, or have changed, are drained, and the new ones have had a moment to connect."""
        async with self._one_at_a_time:
            assert self._current is not None, "what is declared comes first"
            self._mapped = {bound.binding.source: bound for bound in mapped}
            await self._declare(*self._current)

    async def serve_urls(self, urls: Sequence[FunctionUrl]) -> None:
        """From now on these are the function URLs: answered when this returns, by a listener that is opened for them if
        there is none yet. Raises ConnectorError when it cannot listen."""
        async with self._one_at_a_time:
            assert self._current is not None, "what is declared comes first"
            self._urls = urls
            await self._listen(self._current[0])

    def caller(self, reference: str, arn: str) -> Caller:
        """A function as a listener sees it, a version or an alias by its qualifier."""
        return _Caller(self._bus, reference, arn)

    async def forget(self, source: str) -> None:
        """What was kept of how far a source is done, once it does not run any more and never will again."""
        for prefix in (f"position/{source}/", f"stream/{source}/"):
            kept = await self._engine.scan(prefix)
            await self._engine.commit([Put(key, None) for key in kept], self._clock.now_ms())

    async def set_enabled(self, source: str, enabled: bool) -> None:
        """Turns a trigger on or off, whatever its declaration says, until it is turned again: also over a restart.
        What it has in hand comes to its end first. Raises Refused when there is no such trigger."""
        async with self._one_at_a_time:
            assert self._current is not None, "the API answers once all is declared"
            assert self._switched is not None
            project, tasks = self._current
            bindings = {binding.source: binding for each in project.functions.values() for binding in each.triggers}
            if source not in bindings:
                raise Refused(f"there is no trigger '{source}'; `eventfn trigger list` names them")
            declared = bindings[source].intake.enabled
            await switches.keep(self._engine, source, None if enabled == declared else enabled, self._clock.now_ms())
            self._switched[source] = enabled
            await self._declare(project, tasks)

    def _enabled(self, binding: TriggerBinding) -> bool:
        return (self._switched or {}).get(binding.source, binding.intake.enabled)

    async def _declare(self, project: Project, tasks: asyncio.TaskGroup) -> None:
        wanted = {
            bound.binding.source: bound
            for bound in (*_declared(project), *self._mapped.values())
            if self._enabled(bound.binding) and self._plugins.trigger(bound.binding.type).traits.invocation != "listen"
        }
        stale = [host for source, host in self._hosts.items() if host.facts != _facts(project, wanted.get(source))]
        await asyncio.gather(*(self._stop(host, project.workers.drain_timeout) for host in stale))
        new = [source for source in wanted if source not in self._hosts]
        for source in new:
            self._start(project, wanted[source], tasks)
        await self._listen(project)
        # What is ready is there: an inbox is made, a server was reached. One that hangs must not hold up the others.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_TRY):
                await asyncio.gather(*(self._hosts[source].worker.tried() for source in new))

    async def drain(self, deadline: float) -> None:
        """Takes nothing new from anywhere, and lets what is under way come to its end."""
        await asyncio.gather(
            *(self._drain_listener(name, deadline) for name in self._listeners),
            *(self._stop(host, deadline) for host in list(self._hosts.values())),
        )

    async def close(self) -> None:
        for name in list(self._listeners):
            await self._close_listener(name)

    def address(self, connector: str) -> str | None:
        """Where a listening connector can be reached; None when it is not declared, or binds no address."""
        listening = self._listeners.get(connector)
        return listening.address if listening else None

    def addresses(self) -> Mapping[str, str]:
        return {name: each.address for name, each in self._listeners.items() if each.address is not None}

    async def status(self, function: Function) -> list[SourceStatus]:
        """Of the triggers that are declared for it, and of the mappings to it or to a version or alias of it."""
        mapped = [bound.binding for bound in self._mapped.values() if _name(bound) == function.name]
        return [await self._status(binding) for binding in (*function.triggers, *mapped)]

    def state(self, source: str) -> tuple[str | None, str]:
        """What a pulled source that runs has failed with last (None: it is as it should be), and what became of its
        last batch (of a stream: Lambda's LastProcessingResult; else "")."""
        host = self._hosts.get(source)
        if host is None:
            return None, ""
        status = host.worker.status
        last_result = status.last_result if isinstance(host.worker, StreamIntake) else ""
        return (None if status.connected else status.last_error), last_result

    async def probe(self, bound: Bound) -> float | None:
        """Reaches for the source once, and takes nothing: the lease, in seconds, on which it gives records (None: it
        gives none). Raises ConnectorError when it is not there."""
        assert self._current is not None, "the API answers once all is declared"
        trigger, _ = self._trigger(self._current[0], bound, logging.getLogger("eventfn.probe"))
        try:
            await within(trigger.connect(), self._clock, PROBE_PATIENCE)
            extends: object = trigger
            return extends.lease if isinstance(extends, Extends) else None
        except TimeoutError as error:
            raise ConnectorError(f"it does not answer within {PROBE_PATIENCE:g} s") from error
        finally:
            await self._guarded(bound.binding.type, trigger.close(GRACE), GRACE)

    # --- pulled sources ----------------------------------------------------------------------------------------------

    def _start(self, project: Project, bound: Bound, tasks: asyncio.TaskGroup) -> None:
        binding = bound.binding
        log = logging.getLogger(f"eventfn.{binding.type}.{bound.function.name}")

        def make() -> Host:
            return self._host(project, bound, log)

        worker: Host | Alone
        if self._plugins.trigger(binding.type).traits.shared:
            worker = make()
        else:
            worker = Alone(make, self._engine, self._clock, source=binding.source, owner=self._owner, log=log)
        task = tasks.create_task(worker.run())
        self._hosts[binding.source] = _Host(binding.source, worker, task, _facts(project, bound))

    def _host(self, project: Project, bound: Bound, log: logging.Logger) -> Host:
        function, binding = bound.function, bound.binding
        trigger, assignments = self._trigger(project, bound, log)
        if trigger.traits.invocation == "event":
            positions = EnginePositions(self._engine, binding.source, self._clock)

            async def submit(record: Record) -> str:
                position = positions.absolute(record.position) if record.position else None
                key = f"{binding.source}/{record.dedupe_key}" if record.dedupe_key is not None else None
                return await self._bus.submit(function.name, record.payload, dedupe_key=key, position=position)

            return Announcer(binding, trigger, submit, positions, self._clock, log=log)
        if is_stream(trigger.traits):
            return StreamIntake(
                function,
                bound.arn,
                binding,
                trigger,
                assignments,
                self._bus.call,
                self._engine,
                self._outbox,
                self._clock,
                owner=self._owner,
                log=log,
            )
        return Intake(function, binding, trigger, self._bus.call, self._clock, log=log, chains=self._bus)

    def _trigger(self, project: Project, bound: Bound, log: logging.Logger) -> tuple[Any, HostAssignments]:
        """The connector's object for it, and through what it tells the host which shards it has."""
        binding = bound.binding
        plugin: Any = self._plugins.trigger(binding.type)
        assignments = HostAssignments()
        context = TriggerContext(
            function=bound.function.name,
            function_arn=bound.arn,
            source=binding.source,
            folder=project.folder,
            data=project.data,
            region=project.aws.region,
            account=project.aws.account,
            clock=self._clock,
            log=log,
            queues=self._queues,
            positions=EnginePositions(self._engine, binding.source, self._clock),
            assignments=assignments,
        )
        try:
            return plugin(binding.settings, _shared(project, binding), context), assignments
        except EventfnError:
            raise
        except Exception as error:
            log.exception("cannot be made: the connector raised what its contract does not allow")
            raise ConnectorError(
                f"{binding.source}: '{binding.type}' cannot make its trigger, which its author must mend: "
                f"{type(error).__name__}: {error}"
            ) from error

    async def _stop(self, host: _Host, deadline: float) -> None:
        await host.worker.drain(deadline)
        host.task.cancel()
        await asyncio.wait({host.task})
        # Not before: if the end of the node cuts off a reload here, the node's drain has to wait for this source.
        self._hosts.pop(host.source, None)

    async def _status(self, binding: TriggerBinding) -> SourceStatus:
        shown = summary(binding.settings)
        host = self._hosts.get(binding.source)
        state: Literal["running", "down", "connecting", "standby", "disabled"]
        if host is None:
            listens = binding.type in self._listeners and self._enabled(binding)
            state = "running" if listens else "disabled"
            return SourceStatus(binding.type, binding.source, shown, state, where=_where(binding))
        status = host.worker.status
        trouble = status.last_error
        state = "running" if status.connected else "down" if trouble else "connecting"
        if state == "connecting" and isinstance(host.worker, Alone) and host.worker.standby:
            state, trouble = "standby", "another node reads it"
        return SourceStatus(
            type=binding.type,
            source=binding.source,
            settings=shown,
            state=state,
            reason=trouble or "",
            lag=await self._lag(host),
            iterator_age_ms=status.iterator_age_ms,
            last_result=status.last_result if isinstance(host.worker, StreamIntake) else None,
            batches_in_flight=status.batches_in_flight,
            held_up=[
                HeldUp(each.shard, each.records, recognisable(each.destination), each.since_ms, each.reason or "")
                for each in status.held_up
            ],
            records=Records(
                status.records_read,
                status.records_filtered,
                status.records_done,
                status.records_retried,
                status.records_rejected,
            ),
            where=_where(binding),
        )

    async def _lag(self, host: _Host) -> int | None:
        # It asks a server of somebody else: one that hangs must not hang the status of all.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAG_PATIENCE):
                return await host.worker.pending()
        return None

    # --- sources where a caller waits --------------------------------------------------------------------------------

    async def _listen(self, project: Project) -> None:
        mounted: dict[str, list[Mounted]] = {
            name: [] for name in project.shared if self._plugins.trigger(name).traits.alone
        }
        if self._urls:
            mounted[URLS] = []
        for function in project.functions.values():
            caller = _Caller(self._bus, function.name, project.function_arn(function.name))
            for binding in function.triggers:
                if self._enabled(binding) and self._plugins.trigger(binding.type).traits.invocation == "listen":
                    mounted.setdefault(binding.type, []).append(Mounted(binding.settings, caller, binding.source))
        for name in [name for name in self._listeners if name not in mounted]:
            await self._stop_listening(name, project.workers.drain_timeout)
        for name, routes in mounted.items():
            plugin: Any = self._plugins.trigger(name)
            shared = project.shared.get(name)
            if shared is None and plugin.Shared is not None:
                shared = plugin.Shared()  # nothing of it is declared: the listener is there for function URLs
            if name in self._listeners and self._listeners[name].shared != shared:
                await self._stop_listening(name, project.workers.drain_timeout)
            if name in self._listeners:
                self._mount(self._listeners[name].listener, routes)
                continue
            log = logging.getLogger(f"eventfn.{name}")
            context = ListenContext(
                folder=project.folder,
                region=project.aws.region,
                account=project.aws.account,
                clock=self._clock,
                log=log,
                queues=self._queues,
                deliver=self._deliver,
            )
            listener: Listener = plugin(shared, context)
            self._mount(listener, routes)
            address = await listener.open()
            self._listeners[name] = _Listening(listener, address, shared)
            if address is not None:
                self._reporter.listening(name, address)

    def _mount(self, listener: Listener, routes: Sequence[Mounted]) -> None:
        listener.mount(routes)
        if isinstance(listener, AnswersUrls):
            listener.mount_urls(self._urls)

    async def _deliver(self, uri: str, record_id: str, payload: bytes, attributes: dict[str, str]) -> None:
        now = self._clock.now_ms()
        # Tried again by its giver, it is in the outbox once: it may be on its way, or have arrived just now.
        send = Send(
            names.OUTBOX + uri,
            record_id,
            payload,
            attributes,
            dedupe_key=record_id,
            dedupe_until_ms=now + DELIVERED_ONCE_MS,
        )
        await self._engine.commit([send], now)

    async def _stop_listening(self, name: str, deadline: float) -> None:
        await self._drain_listener(name, deadline)
        await self._close_listener(name)

    async def _drain_listener(self, name: str, deadline: float) -> None:
        await self._guarded(name, self._listeners[name].listener.drain(deadline), deadline + GRACE)

    async def _close_listener(self, name: str) -> None:
        await self._guarded(name, self._listeners.pop(name).listener.close(), GRACE)

    async def _guarded(self, name: str, ending: Coroutine[Any, Any, None], seconds: float) -> None:
        """A connector that breaks or hangs at its end keeps no other from ending."""
        try:
            await within(ending, self._clock, seconds)
        except Exception:
            log.exception("%s: the connector did not end as its contract demands", name)


class _Caller:
    """Implements trigger.Caller."""

    def __init__(self, bus: Bus, function: str, function_arn: str) -> None:
        self.function = function
        self.function_arn = function_arn
        self._bus = bus

    def invoke(
        self,
        payload: bytes,
        request_id: str,
        done: Callable[[Outcome], None],
        apart: Apart | None = None,
        stream: ResponseStream | None = None,
    ) -> None:
        self._bus.invoke(self.function, payload, done, request_id=request_id, apart=apart, stream=stream)

    def submit(self, payload: bytes, request_id: str, dedupe_key: str | None = None) -> Awaitable[str]:
        return self._bus.submit(self.function, payload, request_id=request_id, dedupe_key=dedupe_key)


class _Host(msgspec.Struct, frozen=True):
    source: str
    worker: Host | Alone
    task: asyncio.Task[None]
    facts: object  # what it was started with: when that changes, it is started anew


class _Listening(msgspec.Struct, frozen=True):
    listener: Listener
    address: str | None
    shared: object


def _declared(project: Project) -> Iterator[Bound]:
    for function in project.functions.values():
        for binding in function.triggers:
            yield Bound(function, project.function_arn(function.name), binding)


def _shared(project: Project, binding: TriggerBinding) -> Any:
    return project.shared.get(binding.type) if binding.shared is None else binding.shared


def _name(bound: Bound) -> str:
    """The function's, without a qualifier."""
    return bound.function.name.partition(":")[0]


def _where(binding: TriggerBinding) -> str:
    where = binding.where
    return where.file if where.line is None else f"{where.file}:{where.line}"


def _facts(project: Project, bound: Bound | None) -> object:
    if bound is None:
        return None
    binding = bound.binding
    # The function's timeout is part of it: the lease of what it works on follows from it.
    whose = bound.function.name, bound.arn, bound.function.timeout
    return binding.settings, binding.intake, _shared(project, binding), whose

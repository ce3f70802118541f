"""A running node as its admin listener sees it (api/ports.py): invoke, submit, the queues, the status document.

What belongs here: turning what the parts know into the shapes of observe/status.py. Starting and stopping them:
supervisor.py.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence

from eventfn.aws.sessions import Session, Sessions
from eventfn.bus import names
from eventfn.bus.bus import Bus
from eventfn.bus.destinations import Deliverer
from eventfn.bus.queues import NamedQueues, Redriven
from eventfn.clock import Clock
from eventfn.durable.running import DurableExecutions
from eventfn.engine.contract import Engine, Message, QueueStats
from eventfn.event import Outcome, ResponseStream
from eventfn.function_urls import FunctionUrls
from eventfn.functions.control import Control
from eventfn.functions.managed import ManagedFunction
from eventfn.functions.mappings import PREFIX
from eventfn.functions.model import Aws, Function, Project
from eventfn.functions.registry import Registry
from eventfn.mapping.running import Mappings
from eventfn.observe.logs import LogStore
from eventfn.observe.metrics import Metrics
from eventfn.observe.status import Address, Depth, Environments, FunctionStatus, OutboxStatus, QueueStatus, Status, Wall
from eventfn.rules.records import BUILT_IN_DEAD_LETTERS
from eventfn.sandbox import walls
from eventfn.sources import Sources
from eventfn.trigger import QueueMessage
from eventfn.units import recognisable
from eventfn.workers.contract import Pool, PoolStats


class Node:
    """Implements api.ports.Node. `project` is what is declared now: the supervisor sets it anew on a reload. It sets
    `walls` when it knows what this machine gives."""

    def __init__(
        self,
        project: Project,
        registry: Registry,
        control: Control,
        sessions: Sessions,
        mappings: Mappings,
        durable: DurableExecutions,
        bus: Bus,
        queues: NamedQueues,
        deliverer: Deliverer,
        sources: Sources,
        pool: Pool,
        engine: Engine,
        logs: LogStore,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.project = project
        self.control = control
        self.mappings = mappings
        self.durable = durable
        self.metrics = metrics
        self.draining = False
        self.admin_address = ""
        self.walls: list[Wall] = []  # known once the machine was tried
        self.urls: FunctionUrls | None = None  # once they are answered
        self.version = importlib.metadata.version("eventfn")
        self._registry = registry
        self._sessions = sessions
        self._bus = bus
        self._queues = queues
        self._deliverer = deliverer
        self._sources = sources
        self._pool = pool
        self._engine = engine
        self._logs = logs
        self._clock = clock
        self._started_ms = clock.now_ms()

    @property
    def aws(self) -> Aws:
        return self.project.aws

    def session(self, access_key_id: str, session_token: str) -> Session | None:
        return self._sessions.recognise(access_key_id, session_token)

    async def urls_changed(self) -> None:
        if self.urls is not None:
            await self.urls.changed()

    def function_names(self) -> Sequence[str]:
        return self._registry.names()

    def function_arn(self, name: str) -> str:
        return self.project.function_arn(name)

    def environments(self, key: str) -> PoolStats:
        return self._pool.stats(key)

    def function_url(self, url_id: str, region: str) -> str:
        port = (self._sources.address("http") or ":80").rpartition(":")[2]
        return f"http://{url_id}.lambda-url.{region}.localhost:{port}/"

    # --- invoke ------------------------------------------------------------------------------------------------------

    def invoke(
        self,
        reference: str,
        payload: bytes,
        done: Callable[[Outcome], None],
        *,
        request_id: str,
        log_tail: bool,
        client_context: str | None,
        trace_id: str | None,
        stream: ResponseStream | None = None,
    ) -> str:
        return self._bus.invoke(
            reference,
            payload,
            done,
            request_id=request_id,
            client_context=client_context,
            trace_id=trace_id,
            log_tail=log_tail,
            stream=stream,
        )

    async def submit(
        self, name: str, payload: bytes, *, request_id: str, dedupe_key: str | None, trace_id: str | None
    ) -> str:
        return await self._bus.submit(name, payload, request_id=request_id, dedupe_key=dedupe_key, trace_id=trace_id)

    # --- queues ------------------------------------------------------------------------------------------------------

    async def queues(self) -> Sequence[QueueStatus]:
        dead_letter_for = self._dead_letters()
        found = {queue.name: queue for queue in await self._queues.overview()}
        return [
            QueueStatus(
                name,
                Depth(queue.visible, queue.in_flight, queue.delayed, queue.oldest_ms)
                if (queue := found.get(name))
                else Depth(),
                fifo=bool(queue and queue.fifo),
                dead_letter_for=dead_letter_for.get(name, []),
            )
            for name in sorted({*found, *dead_letter_for, *self._successes()})
        ]

    def _successes(self) -> set[str]:
        """The queues that successful invocations go to: there is one before its first record."""
        uris = [function.on_success or "" for function in self._registry.configured()]
        return {uri.removeprefix("queue:") for uri in uris if uri.startswith("queue:")}

    def _dead_letters(self) -> dict[str, list[str]]:
        """Queue -> the functions and queues whose failures end in it."""
        found: dict[str, dict[str, None]] = {}
        for function in self._registry.configured():
            uris = [uri for uri in (function.on_failure, function.dead_letter_queue) if uri is not None]
            for binding in function.triggers:
                if binding.intake.on_failure is not None:
                    uris.append(binding.intake.on_failure)
            for uri in uris or [BUILT_IN_DEAD_LETTERS]:
                if uri.startswith("queue:"):
                    found.setdefault(uri.removeprefix("queue:"), {})[f"fn:{function.name}"] = None
        for queue in self.project.queues.values():
            if queue.dead_letter_queue is not None:
                found.setdefault(queue.dead_letter_queue, {})[f"queue:{queue.name}"] = None
        return {queue: list(whose) for queue, whose in found.items()}

    async def peek(self, queue: str, limit: int, after: int) -> Sequence[Message]:
        return await self._queues.peek(queue, limit, after)

    async def send(self, queue: str, message: QueueMessage) -> str:
        return (await self._queues.send(queue, [message]))[0]

    async def redrive(self, queue: str, limit: int | None) -> Redriven:
        async def submit(function: str, payload: bytes, dedupe_key: str) -> str:
            return await self._bus.submit(function, payload, dedupe_key=f"redrive/{dedupe_key}")

        return await self._queues.redrive(queue, submit, limit)

    async def purge(self, queue: str) -> int:
        return await self._queues.purge(queue)

    # --- triggers ----------------------------------------------------------------------------------------------------

    async def set_trigger_enabled(self, source: str, enabled: bool) -> None:
        if source.startswith(PREFIX):
            await self.mappings.switch(source, enabled)
        else:
            await self._sources.set_enabled(source, enabled)

    # --- status ------------------------------------------------------------------------------------------------------

    async def status(self) -> Status:
        now = self._clock.now_ms()
        events = _by_function(await self._depths(names.EVENTS, now))
        outbox = await self._depths(names.OUTBOX, now)
        addresses = {"admin": self.admin_address, **self._sources.addresses()}
        return Status(
            version=self.version,
            python=platform.python_version(),
            pid=os.getpid(),
            started_ms=self._started_ms,
            now_ms=now,
            folder=self.project.folder,
            data=self.project.data,
            draining=self.draining,
            addresses=[Address(name, address) for name, address in addresses.items()],
            enforcement=self.walls,
            functions=[
                await self._function(function, events.get(name, Depth()))
                for name in self._registry.names()
                if (function := self.control.get(name)) is not None
            ],
            queues=list(await self.queues()),
            outbox=[
                OutboxStatus(recognisable(uri), depth, self._deliverer.outbox.errors.get(uri))
                for uri, depth in outbox.items()
            ],
        )

    async def _function(self, function: ManagedFunction, events: Depth) -> FunctionStatus:
        name, made = function.name, function.latest.configuration
        declared = self.project.functions.get(name)
        counters = self.metrics.function(name)
        found = self._registry.get(name)
        pools = [self._pool.stats(key) for key in self._registry.keys(name)]
        return FunctionStatus(
            name=name,
            origin="API" if declared is None else _place(declared),
            state=function.latest.state,
            versions=len(function.versions),
            aliases=sorted(function.aliases),
            arn=function.arn,
            handler=made.handler or "",
            runtime=made.runtime or "" if found is None else found.prepared.shown_runtime,
            memory_size=made.memory_size,
            timeout=made.timeout if declared is None else float(declared.timeout),
            triggers=await self._sources.status(declared or Function(name=name, handler="", code="")),
            counts=counters.counts(),
            environments=Environments(
                total=sum(pool.environments for pool in pools),
                idle=sum(pool.idle for pool in pools),
                starting=sum(pool.starting for pool in pools),
                in_flight=sum(pool.in_flight for pool in pools),
                waiting=sum(pool.waiting for pool in pools),
            ),
            events=events,
            log_lines_dropped=self._logs.dropped(name),
            last_error=counters.last_error,
        )

    async def _depths(self, prefix: str, now: int) -> dict[str, Depth]:
        return {stat.queue.removeprefix(prefix): _depth(stat) for stat in await self._engine.stats(prefix, now)}


def shown(found: Iterable[walls.Wall]) -> list[Wall]:
    return [Wall(wall.name, wall.enforced, wall.meaning) for wall in found]


def _place(function: Function) -> str:
    where = function.where
    return where.file if where.line is None else f"{where.file}:{where.line}"


def _by_function(depths: Mapping[str, Depth]) -> dict[str, Depth]:
    """Each qualifier of a function has a queue of its own."""
    found: dict[str, Depth] = {}
    for queue, depth in depths.items():
        name = queue.partition(":")[0]
        before = found.get(name, Depth())
        oldest = [ms for ms in (before.oldest_ms, depth.oldest_ms) if ms is not None]
        found[name] = Depth(
            visible=before.visible + depth.visible,
            in_flight=before.in_flight + depth.in_flight,
            delayed=before.delayed + depth.delayed,
            oldest_ms=min(oldest, default=None),
        )
    return found


def _depth(stat: QueueStats) -> Depth:
    return Depth(stat.visible, stat.in_flight, stat.delayed, stat.oldest_ms)

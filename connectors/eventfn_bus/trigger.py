"""The buses of a node: their rules from eventfn.toml, their routers, and PutEvents where [bus] says that it listens."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from eventfn.patterns import compile_pattern
from eventfn.schedules import parse
from eventfn.trigger import ListenContext, Mounted, Queues, Traits
from eventfn_bus.events import DEFAULT_BUS, Home
from eventfn_bus.router import Router
from eventfn_bus.rules import Rule, Target
from eventfn_bus.settings import BusSettings, BusShared, address
from eventfn_bus.ticking import Ticker

if TYPE_CHECKING:
    from eventfn_bus.wire import PutEvents


class BusTrigger:
    Settings: ClassVar[type[msgspec.Struct]] = BusSettings
    Shared: ClassVar[type[msgspec.Struct] | None] = BusShared
    traits: ClassVar[Traits] = Traits(invocation="listen", alone=True)

    def __init__(self, shared: BusShared, context: ListenContext) -> None:
        self._shared = shared
        self._context = context
        self._home = Home(context.region, context.account)
        self._rules: dict[str, list[Rule]] = {}
        self._routers: dict[str, Router] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._entrance: PutEvents | None = None
        self._routing = False

    def check(self, mounted: Sequence[Any]) -> list[tuple[int, str, str]]:
        problems: list[tuple[int, str, str]] = []
        taken: set[tuple[str, str | None]] = {(rule.bus, name) for name, rule in self._shared.rules.items()}
        for index, settings in enumerate(mounted):
            if settings.rule is not None and (settings.bus, settings.rule) in taken:
                problems.append((index, "rule", f"bus {settings.bus} has a rule called {settings.rule} already"))
            taken.add((settings.bus, settings.rule))
        return problems

    def mount(self, mounted: Sequence[Mounted]) -> None:
        """Replaces all rules at once; events that are being routed are, by the old ones."""
        rules: dict[str, list[Rule]] = {DEFAULT_BUS: []}
        for name, settings in self._shared.rules.items():
            if not settings.enabled:
                rules.setdefault(settings.bus, [])
                continue
            targets = tuple(Target(str(at), each.compiled(), each.uri) for at, each in enumerate(settings.targets))
            rule = self._rule(settings.bus, name, settings.event_pattern, targets)
            rules.setdefault(settings.bus, []).append(rule)
        for each in mounted:
            own: BusSettings = each.settings
            name = own.rule or _name_of(each.source)
            target = Target("0", own.compiled(), each.caller)
            rules.setdefault(own.bus, []).append(self._rule(own.bus, name, own.event_pattern, (target,)))
        self._rules = rules
        if self._routing:
            self._route()

    def _rule(self, bus: str, name: str, pattern: dict[str, Any] | None, targets: tuple[Target, ...]) -> Rule:
        compiled = None if pattern is None else compile_pattern(pattern)
        return Rule(name, self._home.rule_arn(bus, name), compiled, targets)

    async def open(self) -> str | None:
        """Routes; the address of PutEvents, None without one."""
        bound = None
        if self._shared.listen is not None:
            from eventfn_bus.wire import PutEvents  # aiohttp takes as long to import as all the rest of a start

            queues, context = self._queues, self._context
            self._entrance = PutEvents(self._shared.tokens, self._home, queues, context.clock, context.log)
            bound = await self._entrance.open(*address(self._shared.listen))
        schedules = {
            name: parse(rule.schedule_expression)
            for name, rule in self._shared.rules.items()
            if rule.enabled and rule.schedule_expression is not None
        }
        if schedules:
            ticker = Ticker(schedules, self._home, self._queues, self._context.clock, self._context.log)
            self._ticking = self._start(ticker.run(), "bus schedules")
        self._routing = True
        self._route()
        return bound

    def _route(self) -> None:
        """A router for each bus that there is, with its rules."""
        for bus in [bus for bus in self._routers if bus not in self._rules]:
            self._routers.pop(bus).stop()
        for bus, rules in self._rules.items():
            if bus not in self._routers:
                assert self._context.deliver is not None, "only a declaration that is checked has none"
                router = Router(
                    bus, self._home, self._queues, self._context.deliver, self._context.clock, self._context.log
                )
                self._routers[bus] = router
                self._start(router.run(), f"bus {bus}")
            self._routers[bus].rules = rules
        if self._entrance is not None:
            self._entrance.buses = frozenset(self._rules)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drain(self, deadline: float) -> None:
        """What is being routed gets to its targets; the rest stays in its queue."""
        self._routing = False
        if self._entrance is not None:
            self._entrance.drain()
        if self._ticking is not None:
            self._ticking.cancel()
        for router in self._routers.values():
            router.stop()
        self._routers.clear()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        self._routing = False
        if self._entrance is not None:
            await self._entrance.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def _queues(self) -> Queues:
        assert self._context.queues is not None, "only a declaration that is checked has none"
        return self._context.queues


def _name_of(source: str) -> str:
    """The letters that AWS allows in the name of a rule: "orders-bus-1f2e3d"."""
    return re.sub(r"[^.\-_A-Za-z0-9]+", "-", source).strip("-")[-64:]

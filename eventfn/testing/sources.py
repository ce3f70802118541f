"""What the suites for triggers and for streams share: what a subclass says of its source, and what both kinds of
source say about themselves."""

from __future__ import annotations

import asyncio
import functools
import inspect
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
import pytest
import pytest_asyncio

from eventfn.plugins import Plugins, intake_keys
from eventfn.testing import lint
from eventfn.testing.clock import FakeClock
from eventfn.testing.closing import close
from eventfn.testing.contexts import MemoryPositions, trigger_context
from eventfn.trigger import TriggerContext

T = TypeVar("T")


class SourceSuite:
    """Subclass TriggerSuite or StreamSuite."""

    pytestmark = pytest.mark.asyncio

    trigger: ClassVar[type[Any]]
    name: ClassVar[str]  # its `type` in eventfn.toml
    has_sample: ClassVar[bool] = True  # sample.toml and README.md stand beside the package
    variables: ClassVar[Mapping[str, str]] = {}  # of the environment, where sample.toml says "${NAME}"
    patience: ClassVar[float] = 30.0  # real seconds after which a read that should give something has failed
    verbs: ClassVar[tuple[str, ...]]  # the methods of its contract
    nonsense: ClassVar[Sequence[Mapping[str, Any]]] = ()  # tables of eventfn.toml that it must refuse
    outside: ClassVar[bool] = False  # another process can read the source too: one that does is killed

    folder: Path  # the project's folder, new for every test
    clock: FakeClock
    positions: MemoryPositions

    # --- what a subclass says ----------------------------------------------------------------------------------------

    def settings(self) -> Any:
        """An instance of the trigger's Settings, for the source that `put` fills."""
        raise NotImplementedError

    def shared(self) -> Any:
        """An instance of the trigger's Shared, if it has one."""
        return None

    async def refuse(self) -> None:
        """Takes the source down: connections break, new ones are refused. Not overridden: it cannot be down."""
        pytest.skip("this source cannot be down")

    async def accept(self) -> None:
        """Brings the source up again."""

    async def elsewhere(self) -> Any:
        """Settings for another source of the same kind, which `put` does not fill."""
        pytest.skip("no second source: override elsewhere()")

    async def pass_time(self) -> None:
        """Called every few milliseconds while something is waited for: one second passes on the fake clock."""
        await self.clock.advance(1)

    @functools.cached_property
    def context(self) -> TriggerContext:
        return self.make_context()

    def make_context(self) -> TriggerContext:
        return trigger_context(self.folder, clock=self.clock, positions=self.positions)

    # --- the host, played by the suite -------------------------------------------------------------------------------

    @pytest_asyncio.fixture(autouse=True)
    async def host(self, tmp_path: Path) -> AsyncIterator[None]:
        """A fixture of a subclass that needs the folder or the clock asks for this one."""
        self.folder = tmp_path
        self.clock = FakeClock()
        self.positions = MemoryPositions()
        self._made: list[Any] = []
        yield
        for trigger in self._made:
            await close(trigger, 1)

    async def waited(self, awaitable: Awaitable[T], what: str) -> T:
        """The result, while time passes; a failure instead of a test that hangs."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience
        waiting = asyncio.ensure_future(awaitable)
        try:
            while not (await asyncio.wait({waiting}, timeout=0.01))[0]:
                assert loop.time() < deadline, f"{what} within {self.patience:g} s"
                await self.pass_time()
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        return waiting.result()

    async def until(self, condition: Callable[[], object], otherwise: str) -> None:
        """Returns once `condition()` is true, while time passes; fails the test when it does not become so."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience
        while True:
            if condition():
                return
            assert loop.time() < deadline, f"{otherwise} within {self.patience:g} s"
            await asyncio.sleep(0.005)
            await self.pass_time()

    def blocks_held(self) -> int:
        """How many pieces of memory the connector's own code has allocated since tracemalloc was started."""
        package = lint.package_folder(self.trigger)
        if package == Path(lint.__file__).parent.parent:
            return 0  # eventfn's own triggers in memory, whose "outside" is memory too
        snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, f"{package}/*")])
        return sum(statistic.count for statistic in snapshot.statistics("filename"))

    # --- what it says about itself -----------------------------------------------------------------------------------

    async def test_the_host_takes_it(self) -> None:
        assert Plugins(triggers={self.name: self.trigger}).trigger(self.name) is self.trigger
        for verb in self.verbs:
            assert inspect.iscoroutinefunction(getattr(self.trigger, verb)), f"{verb} must be `async def`"

    async def test_its_settings_can_stand_in_eventfn_toml(self) -> None:
        lint.check_keys(self.trigger.Settings)
        assert isinstance(self.settings(), self.trigger.Settings)
        if self.trigger.Shared is not None:
            lint.check_keys(self.trigger.Shared)
            assert isinstance(self.shared(), self.trigger.Shared)

    async def test_it_refuses_nonsense(self) -> None:
        if not self.nonsense:
            pytest.skip("no nonsense is named")
        for table in self.nonsense:
            with pytest.raises(AssertionError):
                lint.load_settings(self.trigger.Settings, table, self.variables)

    async def test_it_keeps_secrets_out_of_what_status_shows(self) -> None:
        # `status` shows the settings of a trigger as they are; those of [NAME], its Shared, it does not.
        shown = [field.encode_name for field in msgspec.structs.fields(self.trigger.Settings)]
        secrets = [name for name in shown if lint.is_secret(name)]
        assert not secrets, f"put {', '.join(secrets)} into Shared: the settings of a trigger are shown"

    async def test_its_readme_names_every_key(self) -> None:
        if not self.has_sample:
            pytest.skip("it is no package of its own")
        for settings in (self.trigger.Settings, self.trigger.Shared):
            if settings is not None:
                lint.check_readme(self.trigger, settings)

    async def test_its_sample_loads(self) -> None:
        if not self.has_sample:
            pytest.skip("it is no package of its own")
        tables = lint.check_sample(self.trigger)
        mine = [
            table
            for function in tables.get("functions", {}).values()
            for table in function.get("triggers", ())
            if table["type"] == self.name
        ]
        assert mine, f"sample.toml shows no trigger of type {self.name!r}"
        for table in mine:
            lint.load_settings(
                self.trigger.Settings, table, self.variables, ("type", *intake_keys(self.trigger.traits))
            )
        if self.name in tables:
            assert self.trigger.Shared is not None, f"[{self.name}] stands in sample.toml, and Shared is None"
            lint.load_settings(self.trigger.Shared, tables[self.name], self.variables)

    async def test_making_one_touches_nothing(self) -> None:
        settings, shared = self.settings(), self.shared()
        with lint.no_io():
            self.trigger(settings, shared, self.context)

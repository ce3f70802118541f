"""The conformance suites catch connectors that break the contract: each of these breaks it in one way."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from eventfn.destination import WRITTEN, Delivery, OutgoingRecord, Rejected
from eventfn.event import Batch
from eventfn.plugins import PluginUnusable
from eventfn.testing import (
    DestinationSuite,
    FakeClock,
    MemoryDestination,
    MemoryPositions,
    MemorySink,
    MemorySource,
    MemoryTrigger,
    TriggerSuite,
)
from eventfn.trigger import DONE, Retry, Settlement, Traits


class _MemoryTriggerSuite(TriggerSuite):
    name = "memory"
    patience = 0.5

    def __init__(self, trigger: type[MemoryTrigger], folder: Path) -> None:
        self.trigger = trigger  # type: ignore[misc]  # a suite per trigger, made by hand
        self.folder, self.clock, self.positions = folder, FakeClock(), MemoryPositions()
        self._made = []
        self.source = MemorySource("suite")

    def settings(self) -> Any:
        return MemoryTrigger.Settings(name="suite")

    async def put(self, number: int) -> None:
        self.source.put({"number": number}, group="one")

    def number(self, record: Any) -> int:
        number: int = msgspec.json.decode(record.payload)["number"]
        return number

    async def refuse(self) -> None:
        self.source.take_down()

    async def accept(self) -> None:
        self.source.bring_up()


class TakesBeforeItIsCancelled(MemoryTrigger):
    async def read(self, limit: int) -> Batch:
        batch = await super().read(limit)
        await asyncio.sleep(0)
        return batch


class IgnoresTheLimit(MemoryTrigger):
    async def read(self, limit: int) -> Batch:
        return await super().read(limit + 1)


class ForgetsRetries(MemoryTrigger):
    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        await super().settle(batch, [DONE] * len(settlements))


class ForgetsToSettle(MemoryTrigger):
    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        await super().settle(batch, [Retry(after=0)] * len(settlements))


class SettlesEarly(MemoryTrigger):
    async def read(self, limit: int) -> Batch:
        batch = await super().read(limit)
        await super().settle(batch, [DONE] * len(batch.records))
        return batch

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        pass


class TurnsTheOrder(MemoryTrigger):
    async def read(self, limit: int) -> Batch:
        batch = await super().read(limit)
        return Batch(records=batch.records[::-1])


class NamesAllTheSame(MemoryTrigger):
    async def read(self, limit: int) -> Batch:
        batch = await super().read(limit)
        return Batch(records=tuple(msgspec.structs.replace(record, id="1") for record in batch.records))


class HidesAnOutage(MemoryTrigger):
    async def connect(self) -> None:
        pass


class NeedsAConnectionToClose(MemoryTrigger):
    async def close(self, deadline: float) -> None:
        assert self._source is not None
        await super().close(deadline)


class OpensAFileWhenMade(MemoryTrigger):
    def __init__(self, settings: Any, shared: Any, context: Any) -> None:
        super().__init__(settings, shared, context)
        Path(context.folder, "ledger").touch()


class HasAKeyOfTheHost(MemoryTrigger):
    class Settings(MemoryTrigger.Settings, frozen=True, kw_only=True):
        batch_size: int = 1


class IsAListener(MemoryTrigger):
    traits: ClassVar[Traits] = Traits(invocation="listen")


TRIGGERS: list[tuple[type[MemoryTrigger], Callable[[_MemoryTriggerSuite], Any]]] = [
    (TakesBeforeItIsCancelled, TriggerSuite.test_a_cancelled_read_has_taken_nothing),
    (IgnoresTheLimit, TriggerSuite.test_every_event_arrives_once_in_batches_within_the_limit),
    (ForgetsRetries, TriggerSuite.test_what_is_to_be_retried_comes_again),
    (ForgetsRetries, TriggerSuite.test_each_record_of_a_batch_ends_in_its_own_way),
    (ForgetsToSettle, TriggerSuite.test_what_is_done_never_comes_again),
    (SettlesEarly, TriggerSuite.test_what_was_not_settled_comes_again_after_a_restart),
    (TurnsTheOrder, TriggerSuite.test_the_order_of_a_group_is_kept),
    (NamesAllTheSame, TriggerSuite.test_every_event_arrives_once_in_batches_within_the_limit),
    (HidesAnOutage, TriggerSuite.test_a_source_that_is_down_is_a_connector_error_until_it_is_up),
    (NeedsAConnectionToClose, TriggerSuite.test_it_closes_after_half_a_start),
    (NeedsAConnectionToClose, TriggerSuite.test_it_closes_twice),
    (OpensAFileWhenMade, TriggerSuite.test_making_one_touches_nothing),
    (HasAKeyOfTheHost, TriggerSuite.test_the_host_takes_it),
    (IsAListener, TriggerSuite.test_its_traits_agree_with_each_other),
]


@pytest.mark.parametrize(("broken", "test"), TRIGGERS, ids=lambda value: value.__name__)
async def test_the_trigger_suite_catches(broken: type[MemoryTrigger], test: Any, tmp_path: Path) -> None:
    await test(_MemoryTriggerSuite(MemoryTrigger, tmp_path))
    with pytest.raises(_FAILURE):
        await test(_MemoryTriggerSuite(broken, tmp_path))


# What fails a test: its own assertions, the host's refusal, and pytest.raises that saw nothing raised.
_FAILURE = (AssertionError, PluginUnusable, pytest.fail.Exception)


class _MemoryDestinationSuite(DestinationSuite):
    scheme = "memory"
    target = "suite"
    nonsense = ("", "two words")

    def __init__(self, destination: type[MemoryDestination], folder: Path) -> None:
        self.destination = destination  # type: ignore[misc]  # a suite per destination, made by hand
        self.folder, self.clock = folder, FakeClock()
        self._made = []
        self.sink = MemorySink("suite")

    async def received(self) -> list[Any]:
        return [msgspec.json.decode(record.payload) for record in self.sink.records]

    async def refuse(self) -> None:
        self.sink.down = True

    async def accept(self) -> None:
        self.sink.down = False


class WritesTwice(MemoryDestination):
    _copies: ClassVar[Iterator[int]] = itertools.count()

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        copies = [msgspec.structs.replace(record, id=f"{record.id}#{next(self._copies)}") for record in records]
        return await super().write(copies)


class WritesNothing(MemoryDestination):
    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        return [WRITTEN] * len(records)


class AnswersOnce(MemoryDestination):
    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        return (await super().write(records))[:1]


class GivesUpInAnOutage(MemoryDestination):
    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        sink = self._sink
        try:
            sink()
        except Exception as error:
            return [Rejected(str(error))] * len(records)
        return await super().write(records)


class CutsLongRecords(MemoryDestination):
    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        short = [record for record in records if len(record.payload) < 1024]
        await super().write(short)
        return [WRITTEN] * len(records)


class TakesAnyTarget(MemoryDestination):
    @classmethod
    def check(cls, target: str, settings: Any) -> str | None:
        return None


class ChecksOnTheDisk(MemoryDestination):
    @classmethod
    def check(cls, target: str, settings: Any) -> str | None:
        Path("/dev/null").open().close()
        return super().check(target, settings)


DESTINATIONS: list[tuple[type[MemoryDestination], Any]] = [
    (WritesTwice, DestinationSuite.test_its_word_on_idempotence_is_true),
    (WritesNothing, DestinationSuite.test_a_record_arrives_as_it_is),
    (WritesNothing, DestinationSuite.test_it_writes_on_after_a_restart),
    (AnswersOnce, DestinationSuite.test_many_records_arrive_in_their_order),
    (GivesUpInAnOutage, DestinationSuite.test_while_the_other_side_is_down_it_says_so_and_works_again_after),
    (CutsLongRecords, DestinationSuite.test_a_big_record_arrives_whole),
    (TakesAnyTarget, DestinationSuite.test_it_checks_its_target_and_touches_nothing),
    (ChecksOnTheDisk, DestinationSuite.test_it_checks_its_target_and_touches_nothing),
]


@pytest.mark.parametrize(("broken", "test"), DESTINATIONS, ids=lambda value: value.__name__)
async def test_the_destination_suite_catches(broken: type[MemoryDestination], test: Any, tmp_path: Path) -> None:
    await test(_MemoryDestinationSuite(MemoryDestination, tmp_path))
    with pytest.raises(_FAILURE):
        await test(_MemoryDestinationSuite(broken, tmp_path))

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
from eventfn.errors import ConnectorError
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
    nonsense = ({"name": 7},)

    def __init__(self, trigger: type[MemoryTrigger], folder: Path) -> None:
        self.trigger = trigger  # type: ignore[misc]  # a suite per trigger, made by hand
        self.folder, self.clock, self.positions = folder, FakeClock(), MemoryPositions()
        self._made = []
        self.source = MemorySource("suite")

    def settings(self) -> Any:
        return MemoryTrigger.Settings(name="suite")

    async def elsewhere(self) -> Any:
        self.other = MemorySource("other")
        return MemoryTrigger.Settings(name="other")

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


class HandsOutWhatIsInHand(MemoryTrigger):
    async def read(self, limit: int) -> Batch:
        self._connected().let_go(self)
        return await super().read(limit)


class NamesAnewEachTime(MemoryTrigger):
    async def read(self, limit: int) -> Batch:
        batch = await super().read(limit)
        anew = [msgspec.structs.replace(record, id=f"{record.id}#{record.receives}") for record in batch.records]
        return Batch(records=tuple(anew))


class DoesNotCount(MemoryTrigger):
    async def read(self, limit: int) -> Batch:
        batch = await super().read(limit)
        return Batch(records=tuple(msgspec.structs.replace(record, receives=1) for record in batch.records))


class WaitsForTwo(MemoryTrigger):
    async def read(self, limit: int) -> Batch:
        while self._connected().pending < 2:
            await asyncio.sleep(0.001)
        return await super().read(limit)


class ArrivesInSeconds(MemoryTrigger):
    async def read(self, limit: int) -> Batch:
        batch = await super().read(limit)
        return Batch(records=tuple(msgspec.structs.replace(record, arrived_ms=1_700_000) for record in batch.records))


class HangsInClose(MemoryTrigger):
    async def close(self, deadline: float) -> None:
        await asyncio.sleep(deadline + 1.5)


class NeverCloses(MemoryTrigger):
    async def close(self, deadline: float) -> None:
        await asyncio.Event().wait()


class ClosesOnlyWhatIsUp(MemoryTrigger):
    async def close(self, deadline: float) -> None:
        self._connected()
        await super().close(deadline)


class ReadsWhateverThereIs(MemoryTrigger):
    def __init__(self, settings: Any, shared: Any, context: Any) -> None:
        super().__init__(MemoryTrigger.Settings(name="suite"), shared, context)


class ReadsAllAtOnce(MemoryTrigger):
    async def read(self, limit: int) -> Batch:
        return await super().read(1000)


class SettlesAllThatItHas(MemoryTrigger):
    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        source = self._connected()
        held = [entry.record for entry in source._entries if entry.holder is self]
        for record in held:
            source.settle(self, record, DONE, 0)


class HasASecretThatIsShown(MemoryTrigger):
    class Settings(MemoryTrigger.Settings, frozen=True, kw_only=True):
        sasl_password: str = ""


class TakesAnything(MemoryTrigger):
    class Settings(MemoryTrigger.Settings, frozen=True, kw_only=True):
        name: Any = "memory"


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
    (HandsOutWhatIsInHand, TriggerSuite.test_what_is_in_hand_is_not_handed_out_again),
    (NamesAnewEachTime, TriggerSuite.test_a_record_that_comes_again_is_the_same_and_says_so),
    (DoesNotCount, TriggerSuite.test_a_record_that_comes_again_is_the_same_and_says_so),
    (WaitsForTwo, TriggerSuite.test_it_waits_for_the_first_and_not_for_a_full_batch),
    (ArrivesInSeconds, TriggerSuite.test_a_record_says_what_it_is),
    (HangsInClose, TriggerSuite.test_it_closes_in_time_while_a_read_hangs),
    (NeverCloses, TriggerSuite.test_it_connects_and_closes),
    (ClosesOnlyWhatIsUp, TriggerSuite.test_it_closes_in_time_while_its_source_is_down),
    (HidesAnOutage, TriggerSuite.test_it_connects_at_last_after_many_tries),
    (ReadsWhateverThereIs, TriggerSuite.test_two_of_a_kind_do_not_see_each_others_events),
    (ReadsAllAtOnce, TriggerSuite.test_a_slow_function_holds_back_the_reading),
    (SettlesEarly, TriggerSuite.test_all_is_handled_although_the_function_fails_with_one_in_ten),
    (TurnsTheOrder, TriggerSuite.test_all_is_handled_although_the_function_fails_with_one_in_ten),
    (SettlesAllThatItHas, TriggerSuite.test_a_settlement_that_comes_after_a_reconnect_ends_nothing_else),
    (HasASecretThatIsShown, TriggerSuite.test_it_keeps_secrets_out_of_what_status_shows),
    (TakesAnything, TriggerSuite.test_it_refuses_nonsense),
    (IsAListener, TriggerSuite.test_its_traits_agree_with_each_other),
]


class _PatientSuite(_MemoryTriggerSuite):
    """For what is right: a busy machine makes it slow, and not wrong."""

    patience = 10.0


@pytest.mark.parametrize(("broken", "test"), TRIGGERS, ids=lambda value: value.__name__)
async def test_the_trigger_suite_catches(broken: type[MemoryTrigger], test: Any, tmp_path: Path) -> None:
    await test(_PatientSuite(MemoryTrigger, tmp_path))
    with pytest.raises(_FAILURE):
        await test(_MemoryTriggerSuite(broken, tmp_path))


# What fails a test: its own assertions, the host's refusal, pytest.raises that saw nothing raised, and a connector that
# raises where it must not.
_FAILURE = (AssertionError, PluginUnusable, pytest.fail.Exception, ConnectorError)


class _MemoryDestinationSuite(DestinationSuite):
    scheme = "memory"
    target = "suite"
    nonsense = ("", "two words")
    elsewhere = "other"
    too_large = 2_000_000
    patience = 0.5

    def __init__(self, destination: type[MemoryDestination], folder: Path) -> None:
        self.destination = destination  # type: ignore[misc]  # a suite per destination, made by hand
        self.folder, self.clock = folder, FakeClock()
        self._made = []
        self.sink, self.other = MemorySink("suite"), MemorySink("other")

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


class HasALimit(MemoryDestination):
    """A whole one: the sink in memory takes any size."""

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        answers = iter(await super().write([record for record in records if len(record.payload) < 2_000_000]))
        return [next(answers) if len(record.payload) < 2_000_000 else Rejected("too large") for record in records]


class RejectsAllWithOne(HasALimit):
    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        if any(len(record.payload) >= 2_000_000 for record in records):
            return [Rejected("too large")] * len(records)
        return await super().write(records)


class WritesForAnyTarget(MemoryDestination):
    def __init__(self, target: str, settings: Any, context: Any) -> None:
        super().__init__("suite", settings, context)


class WritesHalfABatch(MemoryDestination):
    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        await super().write(records[:50])
        return [WRITTEN] * len(records)


class ConnectsOnce(MemoryDestination):
    _connected = False

    async def connect(self) -> None:
        assert not self._connected
        self._connected = True


class HangsAtItsEnd(MemoryDestination):
    async def close(self, deadline: float) -> None:
        await asyncio.sleep(deadline + 1.5)


class WritesBackwards(MemoryDestination):
    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        return await super().write(records[::-1])


class SaysItIsWrittenInAnOutage(MemoryDestination):
    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        try:
            return await super().write(records)
        except ConnectorError:
            return [WRITTEN] * len(records)

    async def connect(self) -> None:
        pass


class CannotBeCancelled(MemoryDestination):
    _broken = False

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        assert not self._broken, "half a request is on the line"
        self._broken = True
        await asyncio.sleep(0)
        answers = await super().write(records)
        self._broken = False
        return answers


DESTINATIONS: list[tuple[type[MemoryDestination], Any]] = [
    (WritesTwice, DestinationSuite.test_its_word_on_idempotence_is_true),
    (WritesNothing, DestinationSuite.test_a_record_arrives_as_it_is),
    (WritesNothing, DestinationSuite.test_it_writes_on_after_a_restart),
    (AnswersOnce, DestinationSuite.test_many_records_arrive_in_their_order),
    (GivesUpInAnOutage, DestinationSuite.test_while_the_other_side_is_down_it_says_so_and_works_again_after),
    (CutsLongRecords, DestinationSuite.test_a_big_record_arrives_whole),
    (RejectsAllWithOne, DestinationSuite.test_one_that_can_never_be_written_is_rejected_alone),
    (WritesForAnyTarget, DestinationSuite.test_what_is_for_one_target_is_not_for_another),
    (WritesHalfABatch, DestinationSuite.test_as_many_as_the_host_gives_at_once_arrive),
    (ConnectsOnce, DestinationSuite.test_it_can_be_connected_again),
    (HangsAtItsEnd, DestinationSuite.test_it_closes_in_time_while_the_other_side_is_down),
    (WritesBackwards, DestinationSuite.test_the_outbox_is_delivered_in_its_order),
    (SaysItIsWrittenInAnOutage, DestinationSuite.test_the_outbox_is_delivered_through_an_outage),
    (CannotBeCancelled, DestinationSuite.test_a_write_that_was_cancelled_can_be_made_again),
    (TakesAnyTarget, DestinationSuite.test_it_checks_its_target_and_touches_nothing),
    (ChecksOnTheDisk, DestinationSuite.test_it_checks_its_target_and_touches_nothing),
]


class _PatientDestinationSuite(_MemoryDestinationSuite):
    patience = 10.0


@pytest.mark.parametrize(("broken", "test"), DESTINATIONS, ids=lambda value: value.__name__)
async def test_the_destination_suite_catches(broken: type[MemoryDestination], test: Any, tmp_path: Path) -> None:
    await test(_PatientDestinationSuite(HasALimit, tmp_path))
    with pytest.raises(_FAILURE):
        await test(_MemoryDestinationSuite(broken, tmp_path))

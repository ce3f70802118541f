"""The suite for streams catches what breaks the contract: each of these breaks it in one way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from eventfn.errors import ConnectorError
from eventfn.event import Batch, Record
from eventfn.testing import FakeClock, MemoryGroupTrigger, MemoryPositions, MemoryStream, MemoryStreamTrigger
from eventfn.testing.memory_streams import ConnectedTrigger, MemoryCommittingReader, MemoryReader
from eventfn.testing.streams import StreamSuite
from eventfn.trigger import BatchInfo, Shard, ShardReader, Start, Traits, TriggerContext


class _Suite(StreamSuite):
    name = "memory"
    patience = 0.5

    def __init__(self, trigger: type[ConnectedTrigger], folder: Path, shards: int = 4) -> None:
        self.trigger = trigger  # type: ignore[misc]  # a suite per trigger, made by hand
        self.folder, self.clock, self.positions = folder, FakeClock(), MemoryPositions()
        self.kept, self._hosts, self._made = {}, [], []
        self.stream = MemoryStream("suite", shards)

    def settings(self) -> Any:
        return ConnectedTrigger.Settings(name="suite")

    async def put(self, number: int, key: str | None = None) -> None:
        self.stream.put(number, key=key)

    def number(self, record: Record) -> int:
        number: int = msgspec.json.decode(record.payload)["value"]
        return number

    async def refuse(self) -> None:
        self.stream.take_down()

    async def accept(self) -> None:
        self.stream.bring_up()

    async def split(self) -> None:
        for shard in self.stream.shards():
            if not self.stream.is_closed(shard.id):
                self.stream.split(shard.id)


# --- readers ----------------------------------------------------------------------------------------------------------


def reading(reader: type[MemoryReader]) -> type[MemoryStreamTrigger]:
    """A trigger that lists its shards and reads them in the given way."""

    class Trigger(MemoryStreamTrigger):
        reader_class = reader

    Trigger.__name__ = reader.__name__
    return Trigger


def committing(reader: type[MemoryCommittingReader]) -> type[MemoryGroupTrigger]:
    """A trigger of a group that reads and commits in the given way."""

    class Trigger(MemoryGroupTrigger):
        reader_class = reader

    Trigger.__name__ = reader.__name__
    return Trigger


class TakesBeforeItIsCancelled(MemoryReader):
    async def read(self, limit: int) -> Batch:
        batch = await super().read(limit)
        await asyncio.sleep(0)
        return batch


class IgnoresTheLimit(MemoryReader):
    async def read(self, limit: int) -> Batch:
        return await super().read(limit + 1)


class ComesBackWithNothing(MemoryReader):
    async def read(self, limit: int) -> Batch:
        reading = asyncio.ensure_future(super().read(limit))
        await asyncio.wait({reading}, timeout=0.02)
        if reading.done():
            return reading.result()
        reading.cancel()
        return Batch(())


class TurnsTheOrder(MemoryReader):
    async def read(self, limit: int) -> Batch:
        return Batch((await super().read(limit)).records[::-1])


class SkipsAfterEachBatch(MemoryReader):
    async def read(self, limit: int) -> Batch:
        batch = await super().read(limit)
        self.offset += len(batch.records) == limit
        return batch


class StandsOnItsRecord(MemoryReader):
    def position(self, record: Record) -> str:
        return str(record.token)


class StandsOneTooFar(MemoryReader):
    def position(self, record: Record) -> str:
        return str(record.token + 2)


class NamesByTheClock(MemoryReader):
    _now: ClassVar[int] = 0

    async def read(self, limit: int) -> Batch:
        batch = await super().read(limit)
        NamesByTheClock._now += 1
        return Batch(tuple(msgspec.structs.replace(record, id=f"{self._now}") for record in batch.records))


class ArrivesInSeconds(MemoryReader):
    async def read(self, limit: int) -> Batch:
        batch = await super().read(limit)
        seconds = [msgspec.structs.replace(record, arrived_ms=record.arrived_ms // 1000) for record in batch.records]
        return Batch(tuple(seconds))


class NeverEnds(MemoryReader):
    async def read(self, limit: int) -> Batch:
        batch = await super().read(limit)
        return batch if batch.records else await asyncio.Event().wait()  # type: ignore[return-value]


class CommitsWhatItReads(MemoryCommittingReader):
    async def read(self, limit: int) -> Batch:
        batch = await super().read(limit)
        await self.commit(self.position(batch.records[-1]))
        return batch


class CommitsNothing(MemoryCommittingReader):
    async def commit(self, position: str) -> None:
        pass


class CommitsTooMuch(MemoryCommittingReader):
    async def commit(self, position: str) -> None:
        await super().commit(str(int(position) + 1))


# --- triggers ---------------------------------------------------------------------------------------------------------


class StartsAtTheBeginning(MemoryStreamTrigger):
    async def open_shard(self, shard: Shard, at: str | Start) -> ShardReader:
        return await super().open_shard(shard, Start("TRIM_HORIZON") if isinstance(at, Start) else at)


class StartsAtTheEnd(MemoryStreamTrigger):
    async def open_shard(self, shard: Shard, at: str | Start) -> ShardReader:
        return await super().open_shard(shard, Start("LATEST") if isinstance(at, Start) else at)


class ForgetsParents(MemoryStreamTrigger):
    async def shards(self) -> Sequence[Shard]:
        return [Shard(shard.id) for shard in reversed(list(await super().shards()))]


class ListsAndReports(MemoryGroupTrigger):
    async def shards(self) -> Sequence[Shard]:
        return self.connected().shards()


class AsksNobodyBeforeItGivesAway(MemoryGroupTrigger):
    async def _balance(self, stream: MemoryStream) -> None:
        if free := stream.share_of(self) - self._held:
            stream.owners.update(dict.fromkeys(free, self))
            self._held |= free
            self._assignments.assign([shard for shard in stream.shards() if shard.id in free])


class RaisesWhatItLikes(MemoryStreamTrigger):
    async def connect(self) -> None:
        try:
            await super().connect()
        except Exception as error:
            raise OSError("connection refused") from error


class NeedsAConnectionToClose(MemoryStreamTrigger):
    async def close(self, deadline: float) -> None:
        self.connected()
        await super().close(deadline)


class HangsInClose(MemoryStreamTrigger):
    async def close(self, deadline: float) -> None:
        await asyncio.sleep(deadline + 1.5)


class OpensAFileWhenMade(MemoryStreamTrigger):
    def __init__(self, settings: Any, shared: None, context: TriggerContext) -> None:
        super().__init__(settings, shared, context)
        Path(context.folder, "ledger").touch()


class SettlesRecords(MemoryStreamTrigger):
    traits: ClassVar[Traits] = Traits(invocation="request_response", ack="record")


class NamesAKeyThatIsNotThere(MemoryStreamTrigger):
    data_key: ClassVar[str] = "body"


class DescribesWithWhatIsNoJson(MemoryStreamTrigger):
    def describe(self, shard: str, records: Sequence[Record]) -> BatchInfo:
        return BatchInfo("MemoryBatchInfo", {"shardId": shard, "first": records[0]})


class DescribesAlwaysTheSame(MemoryStreamTrigger):
    def describe(self, shard: str, records: Sequence[Record]) -> BatchInfo:
        return BatchInfo("MemoryBatchInfo", {"shardId": shard})


class EncodesNoJson(MemoryStreamTrigger):
    def encode(self, records: Sequence[Record]) -> bytes:
        return b"".join(record.payload for record in records)[1:]


class ForgetsWhoIsBehind(MemoryGroupTrigger):
    async def pending(self) -> int:
        return 0


BROKEN: list[tuple[type[ConnectedTrigger], Any]] = [
    (reading(TakesBeforeItIsCancelled), StreamSuite.test_a_cancelled_read_has_taken_nothing),
    (reading(IgnoresTheLimit), StreamSuite.test_every_event_arrives_once_in_batches_within_the_limit),
    (reading(ComesBackWithNothing), StreamSuite.test_it_waits_until_there_is_something),
    (reading(TurnsTheOrder), StreamSuite.test_the_order_of_a_key_is_kept),
    (reading(SkipsAfterEachBatch), StreamSuite.test_a_flood_waits_outside_and_is_read_completely),
    (reading(StandsOnItsRecord), StreamSuite.test_a_position_is_right_behind_its_record),
    (reading(StandsOneTooFar), StreamSuite.test_a_position_is_right_behind_its_record),
    (reading(StandsOneTooFar), StreamSuite.test_a_restart_continues_right_behind_what_is_done),
    (reading(NamesByTheClock), StreamSuite.test_a_record_is_the_same_each_time_it_is_read),
    (reading(ArrivesInSeconds), StreamSuite.test_a_record_says_what_it_is),
    (reading(NeverEnds), StreamSuite.test_a_shard_ends_and_its_children_go_on),
    (reading(NeverEnds), StreamSuite.test_a_shard_that_ended_ends_again_after_a_restart),
    (committing(CommitsWhatItReads), StreamSuite.test_what_was_not_done_comes_again_after_a_restart),
    (committing(CommitsWhatItReads), StreamSuite.test_what_was_not_done_of_a_shard_goes_to_its_next_owner),
    (committing(CommitsNothing), StreamSuite.test_a_restart_continues_right_behind_what_is_done),
    (committing(CommitsTooMuch), StreamSuite.test_a_restart_continues_right_behind_what_is_done),
    (StartsAtTheBeginning, StreamSuite.test_the_latest_is_what_comes_after_it_was_opened),
    (StartsAtTheBeginning, StreamSuite.test_a_timestamp_is_where_it_begins),
    (StartsAtTheEnd, StreamSuite.test_the_trim_horizon_is_where_it_all_begins),
    (ForgetsParents, StreamSuite.test_a_shard_ends_and_its_children_go_on),
    (ListsAndReports, StreamSuite.test_it_lists_its_shards_or_is_given_them),
    (AsksNobodyBeforeItGivesAway, StreamSuite.test_shards_move_to_a_second_node_and_nothing_is_lost),
    (RaisesWhatItLikes, StreamSuite.test_a_source_that_is_down_is_a_connector_error_until_it_is_up),
    (NeedsAConnectionToClose, StreamSuite.test_it_closes_after_half_a_start),
    (NeedsAConnectionToClose, StreamSuite.test_it_closes_twice),
    (HangsInClose, StreamSuite.test_it_closes_while_a_read_hangs),
    (OpensAFileWhenMade, StreamSuite.test_making_one_touches_nothing),
    (SettlesRecords, StreamSuite.test_its_traits_are_those_of_a_stream),
    (NamesAKeyThatIsNotThere, StreamSuite.test_a_filter_finds_what_it_is_about),
    (DescribesWithWhatIsNoJson, StreamSuite.test_it_describes_a_batch_that_failed),
    (DescribesAlwaysTheSame, StreamSuite.test_it_describes_a_batch_that_failed),
    (EncodesNoJson, StreamSuite.test_its_events_are_json),
    (ForgetsWhoIsBehind, StreamSuite.test_it_can_say_how_far_behind_it_is),
]

# What fails a test: its own assertions, what is no JSON, and what a connector must not raise.
_FAILURES = (AssertionError, msgspec.MsgspecError, TypeError, OSError, ConnectorError)


@pytest.mark.parametrize(("broken", "test"), BROKEN, ids=lambda value: value.__name__)
async def test_the_stream_suite_catches(broken: type[ConnectedTrigger], test: Any, tmp_path: Path) -> None:
    whole = MemoryGroupTrigger if issubclass(broken, MemoryGroupTrigger) else MemoryStreamTrigger
    with contextlib.suppress(pytest.skip.Exception):  # where only the broken one has the power in question
        await _run(_PatientSuite(whole, tmp_path), test)
    with pytest.raises(_FAILURES):
        await _run(_Suite(broken, tmp_path), test)


class _PatientSuite(_Suite):
    """For what is right: a busy machine makes it slow, and not wrong."""

    patience = 10.0


async def _run(suite: _Suite, test: Any) -> None:
    try:
        await test(suite)
    finally:
        for host in suite._hosts:
            if isinstance(host.stream, MemoryGroupTrigger):  # it has a task
                await host.stream.close(1)

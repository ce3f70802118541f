"""The conformance suite for triggers: subclass it, say how to put one event into the source, and run pytest.

    class TestMyTrigger(TriggerSuite):
        trigger = MyTrigger
        name = "my"                                     # its `type` in eventfn.toml

        def settings(self):
            return MyTrigger.Settings(path=str(self.folder / "x"))

        async def put(self, number):
            ...                                         # one event into the source, told apart by its number

The suite plays the host: it reads, keeps the positions of what it finishes, and settles. Time stands still on
`self.clock`, a FakeClock that moves on only while a read waits (`pass_time`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import tracemalloc
from typing import ClassVar

import msgspec
import pytest

from eventfn.errors import ConnectorError
from eventfn.event import Batch, Record
from eventfn.testing.closing import close
from eventfn.testing.hosted import ANNOUNCED_AT_ONCE, BATCH_SIZE, CONCURRENCY, Stuck, Unsteady, WatchedTrigger, hosted
from eventfn.testing.reader import killed_reader
from eventfn.testing.sources import SourceSuite
from eventfn.trigger import (
    DONE,
    Done,
    Encodes,
    Extends,
    Filterable,
    Filtering,
    Pending,
    Reject,
    Retry,
    Settlement,
    Trigger,
)

DAY_MS = 24 * 3_600_000


class TriggerSuite(SourceSuite):
    verbs = ("connect", "read", "settle", "close")
    counts_receives: ClassVar[bool] = True  # a record that comes again says so, where each is settled by itself

    # --- what a subclass says, beside what SourceSuite asks ----------------------------------------------------------

    async def put(self, number: int) -> None:
        """Puts exactly one event into the source; each number is a different event."""
        raise NotImplementedError

    def number(self, record: Record) -> int:
        """The number that `put` was given for this record. Only for sources with the trait `ordered`, whose `put`
        then puts all events into one group."""
        raise NotImplementedError

    async def lapse(self) -> None:
        """Lets the lease of what was read run out, on the clock by which the source counts it. Only for sources that
        give leases."""
        pytest.skip("how a lease runs out is not said: override lapse()")

    # --- the host, played by the suite -------------------------------------------------------------------------------

    def make(self) -> Trigger:
        trigger: Trigger = self.trigger(self.settings(), self.shared(), self.context)
        self._made.append(trigger)
        return trigger

    async def opened(self) -> Trigger:
        trigger = self.make()
        await trigger.connect()
        return trigger

    async def read(self, trigger: Trigger, limit: int = 10) -> Batch:
        """A read that fails the test instead of hanging it."""
        batch = await self.waited(trigger.read(limit), "read() gave nothing")
        assert 1 <= len(batch.records) <= limit, f"read({limit}) returned {len(batch.records)} records"
        return batch

    async def settle(self, trigger: Trigger, batch: Batch, *settlements: Settlement) -> None:
        """Ends a batch as the host does: positions first, and all Done if nothing else is said."""
        answers = settlements or (DONE,) * len(batch.records)
        for record, settlement in zip(batch.records, answers, strict=True):
            if record.position is not None and isinstance(settlement, Done):
                await self.positions.put(record.position.key, record.position.value)
        await trigger.settle(batch, answers)

    async def finish(self, trigger: Trigger, count: int, limit: int = 10) -> list[Record]:
        """Reads and finishes until `count` different records have come."""
        records: dict[str, Record] = {}
        while len(records) < count:
            batch = await self.read(trigger, limit)
            records.update((record.id, record) for record in batch.records)
            await self.settle(trigger, batch)
        return list(records.values())

    async def next_new(self, trigger: Trigger, number: int) -> Record:
        """Puts one more event in and finishes it: whatever was to come before it has come by then."""
        await self.put(number)
        records = await self.finish(trigger, 1)
        assert len(records) == 1, f"something else came too: {[record.id for record in records]}"
        return records[0]

    # --- what it says about itself -----------------------------------------------------------------------------------

    async def test_its_traits_agree_with_each_other(self) -> None:
        traits = self.trigger.traits
        assert traits.invocation in ("request_response", "event"), "a listener is another contract"
        assert traits.ack in ("record", "none") or traits.invocation == "event", "a stream is tested by StreamSuite"
        assert 1 <= traits.default_batch_size <= traits.max_batch_size <= 10_000

    # --- its life ----------------------------------------------------------------------------------------------------

    async def test_it_connects_and_closes(self) -> None:
        trigger = await self.opened()
        await close(trigger)

    async def test_it_closes_after_half_a_start(self) -> None:
        await close(self.make())

    async def test_it_closes_twice(self) -> None:
        trigger = await self.opened()
        await close(trigger)
        await close(trigger)

    async def test_a_source_that_is_down_is_a_connector_error_until_it_is_up(self) -> None:
        await self.refuse()
        trigger = self.make()
        with pytest.raises(ConnectorError):
            await trigger.connect()
        await self.accept()
        await trigger.connect()
        await self.next_new(trigger, 1)

    async def test_it_can_be_connected_again_after_it_lost_its_source(self) -> None:
        trigger = await self.opened()
        await self.refuse()
        with pytest.raises(ConnectorError):
            await self.read(trigger)
        await self.accept()
        await trigger.connect()
        await self.next_new(trigger, 1)

    async def test_it_connects_at_last_after_many_tries(self) -> None:
        await self.refuse()
        trigger = self.make()
        for _ in range(3):
            with pytest.raises(ConnectorError):
                await trigger.connect()
        await self.accept()
        await trigger.connect()
        await close(trigger)

    async def test_it_closes_in_time_while_a_read_hangs(self) -> None:
        trigger = await self.opened()
        reading = asyncio.ensure_future(trigger.read(10))
        await asyncio.sleep(0)
        try:
            await self._closes_in_time(trigger)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def test_it_closes_in_time_while_its_source_is_down(self) -> None:
        trigger = await self.opened()
        await self.refuse()
        await self._closes_in_time(trigger)
        await self.accept()

    async def _closes_in_time(self, trigger: Trigger) -> None:
        began = time.monotonic()
        await asyncio.wait_for(trigger.close(2), 5)
        assert time.monotonic() - began < 3, "close(2) took longer than its deadline"

    async def test_two_of_a_kind_do_not_see_each_others_events(self) -> None:
        settings = await self.elsewhere()
        mine = await self.opened()
        other: Trigger = self.trigger(settings, self.shared(), self.make_context())
        self._made.append(other)
        await other.connect()
        await self.put(1)
        reading = asyncio.ensure_future(other.read(10))
        try:
            assert len(await self.finish(mine, 1)) == 1
            assert not (await asyncio.wait({reading}, timeout=0.1))[0], "it has read what is not its own"
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    # --- what it hands over ------------------------------------------------------------------------------------------

    async def test_a_record_says_what_it_is(self) -> None:
        trigger = await self.opened()
        await self.put(1)
        batch = await self.read(trigger)
        (record,) = batch.records
        assert record.id
        assert isinstance(msgspec.json.decode(record.payload), dict), "one record is one JSON object"
        assert record.receives == 1
        nows = (self.clock.now_ms(), time.time() * 1000)  # it may be the server's clock
        assert record.arrived_ms == 0 or min(abs(record.arrived_ms - now) for now in nows) < DAY_MS, (
            f"arrived_ms is {record.arrived_ms}: expected epoch milliseconds, or 0 where the source does not say"
        )
        if isinstance(trigger, Encodes):
            msgspec.json.decode(trigger.encode(batch.records))
        if isinstance(trigger, Filterable):
            seen = msgspec.json.decode(record.payload)
            root = getattr(trigger, "filtering", Filtering()).root
            assert trigger.data_key in (seen if root is None else seen[root])
        await self.settle(trigger, batch)

    async def test_every_event_arrives_once_in_batches_within_the_limit(self) -> None:
        trigger = await self.opened()
        for number in range(7):
            await self.put(number)
        seen: list[str] = []
        while len(seen) < 7:
            batch = await self.read(trigger, 3)  # `read` here asserts the limit
            seen += [record.id for record in batch.records]
            await self.settle(trigger, batch)
        assert len(set(seen)) == 7, f"ids came twice: {seen}"

    async def test_it_waits_for_the_first_and_not_for_a_full_batch(self) -> None:
        trigger = await self.opened()
        reading = asyncio.ensure_future(trigger.read(10))
        await asyncio.wait({reading}, timeout=0.1)
        assert not reading.done(), "there is nothing to be read"
        await self.put(1)
        batch = await self.waited(reading, "read() waits for more than there is")
        assert len(batch.records) == 1
        await self.settle(trigger, batch)

    async def test_the_order_of_a_group_is_kept(self) -> None:
        if not self.trigger.traits.ordered:
            pytest.skip("this source promises no order")
        trigger = await self.opened()
        for number in range(7):
            await self.put(number)
        records = await self.finish(trigger, 7, limit=2)
        assert len({record.group for record in records}) == 1, "`put` must fill one group"
        assert [self.number(record) for record in records] == list(range(7))

    async def test_a_cancelled_read_has_taken_nothing(self) -> None:
        trigger = await self.opened()
        for turns in range(12):
            # The event arrives while the read runs, and the cancel hits a different moment each time.
            reading = asyncio.ensure_future(trigger.read(10))
            await asyncio.sleep(0)
            await self.put(turns)
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            try:
                batch = await reading
            except asyncio.CancelledError:
                batch = await self.read(trigger)
            assert len(batch.records) == 1
            await self.settle(trigger, batch)

    async def test_what_comes_while_nobody_reads_waits_outside(self) -> None:
        trigger = await self.opened()
        flood = 400
        tracemalloc.start()
        try:
            for number in range(flood):
                await self.put(number)
            held = self.blocks_held()
        finally:
            tracemalloc.stop()
        assert held < flood, f"{held} pieces of memory are held for {flood} events that nobody has read"
        await self.finish(trigger, flood, limit=100)

    async def test_what_is_in_hand_is_not_handed_out_again(self) -> None:
        trigger = await self.opened()
        for number in range(3):
            await self.put(number)
        batch = await self.read(trigger)
        reading = asyncio.ensure_future(trigger.read(10))
        await asyncio.wait({reading}, timeout=0.1)  # no time passes on the clock: no lease runs out
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        others = () if reading.cancelled() else reading.result().records
        ids = [record.id for record in (*batch.records, *others)]
        assert len(set(ids)) == len(ids), f"handed out twice: {ids}"
        if not reading.cancelled():
            await self.settle(trigger, reading.result())
        await self.settle(trigger, batch)
        if len(ids) < 3:
            await self.finish(trigger, 3 - len(ids))

    # --- how it settles ----------------------------------------------------------------------------------------------

    async def test_what_is_done_never_comes_again(self) -> None:
        trigger = await self.opened()
        first = await self.next_new(trigger, 1)
        second = await self.next_new(trigger, 2)
        await close(trigger)
        third = await self.next_new(await self.opened(), 3)
        assert len({first.id, second.id, third.id}) == 3

    async def test_what_is_to_be_retried_comes_again(self) -> None:
        if self.trigger.traits.ack == "none":
            pytest.skip("this source cannot hand anything out again")
        trigger = await self.opened()
        await self.put(1)
        first = await self.read(trigger)
        await self.settle(trigger, first, Retry(after=0))
        again = await self.read(trigger)
        assert [record.id for record in again.records] == [record.id for record in first.records]
        await self.settle(trigger, again)

    async def test_a_record_that_comes_again_is_the_same_and_says_so(self) -> None:
        if self.trigger.traits.ack == "none":
            pytest.skip("this source cannot hand anything out again")
        trigger = await self.opened()
        await self.put(1)
        first = await self.read(trigger)
        await self.settle(trigger, first, Retry(after=0))
        second = await self.read(trigger)
        (one,), (other,) = first.records, second.records
        assert (one.id, one.group, one.dedupe_key) == (other.id, other.group, other.dedupe_key)
        if self.trigger.traits.invocation == "request_response" and self.counts_receives:
            assert other.receives > one.receives, "receives must grow, or set counts_receives = False"
        await self.settle(trigger, second)

    async def test_each_record_of_a_batch_ends_in_its_own_way(self) -> None:
        if self.trigger.traits.ack != "record":
            pytest.skip("this source does not settle single records")
        trigger = await self.opened()
        for number in range(3):
            await self.put(number)
        fates: list[Settlement] = [DONE, Retry(after=0), Reject("it can never be handled")]
        ended: dict[str, Settlement] = {}
        while len(ended) < 3 or isinstance(list(ended.values())[1], Retry):
            batch = await self.read(trigger)
            answers: list[Settlement] = []
            for record in batch.records:
                before = ended.get(record.id)
                assert before is None or isinstance(before, Retry), f"{record.id} came again after {before}"
                ended[record.id] = fates[len(ended)] if before is None else DONE
                answers.append(ended[record.id])
            await self.settle(trigger, batch, *answers)
        assert (await self.next_new(trigger, 3)).id not in ended

    async def test_what_was_not_settled_comes_again_after_a_restart(self) -> None:
        if not self.trigger.traits.replayable:
            pytest.skip("this source keeps nothing")
        trigger = await self.opened()
        await self.put(1)
        await self.put(2)
        lost = {record.id for record in (await self.read(trigger)).records}
        await close(trigger)
        again = await self.finish(await self.opened(), 2)
        assert lost <= {record.id for record in again}

    async def test_what_was_kept_and_not_settled_is_known_again(self) -> None:
        trigger = await self.opened()
        await self.put(1)
        (record,) = (await self.read(trigger)).records
        if record.position is None and record.dedupe_key is None:
            pytest.skip("the host keeps nothing for its records")
        # The node dies between the commit of an event and its settlement.
        if record.position is not None:
            await self.positions.put(record.position.key, record.position.value)
        await close(trigger)
        again = await self.opened()
        await self.put(2)
        for other in await self.finish(again, 1):
            assert other.id != record.id or (other.dedupe_key is not None and other.dedupe_key == record.dedupe_key), (
                "nothing stops it from being announced twice"
            )

    async def test_a_settlement_that_comes_after_a_reconnect_ends_nothing_else(self) -> None:
        if not self.trigger.traits.replayable:
            pytest.skip("this source keeps nothing")
        trigger = await self.opened()
        await self.put(1)
        late = await self.read(trigger)
        await self.refuse()
        with pytest.raises(ConnectorError):
            await self.read(trigger)
        await self.accept()
        await trigger.connect()
        await self.put(2)
        await self.read(trigger)
        with contextlib.suppress(ConnectorError):
            await self.settle(trigger, late)
        await close(trigger)
        again = await self.opened()
        known = {record.id for record in late.records}
        found: set[str] = set()
        while not found - known:
            batch = await self.read(again)
            found |= {record.id for record in batch.records}
            await self.settle(again, batch)

    async def test_a_settlement_after_its_lease_ends_nothing_else(self) -> None:
        trigger = await self.opened()
        if not isinstance(trigger, Extends):
            pytest.skip("this source gives no leases")
        await self.put(1)
        late = await self.read(trigger)
        await self.lapse()
        again = await self.read(trigger)
        assert [record.id for record in again.records] == [record.id for record in late.records]
        with contextlib.suppress(ConnectorError):
            await self.settle(trigger, late, Retry(after=0))
        with contextlib.suppress(ConnectorError):
            await self.settle(trigger, again)
        assert (await self.next_new(trigger, 2)).id != late.records[0].id

    async def test_what_a_killed_reader_had_comes_again(self) -> None:
        if not self.outside:
            pytest.skip("no other process can read this source, or `outside` does not say so")
        if not self.trigger.traits.replayable:
            pytest.skip("this source keeps nothing")
        for number in range(6):
            await self.put(number)
        async with killed_reader(self.trigger, self.settings(), self.shared(), self.folder, limit=3) as hands:
            assert hands.held
        trigger = await self.opened()
        found: set[str] = set()
        while not set(hands.held) <= found or len(found | set(hands.settled)) < 6:
            batch = await self.read(trigger)
            found |= {record.id for record in batch.records}
            await self.settle(trigger, batch)

    async def test_what_comes_after_a_reconnect_arrives_although_what_came_before_is_lost(self) -> None:
        if self.trigger.traits.ack != "none":
            pytest.skip("this source loses nothing")
        trigger = await self.opened()
        first = await self.next_new(trigger, 1)
        await self.refuse()
        with pytest.raises(ConnectorError):
            await self.read(trigger)
        await self.accept()
        await trigger.connect()
        assert (await self.next_new(trigger, 2)).id != first.id

    async def test_what_came_while_it_was_closed_arrives(self) -> None:
        if not self.trigger.traits.replayable:
            pytest.skip("this source keeps nothing")
        trigger = await self.opened()
        await close(trigger)
        await self.put(1)
        assert len(await self.finish(await self.opened(), 1)) == 1

    async def test_a_lease_can_be_made_longer(self) -> None:
        trigger = await self.opened()
        if not isinstance(trigger, Extends):
            pytest.skip("this source gives no leases")
        await self.put(1)
        batch = await self.read(trigger)
        await trigger.extend(batch, 3600)
        await self.clock.advance(600)
        await self.settle(trigger, batch)
        assert (await self.next_new(trigger, 2)).id != batch.records[0].id

    async def test_it_can_say_how_far_behind_it_is(self) -> None:
        trigger = await self.opened()
        if not isinstance(trigger, Pending):
            pytest.skip("this source cannot say")
        for number in range(3):
            await self.put(number)
        assert await trigger.pending() >= 3
        await self.finish(trigger, 3)
        assert await trigger.pending() == 0

    # --- under the host that a node has ------------------------------------------------------------------------------

    async def test_all_is_handled_although_the_function_fails_with_one_in_ten(self) -> None:
        traits = self.trigger.traits
        function, watched = Unsteady(), WatchedTrigger(self.make())
        events = 30
        async with hosted(watched, self.settings(), self.name, self.positions, function):
            await self.until(lambda: watched.connected, "it did not connect")
            for number in range(events):
                await self.put(number)
            await self.until(lambda: len(function.handled) == events, "not everything was handled")
            await self.until(lambda: not watched.held, "something was not settled")
        assert function.failures == events // 10
        assert not watched.settled_twice
        assert set(watched.done.values()) == {1}, f"settled as done more than once: {watched.done.most_common(3)}"
        if traits.ordered:
            numbers = [self.number(record) for record in function.handled.values()]
            assert numbers == list(range(events)), "an event was handled before one that came earlier"

    async def test_a_slow_function_holds_back_the_reading(self) -> None:
        bound = BATCH_SIZE * (CONCURRENCY + 1)
        if self.trigger.traits.invocation == "event":
            bound = ANNOUNCED_AT_ONCE
        function, watched = Stuck(), WatchedTrigger(self.make())
        half = 100
        async with hosted(watched, self.settings(), self.name, self.positions, function):
            await self.until(lambda: watched.connected, "it did not connect")
            tracemalloc.start()
            try:
                for number in range(half):
                    await self.put(number)
                await self._until_it_reads_no_more(watched)
                before = self.blocks_held()
                for number in range(half, 2 * half):
                    await self.put(number)
                await self._until_it_reads_no_more(watched)
                grown = self.blocks_held() - before
            finally:
                tracemalloc.stop()
            assert watched.most_held <= bound, f"{watched.most_held} records are in hand, and {bound} are allowed"
            # A name of each may be known; its content is another matter.
            assert grown < 2 * half, f"{grown} more pieces of memory are held for {half} events that nobody has read"
            function.let_go.set()
            await self.until(lambda: len(function.handled) == 2 * half, "not everything was handled")
            await self.until(lambda: not watched.held, "something was not settled")
        assert set(watched.done.values()) == {1}

    async def _until_it_reads_no_more(self, watched: WatchedTrigger) -> None:
        await self.until(lambda: watched.held, "nothing was read")
        steady, held = 0, 0
        while steady < 20:
            steady, held = (steady + 1 if held == watched.held else 0), watched.held
            await asyncio.sleep(0.005)
            await self.pass_time()

"""The conformance suite for streams: sources that only know "all up to here". Subclass it and run pytest.

    class TestMyStream(StreamSuite):
        trigger = MyTrigger
        name = "my"                                     # its `type` in eventfn.toml

        def settings(self):
            return MyTrigger.Settings(topic=self.topic) # a topic of its own for every test

        async def put(self, number, key=None):
            ...                                         # one event into the stream, told apart by its number

        def number(self, record):
            return json.loads(record.payload)["value"]

The suite plays the host, one step at a time (stream_host.py). Two hosts at once are two nodes, with the same settings:
where the server shares out the shards they are one group. What needs two shards or more to be seen is skipped when
there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from typing import ClassVar, Literal, cast

import msgspec
import pytest
import pytest_asyncio

from eventfn.bus.shard import SMALLEST_BUFFER
from eventfn.bus.stream import HostAssignments
from eventfn.engine.contract import Engine
from eventfn.engine.memory import MemoryEngine
from eventfn.errors import ConnectorError
from eventfn.event import Batch, Record
from eventfn.testing.closing import close
from eventfn.testing.contexts import trigger_context
from eventfn.testing.hosted import BATCH_SIZE, Handle, Stuck, Unsteady, WatchedStream, hosted_stream
from eventfn.testing.reader import killed_reader
from eventfn.testing.sources import SourceSuite
from eventfn.testing.stream_host import StreamHost
from eventfn.trigger import Assignments, Describes, Encodes, Filtering, Lists, Pending, Start, Stream, TriggerContext

TRIM_HORIZON = Start("TRIM_HORIZON")
LATEST = Start("LATEST")
DAY_MS = 24 * 3_600_000


class StreamSuite(SourceSuite):
    verbs = ("connect", "open_shard", "close")

    tick: ClassVar[float] = 0.005  # real seconds after which the source's clock tells two events apart
    flood: ClassVar[int] = 400  # events that come while nobody reads

    kept: dict[str, str]  # the positions that the host remembers

    # --- what a subclass says, beside what SourceSuite asks ----------------------------------------------------------

    async def put(self, number: int, key: str | None = None) -> None:
        """Puts exactly one event into the stream. Events of one key go into one shard; without one, into any."""
        raise NotImplementedError

    def number(self, record: Record) -> int:
        """The number that `put` was given for this record."""
        raise NotImplementedError

    async def split(self) -> None:
        """Makes every shard that is open end, with children that take what is put in from now on. Not overridden: its
        shards have no end."""
        pytest.skip("the shards of this source have no end")

    def make_stream_context(self, host: Assignments) -> TriggerContext:
        return trigger_context(self.folder, clock=self.clock, positions=self.positions, assignments=host)

    # --- the host, played by the suite -------------------------------------------------------------------------------

    @pytest_asyncio.fixture(autouse=True)
    async def hosts(self, host: None) -> AsyncIterator[None]:
        self.kept = {}
        self._hosts: list[StreamHost] = []
        yield
        for each in self._hosts:
            await each.close(1)

    @functools.cached_property
    def context(self) -> TriggerContext:
        return self.make_stream_context(StreamHost(self.start, {}))

    @property
    def start(self) -> Start:
        """Where a test starts to which it does not matter: it opens first, and puts in what it reads afterwards."""
        return TRIM_HORIZON if "TRIM_HORIZON" in self.trigger.traits.starting_positions else LATEST

    def make(self, start: Start | None = None) -> StreamHost:
        """A host with a stream of its own, not connected. All of one test remember the same positions."""
        host = StreamHost(start or self.start, self.kept)
        host.stream = cast(Stream, self.trigger(self.settings(), self.shared(), self.make_stream_context(host)))
        self._hosts.append(host)
        return host

    async def opened(self, start: Start | None = None) -> StreamHost:
        host = self.make(start)
        await self.waited(host.connect(), "no shard was given to the host")
        return host

    async def read(self, host: StreamHost, limit: int = 10) -> tuple[str, Batch]:
        shard, batch = await self.waited(host.read(limit), "read() gave nothing")
        assert 1 <= len(batch.records) <= limit, f"read({limit}) returned {len(batch.records)} records"
        return shard, batch

    async def numbers(self, host: StreamHost, count: int, limit: int = 10, *, done: bool = True) -> list[int]:
        """Reads until so many records have come, connecting again where it has to."""
        found: list[int] = []
        while len(found) < count:
            try:
                shard, batch = await self.read(host, limit)
            except ConnectorError:
                await self.waited(self._connected_again(host), "it could not be connected to again")
                continue
            if done:
                with contextlib.suppress(ConnectorError):  # not committed: then it comes again
                    await host.done(shard, *batch.records)
            found += [self.number(record) for record in batch.records]
        return found

    async def _connected_again(self, host: StreamHost) -> None:
        while True:
            try:
                await host.connect()
                return
            except ConnectorError:
                await asyncio.sleep(0.01)

    async def nothing_more(self, host: StreamHost, number: int, key: str | None = "one") -> None:
        """Puts one more event in: what was to come before it has come by then."""
        await self.put(number, key)
        assert await self.numbers(host, 1) == [number], "something else came too"

    async def one_shard(self) -> tuple[StreamHost, str]:
        """A host that has read event 0, whose key is "one", and the shard in which all events of that key are."""
        host = await self.opened()
        await self.put(0, "one")
        shard, batch = await self.read(host)
        await host.done(shard, *batch.records)
        return host, shard

    # --- what it says about itself -----------------------------------------------------------------------------------

    async def test_its_traits_are_those_of_a_stream(self) -> None:
        traits = self.trigger.traits
        assert (traits.invocation, traits.ack) == ("request_response", "prefix")
        assert traits.ordered, "a shard has an order"
        assert traits.replayable, "a position is there to go back to"
        assert 1 <= traits.default_batch_size <= traits.max_batch_size <= 10_000
        assert {"TRIM_HORIZON", "LATEST"} & set(traits.starting_positions), "a new source has to start somewhere"

    async def test_it_lists_its_shards_or_is_given_them(self) -> None:
        host, _ = await self.one_shard()
        ids = list(host.shards)
        assert len(set(ids)) == len(ids)
        if isinstance(host.stream, Lists):
            assert not host.history, "a stream that lists its shards reports none to the host"
            assert [shard.id for shard in await host.stream.shards()] == ids, "ids must be the same every time"
        else:
            assert [shard for _, shard in host.history] == ids

    # --- its life ----------------------------------------------------------------------------------------------------

    async def test_it_connects_and_closes(self) -> None:
        await (await self.opened()).close()

    async def test_it_closes_after_half_a_start(self) -> None:
        await close(self.make().stream)

    async def test_it_closes_twice(self) -> None:
        host = await self.opened()
        await host.close()
        await host.close()

    async def test_it_closes_while_a_read_hangs(self) -> None:
        host = await self.opened()
        reading = [asyncio.ensure_future(reader.read(10)) for reader in host.readers.values()]
        await asyncio.sleep(0)
        began = time.monotonic()
        try:
            await asyncio.wait_for(host.stream.close(2), 5)
        finally:
            for read in reading:
                read.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
        assert time.monotonic() - began < 3, "close(2) took longer than its deadline"

    async def test_a_source_that_is_down_is_a_connector_error_until_it_is_up(self) -> None:
        await self.refuse()
        host = self.make()
        with pytest.raises(ConnectorError):
            await self.waited(host.connect(), "connect() neither succeeded nor raised ConnectorError")
        await self.accept()
        await self.waited(self._connected_again(host), "it could not be connected to")
        await self.nothing_more(host, 1)

    async def test_it_goes_on_where_it_was_after_it_lost_its_source(self) -> None:
        host = await self.opened()
        await self.put(0, "one")
        assert await self.numbers(host, 1) == [0]
        await self.refuse()
        await self.accept()
        for number in range(1, 6):
            await self.put(number, "one")
        found: dict[int, None] = {}  # what was read twice counts where it came first
        while len(found) < 5:
            found.update(dict.fromkeys(await self.numbers(host, 1, limit=2)))
        assert list(found) == [1, 2, 3, 4, 5]

    async def test_two_of_a_kind_do_not_see_each_others_events(self) -> None:
        settings = await self.elsewhere()
        mine = await self.opened()
        other = StreamHost(self.start, {})
        other.stream = cast(Stream, self.trigger(settings, self.shared(), self.make_stream_context(other)))
        self._hosts.append(other)
        await self.waited(other.connect(), "no shard was given to the host")
        reading = asyncio.ensure_future(other.read(10))
        try:
            await self.nothing_more(mine, 1)
            assert not (await asyncio.wait({reading}, timeout=0.1))[0], "it has read what is not its own"
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    # --- what it hands over ------------------------------------------------------------------------------------------

    async def test_a_record_says_what_it_is(self) -> None:
        host = await self.opened()
        await self.put(7, "one")
        shard, batch = await self.read(host)
        (record,) = batch.records
        assert record.id
        assert self.number(record) == 7
        assert isinstance(msgspec.json.decode(record.payload), dict), "one record is one JSON object"
        assert record.receives >= 1
        if record.arrived_ms or "AT_TIMESTAMP" in self.trigger.traits.starting_positions:  # 0: it does not say
            assert abs(record.arrived_ms - time.time() * 1000) < DAY_MS, "arrived_ms is the epoch's milliseconds"
        assert isinstance(host.readers[shard].position(record), str)

    async def test_its_events_are_json(self) -> None:
        host = await self.opened()
        if not isinstance(host.stream, Encodes):
            pytest.skip('its events are {"Records": [...]}')
        await self.put(1, "one")
        _, batch = await self.read(host)
        msgspec.json.decode(host.stream.encode(batch.records))

    async def test_a_filter_finds_what_it_is_about(self) -> None:
        data_key = getattr(self.trigger, "data_key", None)
        if data_key is None:
            pytest.skip("it has no data_key")
        filtering = getattr(self.trigger, "filtering", Filtering())
        host = await self.opened()
        await self.put(1, "one")
        _, batch = await self.read(host)
        record = msgspec.json.decode(batch.records[0].payload)
        seen = record if filtering.root is None else record[filtering.root]
        assert data_key in seen, f"data_key is {data_key!r}, and a record has {', '.join(seen)}"
        for key in filtering.base64_keys:
            assert seen.get(key) is None or isinstance(seen[key], str), f"{key} is base64 of something, or null"

    async def test_it_describes_a_batch_that_failed(self) -> None:
        host = await self.opened()
        if not isinstance(host.stream, Describes):
            pytest.skip("it has no words of its own for a batch")
        for number in range(3):
            await self.put(number, "one")
        records: list[Record] = []
        shard = ""
        while len(records) < 3:
            shard, batch = await self.read(host)
            records += batch.records
        for some in (records, records[:1], records[1:]):
            described = host.stream.describe(shard, some)
            assert described.key
            assert described.exhausted
            assert msgspec.json.decode(msgspec.json.encode(described.info)) == described.info, "the info is JSON"
        whole, part = host.stream.describe(shard, records), host.stream.describe(shard, records[:1])
        assert whole.info != part.info, "it describes the records that it is given"

    async def test_it_waits_until_there_is_something(self) -> None:
        host = await self.opened()
        reading = asyncio.ensure_future(host.read(10))
        for _ in range(20):
            await asyncio.sleep(0.005)
            await self.pass_time()
        assert not reading.done(), "there is nothing to be read"
        await self.put(1, "one")
        _, batch = await self.waited(reading, "read() did not see the event")
        assert [self.number(record) for record in batch.records] == [1]

    async def test_every_event_arrives_once_in_batches_within_the_limit(self) -> None:
        host = await self.opened()
        for number in range(20):
            await self.put(number, f"key-{number % 5}")
        ids: list[str] = []
        numbers: list[int] = []
        while len(numbers) < 20:
            shard, batch = await self.read(host, 3)  # `read` here asserts the limit
            ids += [record.id for record in batch.records]
            numbers += [self.number(record) for record in batch.records]
            await host.done(shard, *batch.records)
        assert sorted(numbers) == list(range(20))
        assert len(set(ids)) == 20, f"ids came twice: {ids}"
        await self.nothing_more(host, 20)

    async def test_the_order_of_a_key_is_kept(self) -> None:
        host = await self.opened()
        keys = ("one", "two", "three")
        for number in range(18):
            await self.put(number, keys[number % 3])
        numbers = await self.numbers(host, 18, limit=4)
        for place in range(3):
            assert [n for n in numbers if n % 3 == place] == list(range(place, 18, 3)), "the order of a key is lost"

    async def test_a_cancelled_read_has_taken_nothing(self) -> None:
        host, shard = await self.one_shard()
        reader = host.readers[shard]
        found: list[int] = []
        for turns in range(12):
            # The event arrives while the read runs, and the cancel hits a different moment each time.
            reading = asyncio.ensure_future(reader.read(10))
            await asyncio.sleep(0)
            await self.put(turns + 1, "one")
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            try:
                batch = await reading
            except asyncio.CancelledError:
                batch = await self.waited(reader.read(10), "an event that came before the cancel was not seen")
            found += [self.number(record) for record in batch.records]
        assert found == list(range(1, 13))

    async def test_a_flood_waits_outside_and_is_read_completely(self) -> None:
        host = await self.opened()
        tracemalloc.start()
        try:
            for number in range(self.flood):
                await self.put(number, f"key-{number % 7}")
            held = self.blocks_held()
        finally:
            tracemalloc.stop()
        assert held < self.flood, f"{held} pieces of memory are held for {self.flood} events that nobody has read"
        counted = Counter(await self.numbers(host, self.flood, limit=100))
        assert counted == Counter(range(self.flood)), "something is missing, or came twice"

    async def test_it_can_say_how_far_behind_it_is(self) -> None:
        host = await self.opened()
        if not isinstance(host.stream, Pending):
            pytest.skip("this source cannot say")
        for number in range(3):
            await self.put(number, "one")
        assert await host.stream.pending() >= 3
        await self.numbers(host, 3)
        behind = await host.stream.pending()
        for _ in range(100):  # what was committed may need a moment to be counted
            if behind == 0:
                break
            await asyncio.sleep(0.01)
            await self.pass_time()
            behind = await host.stream.pending()
        assert behind == 0, "all of it is done"

    # --- positions ---------------------------------------------------------------------------------------------------

    async def test_a_position_is_right_behind_its_record(self) -> None:
        host, shard = await self.one_shard()
        for number in range(1, 5):
            await self.put(number, "one")
        records: list[Record] = []
        while len(records) < 4:
            records += (await self.read(host, 3))[1].records
        for place, record in enumerate(records[:-1]):
            at = host.readers[shard].position(record)
            reader = await host.stream.open_shard(host.shards[shard], at)
            try:
                batch = await self.waited(reader.read(1), "read() gave nothing")
                assert [self.number(each) for each in batch.records] == [place + 2], f"opened behind {place + 1}"
            finally:
                await reader.close()

    async def test_a_record_is_the_same_each_time_it_is_read(self) -> None:
        host, shard = await self.one_shard()
        at = host.readers[shard].position
        await self.put(1, "one")
        _, first = await self.read(host)
        await host.close()
        again = await self.opened()
        _, second = await self.read(again)
        (one,), (other,) = first.records, second.records
        assert (one.id, one.payload, one.group) == (other.id, other.payload, other.group)
        assert one.arrived_ms == other.arrived_ms
        assert at(one) == again.readers[shard].position(other)

    async def test_the_trim_horizon_is_where_it_all_begins(self) -> None:
        self._offers("TRIM_HORIZON")
        for number in range(3):
            await self.put(number, "one")
        assert await self.numbers(await self.opened(TRIM_HORIZON), 3) == [0, 1, 2]

    async def test_the_latest_is_what_comes_after_it_was_opened(self) -> None:
        self._offers("LATEST")
        for number in range(3):
            await self.put(number, "one")
        host = await self.opened(LATEST)
        for number in range(3, 6):
            await self.put(number, "one")
        assert await self.numbers(host, 3) == [3, 4, 5]

    async def test_a_timestamp_is_where_it_begins(self) -> None:
        self._offers("AT_TIMESTAMP")
        first = await self.opened()
        arrived: list[int] = []
        for number in range(4):
            await self.put(number, "one")
            _, batch = await self.read(first)
            arrived += [record.arrived_ms for record in batch.records]
            await asyncio.sleep(self.tick)  # the one thing that has to be waited for by the clock: the clock
        await first.close()
        wanted = [number for number, at in enumerate(arrived) if at >= arrived[2]]
        assert wanted != [0, 1, 2, 3], "the source's clock did not move: set `tick`"
        host = await self.opened(Start("AT_TIMESTAMP", arrived[2]))
        assert await self.numbers(host, len(wanted)) == wanted

    async def test_what_was_not_done_comes_again_after_a_restart(self) -> None:
        host, _ = await self.one_shard()
        for number in range(1, 4):
            await self.put(number, "one")
        assert await self.numbers(host, 3, done=False) == [1, 2, 3]
        await host.close()
        assert await self.numbers(await self.opened(), 3) == [1, 2, 3]

    async def test_a_restart_continues_right_behind_what_is_done(self) -> None:
        host, shard = await self.one_shard()
        for number in range(1, 6):
            await self.put(number, "one")
        records: list[Record] = []
        while len(records) < 5:
            records += (await self.read(host))[1].records
        await host.done(shard, *records[:3])
        await host.close()
        assert await self.numbers(await self.opened(), 2) == [4, 5]

    async def test_what_came_while_it_was_closed_arrives(self) -> None:
        host, _ = await self.one_shard()
        await host.close()
        await self.put(1, "one")
        assert await self.numbers(await self.opened(), 1) == [1]

    async def test_what_a_killed_reader_had_comes_again(self) -> None:
        if not self.outside:
            pytest.skip("no other process can read this source, or `outside` does not say so")
        self._offers("TRIM_HORIZON")
        for number in range(6):
            await self.put(number, "one")
        async with killed_reader(self.trigger, self.settings(), self.shared(), self.folder, limit=3) as hands:
            assert hands.held
        host = await self.opened()
        found: set[str] = set()
        while not set(hands.held) <= found or len(found | set(hands.settled)) < 6:
            shard, batch = await self.read(host)
            await host.done(shard, *batch.records)
            found |= {record.id for record in batch.records}

    def _offers(self, position: Literal["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"]) -> None:
        if position not in self.trigger.traits.starting_positions:
            pytest.skip(f"this source cannot start at {position}")

    # --- shards that come, go and end --------------------------------------------------------------------------------

    async def test_shards_move_to_a_second_node_and_nothing_is_lost(self) -> None:
        first, shards = await self._group()
        for number in range(40):
            await self.put(number, f"key-{number}")
        seen = Counter(await self.numbers(first, 5, limit=1))
        second = self.make()
        async with self._working(first, seen), self._working(second, seen):
            await self.until(lambda: bool(second.shards), "no shard moved")
            assert not set(first.shards) & set(second.shards), "a shard is in two hands"
            for number in range(40, 60):
                await self.put(number, f"key-{number}")
            await self.until(lambda: set(seen) == set(range(60)), "something was lost")
            assert set(first.shards) | set(second.shards) == shards
        taken = [shard for what, shard in first.history if what in ("revoke", "lost")]
        assert set(second.shards) <= set(taken), "the first one was not told"

    async def test_shards_come_back_when_the_second_node_leaves(self) -> None:
        first, shards = await self._group()
        seen: Counter[int] = Counter()
        second = self.make()
        async with self._working(first, seen):
            async with self._working(second, seen):
                await self.until(lambda: bool(second.shards), "no shard moved")
            await second.close()
            await self.until(lambda: set(first.shards) == shards, "the shards did not come back")
            for number in range(20):
                await self.put(number, f"key-{number}")
            await self.until(lambda: set(seen) == set(range(20)), "something was lost")

    async def test_what_was_not_done_of_a_shard_goes_to_its_next_owner(self) -> None:
        first, _ = await self._group()
        for number in range(40):
            await self.put(number, f"key-{number}")
        read = Counter(await self.numbers(first, 40, done=False))
        assert read == Counter(range(40))
        second = self.make()
        seen: Counter[int] = Counter()
        async with self._working(second, seen):
            await self.until(lambda: bool(second.shards), "no shard moved")
            await first.close()
            await self.until(lambda: set(seen) == set(range(40)), "what was never done is lost")

    async def test_a_shard_ends_and_its_children_go_on(self) -> None:
        host = await self.opened()
        before = set(host.shards)
        keys = ("one", "two", "three")
        for number in range(9):
            await self.put(number, keys[number % 3])
        await self.split()
        for number in range(9, 18):
            await self.put(number, keys[number % 3])
        numbers = await self.numbers(host, 18, limit=4)
        for place in range(3):
            assert [n for n in numbers if n % 3 == place] == list(range(place, 18, 3)), "a child came before its parent"
        assert before <= host.finished, "an empty batch says that a shard was read to its end"
        children = [shard for shard in host.shards.values() if shard.id not in before]
        assert children
        assert all(set(child.parents) <= before and child.parents for child in children)

    async def test_a_shard_that_ended_ends_again_after_a_restart(self) -> None:
        host, shard = await self.one_shard()
        await self.split()
        await self.put(1, "one")
        assert await self.numbers(host, 1) == [1]
        await host.close()
        again = await self.opened()
        await self.nothing_more(again, 2)
        assert shard in again.finished

    # --- under the host that a node has ------------------------------------------------------------------------------

    async def test_all_is_handled_although_the_function_fails_with_one_in_ten(self) -> None:
        engine = MemoryEngine()
        await engine.open(self.clock.now_ms())
        keys = ("one", "two", "three")
        events = 60
        function = Unsteady()
        async with self._node(engine, function):
            for number in range(events):
                await self.put(number, keys[number % 3])
            await self.until(lambda: len(function.handled) == events, "not everything was handled")
        assert function.failures == events // 10
        numbers = [self.number(record) for record in function.handled.values()]
        for place in range(3):
            assert [n for n in numbers if n % 3 == place] == list(range(place, events, 3)), "the order of a key is lost"
        after_the_restart = Unsteady()
        async with self._node(engine, after_the_restart):
            await self.put(events, keys[0])
            await self.until(lambda: after_the_restart.handled, "what came after the restart was not handled")
        again = [self.number(record) for record in after_the_restart.handled.values()]
        assert again == [events], "what was done is kept at a drain, and comes no more"
        await engine.close()

    async def test_a_slow_function_holds_back_the_reading(self) -> None:
        engine = MemoryEngine()
        await engine.open(self.clock.now_ms())
        function = Stuck()
        async with self._node(engine, function) as watched:
            for number in range(self.flood):
                await self.put(number, "one")
            await self.until(lambda: watched.read, "nothing was read")
            steady, read = 0, 0
            while steady < 20:
                steady, read = (steady + 1 if read == watched.read else 0), watched.read
                await asyncio.sleep(0.005)
                await self.pass_time()
            bound = SMALLEST_BUFFER + 2 * BATCH_SIZE  # what waits, what runs, and what was read while it was taken
            assert read <= bound, f"{read} records are in hand for one batch that is being handled"
            function.let_go.set()
            await self.until(lambda: len(function.handled) == self.flood, "not everything was handled")
        await engine.close()

    @contextlib.asynccontextmanager
    async def _node(self, engine: Engine, function: Handle) -> AsyncGenerator[WatchedStream]:
        assignments = HostAssignments()
        settings = self.settings()
        stream = WatchedStream(self.trigger(settings, self.shared(), self.make_stream_context(assignments)))
        async with hosted_stream(stream, assignments, settings, self.name, self.start, engine, function):
            await self.until(lambda: stream.opened, "no shard was opened")
            yield stream

    async def _group(self) -> tuple[StreamHost, set[str]]:
        host = await self.opened()
        if isinstance(host.stream, Lists):
            pytest.skip("the host shares out the shards of this source")
        if len(host.shards) < 2:
            pytest.skip("one shard cannot be shared: let settings() name a stream of several")
        return host, set(host.shards)

    def _working(self, host: StreamHost, seen: Counter[int]) -> _Working:
        return _Working(self, host, seen)


class _Working:
    """A node beside the test: it connects, reads, finishes what it read, and counts the numbers."""

    def __init__(self, suite: StreamSuite, host: StreamHost, seen: Counter[int]) -> None:
        self._suite = suite
        self._host = host
        self._seen = seen

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._work())

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.result()

    async def _work(self) -> None:
        if not self._host.readers:
            await self._host.connect()
        while True:
            shard, batch = await self._host.read(5)
            try:
                await self._host.done(shard, *batch.records)
            except ConnectorError:
                continue  # it is somebody else's by now, who does it again
            self._seen.update(self._suite.number(record) for record in batch.records)

"""The hard loop, with functions whose outcomes the test decides and a clock that it jumps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfn.bus.intake import Intake
from eventfn.bus.queues import NamedQueues
from eventfn.bus.source import Delays
from eventfn.engine.memory import MemoryEngine
from eventfn.errors import Backoff, ConnectorError, ShuttingDown, Throttled
from eventfn.event import MAX_SYNC_REQUEST, Batch, Outcome, Record
from eventfn.functions.model import Queue
from eventfn.testing import FakeClock, MemorySource, MemoryTrigger, trigger_context
from eventfn.trigger import DONE, RETRY, QueueMessage, Reject, Retry, Settlement
from eventfn.units import Duration
from eventfn_queue import QueueTrigger
from tests.bus.hosting import (
    FAILURE,
    SUCCESS,
    SYSTEM_ERROR,
    THROTTLED,
    Calls,
    CarelessSource,
    CheckedTrigger,
    binding,
    function,
    log,
    reported,
    settle_down,
    source_and_trigger,
)


class Bench:
    """An intake that runs, with everything around it."""

    def __init__(self, tmp_path: Path, timeout: float = 3, **intake: Any) -> None:
        self.clock = FakeClock()
        self.source, self.trigger = source_and_trigger(self.clock, tmp_path)
        self.calls = Calls()
        self._made: Callable[[], Intake] = lambda: Intake(
            function(timeout),
            binding(**intake),
            cast(Any, self.trigger),  # mypy takes no nested class for a protocol's class variable
            self.calls.invoke,
            self.clock,
            log=log,
            jitter=lambda: 1.0,  # delays are 1, 2, 4 ... seconds
        )
        self.intake = self._made()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Bench:
        self.start()
        await self.quiet()
        return self

    def start(self) -> None:
        self._task = asyncio.create_task(self.intake.run())

    async def __aexit__(self, *failure: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def restart(self) -> None:
        """As another node would: drained, and up again."""
        await self.drained(0)
        self.intake = self._made()
        self.start()
        await self.quiet()

    async def drained(self, deadline: float) -> None:
        draining = asyncio.create_task(self.intake.drain(deadline))
        while not draining.done():
            await settle_down(self.clock)
            if not draining.done() and self.clock.next_wake is not None:
                await self.clock.advance(self.clock.next_wake)
        assert self._task is not None
        await self._task

    async def quiet(self) -> None:
        await settle_down(self.clock)

    async def advance(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        await self.quiet()

    async def put(self, *events: Any, group: str | None = None) -> list[str]:
        ids = [self.source.put(event, group=group) for event in events]
        await self.quiet()
        return ids

    async def end(self, outcome: Any, call: int = 0) -> None:
        self.calls.running[call].end(outcome)
        await self.quiet()

    @property
    def running(self) -> list[list[Any]]:
        return [call.records for call in self.calls.running]

    @property
    def settled(self) -> list[tuple[str, Any]]:
        return self.source.settlements


# --- the working slice: a queue, through the intake, to a function ----------------------------------------------------


@pytest.fixture
async def queues() -> AsyncIterator[tuple[NamedQueues, FakeClock]]:
    clock = FakeClock()
    engine = MemoryEngine()
    await engine.open(clock.now_ms())
    declared = [
        Queue(name="jobs", dead_letter_queue="jobs-dead", max_receive_count=2),
        Queue(name="fifo", fifo=True, visibility_timeout=Duration(10)),
    ]
    queues = NamedQueues(engine, {queue.name: queue for queue in declared}, clock)
    waker = asyncio.create_task(queues.run())
    yield queues, clock
    waker.cancel()
    await asyncio.gather(waker, return_exceptions=True)
    await engine.close()


@contextlib.asynccontextmanager
async def consuming(
    queues: NamedQueues, clock: FakeClock, tmp_path: Path, queue: str, **intake: Any
) -> AsyncIterator[Calls]:
    calls = Calls()
    context = trigger_context(tmp_path, clock=clock, queues=queues)
    trigger: Any = QueueTrigger(QueueTrigger.Settings(queue=queue), None, context)
    host = Intake(function(), binding(**intake), trigger, calls.invoke, clock, log=log)
    task = asyncio.create_task(host.run())
    await settle_down(clock)
    yield calls
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_message_is_handled_and_gone(queues: tuple[NamedQueues, FakeClock], tmp_path: Path) -> None:
    named, clock = queues
    async with consuming(named, clock, tmp_path, "jobs") as calls:
        await named.send("jobs", [QueueMessage(body=b"one"), QueueMessage(body=b"two")])
        await settle_down(clock)
        (call,) = calls.running
        assert call.function == "hello"
        assert [record["body"] for record in call.records] == ["one", "two"]
        call.end(SUCCESS)
        await settle_down(clock)
        assert await named.depth("jobs") == 0


async def test_a_failing_message_ends_in_the_dead_letters(
    queues: tuple[NamedQueues, FakeClock], tmp_path: Path
) -> None:
    named, clock = queues
    async with consuming(named, clock, tmp_path, "jobs") as calls:
        await named.send("jobs", [QueueMessage(body=b"bad")])
        for receives in ("1", "2"):
            await settle_down(clock)
            (call,) = calls.running
            assert call.records[0]["attributes"]["ApproximateReceiveCount"] == receives
            call.end(FAILURE)
            await settle_down(clock)
            assert calls.running == [], "it is hidden until its timeout ends"
            await clock.advance(30)
        await settle_down(clock)
        assert (await named.depth("jobs"), await named.depth("jobs-dead")) == (0, 1)


async def test_messages_that_do_not_match_are_deleted_without_a_call(
    queues: tuple[NamedQueues, FakeClock], tmp_path: Path
) -> None:
    named, clock = queues
    wanted = [{"body": {"kind": ["order"]}}]
    async with consuming(named, clock, tmp_path, "jobs", filter_criteria=wanted) as calls:
        await named.send(
            "jobs", [QueueMessage(body=body) for body in (b'{"kind": "order"}', b'{"kind": "x"}', b"text")]
        )
        await settle_down(clock)
        (call,) = calls.running
        assert [record["body"] for record in call.records] == ['{"kind": "order"}']
        call.end(SUCCESS)
        await settle_down(clock)
        assert await named.depth("jobs") == 0


async def test_a_long_function_keeps_its_messages(queues: tuple[NamedQueues, FakeClock], tmp_path: Path) -> None:
    named, clock = queues
    async with consuming(named, clock, tmp_path, "jobs") as calls:
        await named.send("jobs", [QueueMessage(body=b"one")])
        await settle_down(clock)
        for _ in range(20):
            await clock.advance(10)
        assert len(calls.started) == 1, "200 seconds, and it was not received again"
        calls.running[0].end(SUCCESS)
        await settle_down(clock)
        assert await named.depth("jobs") == 0


async def test_a_fifo_group_keeps_its_order_through_a_failure(
    queues: tuple[NamedQueues, FakeClock], tmp_path: Path
) -> None:
    named, clock = queues
    async with consuming(named, clock, tmp_path, "fifo", batch_size=1, report_batch_item_failures=True) as calls:
        for name in ("a1", "b1", "a2"):
            await named.send("fifo", [QueueMessage(body=name.encode(), group=name[0], dedupe_key=name)])
        await settle_down(clock)
        assert [call.records[0]["body"] for call in calls.running] == ["a1", "b1"]
        calls.running[0].end(FAILURE)
        await settle_down(clock)
        assert [call.records[0]["body"] for call in calls.running] == ["b1"]
        calls.running[0].end(SUCCESS)
        await settle_down(clock)
        await clock.advance(10)
        await settle_down(clock)
        assert [call.records[0]["body"] for call in calls.running] == ["a1"]


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_records_go_to_the_function_as_they_are(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        await bench.put({"n": 1.0}, {"n": [2, None]})
        (call,) = bench.calls.running
        assert call.payload in (b'{"Records":[{"n":1.0},{"n":[2,null]}]}', b'{"Records":[{"n":1.0}]}')
        await bench.end(SUCCESS)


async def test_a_window_waits_for_more(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=3, maximum_batching_window=Duration(5)) as bench:
        await bench.put(1)
        await bench.advance(4)
        await bench.put(2)
        assert bench.running == []
        await bench.advance(1)
        assert bench.running == [[1, 2]]
        await bench.put(3, 4, 5)
        assert bench.running == [[1, 2], [3, 4, 5]], "a full batch does not wait"


async def test_a_slow_start_is_covered_by_the_effective_visibility(tmp_path: Path) -> None:
    async with Bench(tmp_path, timeout=60, maximum_batching_window=Duration(5)) as bench:
        await bench.put(1)
        assert bench.trigger.extended == [(1, 95.0)]


async def test_a_lease_that_is_known_once_connected_is_what_is_kept_to(tmp_path: Path) -> None:
    class Late(CheckedTrigger):
        async def connect(self) -> None:
            await super().connect()
            self.lease = 6.0

    clock = FakeClock()
    source = MemorySource("late")
    trigger = Late(MemoryTrigger.Settings(name="late"), None, trigger_context(tmp_path, clock=clock))
    calls = Calls()
    intake = Intake(function(60), binding(), cast(Any, trigger), calls.invoke, clock, log=log, jitter=lambda: 1.0)
    task = asyncio.create_task(intake.run())
    await settle_down(clock)
    source.put("one")
    await settle_down(clock)
    await clock.advance(3)
    assert trigger.extended == [(1, 6.0)]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_batches_are_settled_beside_each_other_where_the_source_can(tmp_path: Path) -> None:
    class Slow(MemoryTrigger):
        traits = msgspec.structs.replace(MemoryTrigger.traits, settles_at_once=True)
        settling = 0
        most = 0

        async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
            self.settling += 1
            self.most = max(self.most, self.settling)
            await clock.sleep(1)
            self.settling -= 1
            await super().settle(batch, settlements)

    clock = FakeClock()
    source = MemorySource("slow")
    trigger = Slow(MemoryTrigger.Settings(name="slow"), None, trigger_context(tmp_path, clock=clock))
    calls = Calls()
    intake = Intake(
        function(60), binding(batch_size=1), cast(Any, trigger), calls.invoke, clock, log=log, jitter=lambda: 1.0
    )
    task = asyncio.create_task(intake.run())
    for number in range(3):
        source.put(str(number))
    await settle_down(clock)
    for call in list(calls.running):
        call.end(SUCCESS)
    await settle_down(clock)
    assert trigger.most == 3
    await clock.advance(1)
    assert source.pending == 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_no_more_batches_run_than_allowed_and_nothing_is_read_ahead_at_first(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=1, maximum_concurrency=2) as bench:
        await bench.put(*range(5))
        assert bench.running == [[0], [1]]
        assert sum(len(batch.records) for batch in bench.trigger.unsettled) == 2
        assert bench.intake.status.batches_in_flight == 2
        await bench.end(SUCCESS)
        assert bench.running == [[1], [2]]


async def test_with_a_backlog_more_batches_run_each_second_and_few_again_without(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=1, timeout=600) as bench:
        await bench.put(*range(100))
        assert len(bench.running) == 5
        await bench.advance(1)
        assert len(bench.running) == 10
        await bench.advance(60)
        assert len(bench.running) == 32
        for _ in range(96):
            await bench.end(SUCCESS)
        assert len(bench.running) == 4
        await bench.put(*range(100, 120))
        assert len(bench.running) == 5


async def test_as_many_batches_as_are_asked_for_run_whatever_the_backlog(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=1, maximum_concurrency=2, timeout=600) as bench:
        await bench.put(*range(100))
        await bench.advance(60)
        assert len(bench.running) == 2


async def test_one_batch_is_read_ahead_of_a_quick_function(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=1, maximum_concurrency=2) as bench:
        await bench.put(*range(9))
        await bench.advance(0.9)
        await bench.end(SUCCESS)
        assert bench.running == [[1], [2]]
        assert sum(len(batch.records) for batch in bench.trigger.unsettled) == 3
        await bench.advance(1)
        await bench.end(SUCCESS)  # which was slow: what is at hand runs, and no more is read
        assert bench.running == [[2], [3]]
        assert sum(len(batch.records) for batch in bench.trigger.unsettled) == 2


def unsettled(bench: Bench) -> int:
    return sum(len(batch.records) for batch in bench.trigger.unsettled)


async def quick_ones(bench: Bench, group: str | None = None) -> None:
    """So many in a row that the function is known to be quick. One more runs then."""
    for number in range(60):
        await bench.put(number, group=group)
        await bench.end(SUCCESS)
    await bench.put(60, group=group)


async def test_several_batches_are_read_ahead_of_a_function_that_is_quick_for_long(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=2, maximum_batching_window=Duration(0), maximum_concurrency=1) as bench:
        await quick_ones(bench)
        await bench.put(*range(61, 120))
        assert unsettled(bench) == 1 + 20
        for _ in range(4):
            await bench.end(SUCCESS)
        assert bench.running == [[67, 68]]
        assert unsettled(bench) == 20, "one read, which is settled as a whole"
        await bench.end(SUCCESS)
        assert unsettled(bench) == 20 + 10, "half of the room was free, and is filled"
        await bench.advance(0.5)
        for _ in range(6):  # the first one was slow: what is at hand runs, and no more is read
            await bench.end(SUCCESS)
        assert unsettled(bench) == 10


async def test_a_batch_that_fails_takes_nothing_with_it_that_was_read_with_it(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=1, maximum_concurrency=1) as bench:
        await quick_ones(bench)
        await bench.put(61, 62, 63)
        assert unsettled(bench) == 4
        await bench.end(SUCCESS)
        await bench.end(SUCCESS)
        await bench.end(FAILURE)
        assert unsettled(bench) == 3
        await bench.end(SUCCESS)
        assert [settlement for _, settlement in bench.settled[-3:]] == [DONE, RETRY, DONE]


async def test_one_batch_is_read_ahead_where_records_have_groups(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=1, maximum_concurrency=1) as bench:
        await quick_ones(bench, group="a")
        for number in range(61, 70):
            await bench.put(number, group=str(number))
        assert unsettled(bench) == 2


async def test_what_was_read_ahead_is_run_before_a_drain_ends(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=1, maximum_concurrency=1) as bench:
        await bench.put(*range(9))
        await bench.end(SUCCESS)
        assert bench.running == [[1]]
        draining = asyncio.create_task(bench.intake.drain(30))
        await bench.quiet()
        await bench.end(SUCCESS)
        assert bench.running == [[2]]
        await bench.end(SUCCESS)
        await asyncio.wait_for(draining, 60)
        assert bench.settled == [("1", DONE), ("2", DONE), ("3", DONE)]


async def test_what_was_read_ahead_is_handed_back_when_a_drains_time_is_over(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=1, maximum_concurrency=1) as bench:
        await bench.put(*range(9))
        await bench.end(SUCCESS)
        await bench.drained(5)
        assert bench.settled == [("1", DONE), ("3", Retry(0)), ("2", Retry(0))]


async def test_five_batches_run_at_once_unless_told(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=1) as bench:
        await bench.put(*range(9))
        assert len(bench.running) == 5


async def test_six_megabytes_are_the_most_in_one_call(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=100, maximum_batching_window=Duration(60)) as bench:
        await bench.put(*("x" * 2_000_000 for _ in range(4)))
        assert [len(call.records) for call in bench.calls.running] == [3]
        assert len(bench.calls.running[0].payload) <= MAX_SYNC_REQUEST


async def test_a_record_that_fits_in_no_call_is_rejected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Bench(tmp_path) as bench:
        (name,) = await bench.put("x" * MAX_SYNC_REQUEST)
        assert bench.running == []
        (settled,) = bench.settled
        assert settled[0] == name
        assert isinstance(settled[1], Reject)
        assert "more than a function can be invoked with" in caplog.text
        assert bench.intake.status.records_rejected == 1


# --- filters ----------------------------------------------------------------------------------------------------------


async def test_what_does_not_match_is_done_without_a_call(tmp_path: Path) -> None:
    async with Bench(tmp_path, filter_criteria=[{"kind": ["a"]}, {"kind": ["b"]}]) as bench:
        await bench.put({"kind": "c"})
        assert bench.settled == [("1", DONE)]
        await bench.put({"kind": "b"})
        assert bench.running == [[{"kind": "b"}]]
        assert (bench.intake.status.records_filtered, bench.intake.status.records_read) == (1, 2)


def test_a_filter_that_is_wrong_is_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Empty arrays are not allowed"):
        Bench(tmp_path, filter_criteria=[{"kind": []}])


# --- outcomes ---------------------------------------------------------------------------------------------------------


async def test_a_failed_batch_comes_again_by_the_sources_rules(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        await bench.put(1)
        await bench.end(FAILURE)
        assert bench.settled == [("1", RETRY)]
        assert bench.running == [[1]]


async def test_only_reported_records_come_again(tmp_path: Path) -> None:
    async with Bench(
        tmp_path, batch_size=3, maximum_batching_window=Duration(5), report_batch_item_failures=True
    ) as bench:
        await bench.put(1, 2, 3)
        await bench.end(reported("2"))
        assert sorted(bench.settled) == [("1", DONE), ("2", RETRY), ("3", DONE)]


async def test_a_wrong_report_fails_the_batch_and_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Bench(tmp_path, report_batch_item_failures=True) as bench:
        await bench.put(1)
        with caplog.at_level(logging.WARNING):
            await bench.end(reported("nobody"))
        assert bench.settled == [("1", RETRY)]
        assert "hello: all 1 records of a batch come again, because batchItemFailures names 'nobody'" in caplog.text


async def test_a_throttled_batch_waits_here_and_counts_for_nothing(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=1) as bench:
        await bench.put(1)
        await bench.end(THROTTLED)
        assert (bench.running, bench.settled) == ([], [])
        await bench.put(2)
        assert bench.running == [], "another batch would only wait beside it"
        await bench.advance(1)
        assert bench.running == [[1]]
        await bench.end(Throttled("ReservedFunctionConcurrentInvocationLimitExceeded"))
        await bench.advance(1.9)
        assert bench.running == []
        await bench.advance(0.1)
        await bench.end(SUCCESS)
        assert bench.settled == [("1", DONE)]
        assert bench.running == [[2]]


async def test_a_place_that_we_free_ourselves_is_tried_at_once(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=1) as bench:
        await bench.put(1, 2)
        await bench.end(THROTTLED, call=1)
        await bench.end(SUCCESS)
        assert bench.running == [[2]], "no second has passed"


@pytest.mark.parametrize("outcome", [SYSTEM_ERROR, ShuttingDown("the node is draining")])
async def test_an_error_of_ours_comes_again_later_and_later(tmp_path: Path, outcome: Any) -> None:
    async with Bench(tmp_path) as bench:
        await bench.put(1)
        await bench.end(outcome)
        await bench.advance(1)
        await bench.end(outcome)
        await bench.advance(2)
        await bench.end(SUCCESS)
        assert bench.settled == [("1", Retry(1.0)), ("1", Retry(2.0)), ("1", DONE)]


# --- leases -----------------------------------------------------------------------------------------------------------


class CountingChains:
    """What has come with the header "far" is one too many."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.traces: list[str] = []

    def stops(self, reference: str, trace_id: str) -> bool:
        return trace_id == "far"

    async def call(self, reference: str, payload: bytes, *, trace_id: str) -> Outcome:
        self.traces.append(trace_id)
        return await self._calls.invoke(reference, payload)


async def test_a_record_that_came_back_too_often_stays_behind_alone(tmp_path: Path) -> None:
    clock = FakeClock()
    source, trigger = source_and_trigger(clock, tmp_path)
    calls = Calls()
    chains = CountingChains(calls)
    intake = Intake(function(), binding(), cast(Any, trigger), calls.invoke, clock, log=log, chains=chains)
    traced = {1: None, 2: "far", 3: "Lineage=00000000:1", 4: "Lineage=00000000:2"}
    ids = {number: source.put(number, trace=trace) for number, trace in traced.items()}
    running = asyncio.create_task(intake.run())
    await settle_down(clock)
    assert [call.records for call in calls.running] == [[1, 3, 4]]
    assert chains.traces == ["Lineage=00000000:2"]
    calls.running[0].end(SUCCESS)
    await settle_down(clock)
    assert dict(source.settlements) == {
        ids[number]: RETRY if trace == "far" else DONE for number, trace in traced.items()
    }
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_source_hears_how_much_there_is_a_place_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path, batch_size=2, maximum_concurrency=3)
    expected: list[int] = []
    cast(Any, bench.trigger).expect = expected.append
    async with bench:
        assert expected == [6], "three batches"
        await bench.put(1, 2)
        assert expected == [6, 4]
        await bench.put(3, 4)
        assert expected == [6, 4, 2]
        await bench.put(5, 6)
        assert expected == [6, 4, 2], "no place, no read"
        await bench.end(SUCCESS)
        assert expected[-1] == 2


async def test_a_lease_is_extended_every_third_while_a_function_runs(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        await bench.put(1)
        await bench.advance(35)
        assert bench.trigger.extended == [(1, 30.0)] * 3
        await bench.end(SUCCESS)
        await bench.advance(60)
        assert len(bench.trigger.extended) == 3, "what is settled is not extended"


async def test_a_read_is_settled_once_all_its_records_have_ended(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=2, maximum_concurrency=2) as bench:
        bench.source.take_down()
        first, second = bench.source.put(1, group="a"), bench.source.put(2, group="b")
        bench.source.bring_up()
        await bench.advance(1)
        assert bench.running == [[1, 2]]
        await bench.end(SUCCESS)
        assert bench.settled == [(first, DONE), (second, DONE)]


# --- order ------------------------------------------------------------------------------------------------------------


async def test_a_failure_takes_back_what_waits_behind_it(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=2, report_batch_item_failures=True) as bench:
        bench.source.take_down()
        ids = [bench.source.put(name, group="g") for name in ("g1", "g2", "g3")]
        bench.source.bring_up()
        await bench.advance(1)
        assert bench.running == [["g1", "g2"]]
        await bench.end(reported(ids[0]))
        assert bench.settled == [(ids[0], RETRY), (ids[1], RETRY)]
        assert bench.running == [["g1", "g2"]]


async def test_nothing_overtakes_a_record_that_is_on_its_way_back(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=2, maximum_concurrency=3) as bench:
        bench.source.__class__ = CarelessSource
        await bench.put("g0", group="g")
        bench.source.put("g1", group="g")
        bench.source.put("x1")
        await bench.quiet()
        assert bench.running == [["g0"], ["x1"]], "g1 was read with x1 and waits for g0"
        await bench.end(SUCCESS)
        assert bench.running == [["x1"], ["g1"]]
        await bench.end(FAILURE, call=1)
        (g2,) = await bench.put("g2", group="g")
        assert bench.running == [["x1"]], "g1 is given back when x1 has ended too, and g2 not before"
        assert bench.settled[-1] == (g2, Retry(1))
        await bench.end(SUCCESS)
        assert bench.running == [["g1"]]
        await bench.advance(1)
        assert bench.running == [["g1"]]
        await bench.end(SUCCESS)
        assert bench.running == [["g2"]]


# --- the source -------------------------------------------------------------------------------------------------------


async def test_a_source_that_is_down_is_tried_again_with_back_off(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.source.take_down()
    async with bench:
        status = bench.intake.status
        assert not status.connected
        assert "is down" in (status.last_error or "")
        waits: list[float | None] = []
        for _ in range(8):
            wait = min(each for each in [bench.clock.next_wake] if each is not None)
            waits.append(round(wait, 3))
            await bench.advance(wait)
        assert waits[:3] == [1, 2, 4]
        bench.source.bring_up()
        await bench.advance(60)
        assert bench.intake.status.connected
        await bench.put(1)
        assert bench.running == [[1]]
        assert bench.intake.status.last_error is None


def test_delays_double_up_to_a_minute_and_half_is_chance() -> None:
    latest, earliest = Delays(lambda: 1.0), Delays(lambda: 0.0)
    assert [latest.next() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [earliest.next() for _ in range(3)] == [0.5, 1, 2]
    latest.reset()
    assert latest.next() == 1


class Moody(CheckedTrigger):
    """Raises what it is told to, once each."""

    moods: list[Exception]

    async def connect(self) -> None:
        if self.moods:
            raise self.moods.pop(0)
        await super().connect()


async def test_a_source_that_says_when_is_asked_then(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path)
    bench.trigger.__class__ = Moody
    bench.trigger.moods = [Backoff(7), RuntimeError("a bug of the connector's")]  # type: ignore[attr-defined]  # a Moody by now
    with caplog.at_level(logging.WARNING):
        async with bench:
            assert bench.clock.next_wake == 7
            await bench.advance(7)
            assert "raised what its contract does not allow" in caplog.text
            await bench.advance(2)
            assert bench.intake.status.connected


class Speechless(CheckedTrigger):
    """Has no word for what is odd, nor for more than two."""

    def encode(self, records: Sequence[Record]) -> bytes:
        numbers = [msgspec.json.decode(record.payload) for record in records]
        if any(number % 2 for number in numbers) or len(records) > 2:
            raise RuntimeError("a bug of the connector's")
        return msgspec.json.encode({"Records": numbers})


async def test_records_of_which_the_connector_makes_no_event_are_rejected_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, batch_size=3)
    bench.trigger.__class__ = Speechless
    async with bench:
        await bench.put(1)
        ((_, rejected),) = bench.settled
        assert isinstance(rejected, Reject)
        assert "Speechless makes no event of it, which the connector's author must mend" in rejected.reason
        assert "RuntimeError: a bug of the connector's" in rejected.reason
        assert "makes no event of 1 records" in caplog.text
        await bench.put(2)
        assert bench.running == [[2]], "and what is behind it is handled"


async def test_what_is_no_event_only_together_is_tried_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, batch_size=3, maximum_batching_window=Duration(5))
    bench.trigger.__class__ = Speechless
    async with bench:
        await bench.put(2, 4, 6)
        assert [settlement for _, settlement in bench.settled] == [Retry(1.0)] * 3


class Deaf(CheckedTrigger):
    async def settle(self, *args: Any) -> None:
        raise ConnectorError("nobody listens")


async def test_a_source_that_cannot_be_told_stops_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, batch_size=1)
    bench.trigger.__class__ = Deaf
    async with bench:
        await bench.put(1, 2)
        await bench.end(SUCCESS)
        assert "cannot settle 1 records, which will come again: nobody listens" in (
            bench.intake.status.last_error or ""
        )
        await bench.put(3)
        assert [3] in bench.running


async def test_how_much_waits_can_be_asked(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        await bench.put(1, 2, 3)
        assert await bench.intake.pending() == 3


# --- drain ------------------------------------------------------------------------------------------------------------


async def test_a_drain_lets_functions_finish_and_hands_back_the_rest(tmp_path: Path) -> None:
    async with Bench(tmp_path, batch_size=2, maximum_batching_window=Duration(5)) as bench:
        await bench.put(1, 2)
        await bench.put(3)
        draining = asyncio.create_task(bench.intake.drain(30))
        await bench.quiet()
        assert bench.settled == [("3", Retry(0))]
        assert not draining.done()
        await bench.end(SUCCESS)
        await asyncio.wait_for(draining, 60)
        assert bench.settled[1:] == [("1", DONE), ("2", DONE)]
        assert bench.trigger.closed == 1
        assert len(bench.calls.started) == 1, "what was handed back was not read again"


async def test_what_runs_longer_than_the_drain_is_handed_back(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        await bench.put(1)
        await bench.drained(5)
        assert bench.settled == [("1", Retry(0))]
        assert bench.clock.monotonic() == 5
        assert bench.trigger.closed == 1


async def test_a_throttled_batch_does_not_hold_up_a_drain(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        await bench.put(1)
        await bench.end(THROTTLED)
        await bench.drained(300)
        assert bench.settled == [("1", Retry(0))]
        assert bench.clock.monotonic() < 1


async def test_a_cancel_stops_at_once_and_closes_the_source(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        await bench.put(1)
    assert bench.trigger.closed == 1
    assert bench.settled == [], "it comes again by the source's own rules"
    assert bench.source.pending == 1


# --- whatever fails, whenever it fails --------------------------------------------------------------------------------

outcomes = st.sampled_from(["success", "failure", "first failed", "throttled", "system error"])
steps = st.one_of(
    st.tuples(st.just("put"), st.lists(st.sampled_from([None, "a", "b"]), min_size=1, max_size=6)),
    st.tuples(st.just("end"), st.tuples(st.integers(0, 4), outcomes)),
    st.tuples(st.just("advance"), st.sampled_from([0.5, 3.0, 20.0])),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("down and up"), st.sampled_from([0.0, 1.0])),
)


class Rules:
    """What must hold at every call, whatever the source and the functions do."""

    def __init__(self, bench: Bench, concurrency: int, ordered: bool) -> None:
        self.bench = bench
        self.concurrency = concurrency
        self.ordered = ordered  # off when the source itself hands out what is still in flight
        self.put: list[tuple[str, str | None]] = []
        self._seen = 0

    def check(self) -> None:
        running = self.bench.calls.running
        assert len(running) <= self.concurrency
        groups = Counter(group for call in running for group in {each["group"] for each in call.records} - {None})
        if self.ordered:
            assert all(count == 1 for count in groups.values()), "two batches of one group at once"
            done = {name for name, settlement in self.bench.settled if settlement == DONE}
            for call in self.bench.calls.started[self._seen :]:
                for group in {each["group"] for each in call.records} - {None}:
                    mine = [each["id"] for each in call.records if each["group"] == group]
                    # What was done in a batch whose read is not settled yet counts as done.
                    left = [name for name, its in self.put if its == group and name not in done | self.handled]
                    assert mine == left[: len(mine)], "a record overtook another of its group"
        self._seen = len(self.bench.calls.started)

    handled: set[str]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(steps, min_size=3, max_size=40),
    st.integers(1, 3),
    st.sampled_from([1, 2, 5]),
    st.sampled_from([0, 2]),
    st.booleans(),
    st.booleans(),
)
def test_no_record_is_lost_none_settled_twice_and_order_is_kept(
    plan: list[tuple[str, Any]], concurrency: int, size: int, window: int, report: bool, careless: bool
) -> None:
    asyncio.run(_live(plan, concurrency, size, window, report, careless))


async def _live(
    plan: list[tuple[str, Any]], concurrency: int, size: int, window: int, report: bool, careless: bool
) -> None:
    async with Bench(
        Path("/nowhere"),
        batch_size=size,
        maximum_concurrency=concurrency,
        maximum_batching_window=Duration(window),
        report_batch_item_failures=report,
    ) as bench:
        if careless:
            bench.source.__class__ = CarelessSource
        rules = Rules(bench, concurrency, ordered=not any(step == "down and up" for step, _ in plan))
        rules.handled = set()
        for step, detail in plan:
            match step:
                case "put":
                    for group in detail:
                        name = f"r{len(rules.put)}"
                        rules.put.append((name, group))
                        bench.source.put({"id": name, "group": group}, id=name, group=group)
                case "end" if detail[0] < len(bench.calls.running):
                    _end(bench, rules, detail[0], detail[1], report)
                case "advance":
                    await bench.clock.advance(detail)
                case "restart":
                    await bench.restart()
                case "down and up":
                    bench.source.take_down()
                    await bench.advance(detail)
                    bench.source.bring_up()
                case _:
                    continue
            await bench.quiet()
            rules.check()
        # From here on everything goes well: all that was put must end.
        for _ in range(200):
            if bench.source.pending == 0:
                break
            while bench.calls.running:
                _end(bench, rules, 0, "success", report)
                await bench.quiet()
                rules.check()
            await bench.advance(5)
            rules.check()
        finished = Counter(name for name, settlement in bench.settled if settlement == DONE)
        assert finished == Counter(name for name, _ in rules.put), "each ends exactly once"
        await bench.drained(5)
        assert bench.trigger.unsettled == [], "every read was settled"


def _end(bench: Bench, rules: Rules, number: int, how: str, report: bool) -> None:
    call = bench.calls.running[number]
    ids = [each["id"] for each in call.records]
    match how:
        case "success":
            rules.handled |= set(ids)
            call.end(SUCCESS)
        case "failure":
            call.end(FAILURE)
        case "first failed":
            if report:
                group = call.records[0]["group"]
                rules.handled |= {each["id"] for each in call.records[1:] if group is None or each["group"] != group}
            else:
                rules.handled |= set(ids)
            call.end(reported(ids[0]))
        case "throttled":
            call.end(THROTTLED)
        case _:
            call.end(SYSTEM_ERROR)

"""The host of streams: order, retries, halves, age, failures kept before the mark moves, leases, revokes, windows."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio

from eventfn.bus.stream import StreamIntake
from eventfn.engine.memory import MemoryEngine
from eventfn.event import Outcome, OutcomeKind
from eventfn.testing import FakeClock
from eventfn.testing.memory_streams import MemoryStreamTrigger
from eventfn.trigger import Shard, ShardReader, Start
from eventfn.units import Duration
from tests.bus.hosting import THROTTLED, Call, Calls, reported
from tests.bus.streaming import ARN, Function, in_outbox, make_host, new_stream, running, until, values

DEAD_LETTERS = "queue:dead-letters"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def engine(clock: FakeClock) -> AsyncIterator[MemoryEngine]:
    made = MemoryEngine()
    await made.open(clock.now_ms())
    yield made
    await made.close()


def fail_on(*bad: Any) -> Any:
    def handler(event: Any) -> None:
        for value in values(event):
            if value in bad:
                raise ValueError(f"{value} is bad")

    return handler


def _is_over(calls: Calls, call: Call) -> bool:
    return call not in calls.running


# --- batches and order ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [False, True], ids=["listed", "assigned"])
async def test_every_record_of_every_shard_is_handled_in_order(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, group: bool
) -> None:
    stream, function = new_stream(3), Function()
    for number in range(300):
        stream.put(number, key=str(number % 7))
    async with running(make_host(stream, function.invoke, engine, clock, tmp_path, group=group, batch_size=10)) as host:
        await until(clock, lambda: len(function.handled) == 300)
        for number in range(300, 310):
            stream.put(number, key=str(number % 7))
        await until(clock, lambda: len(function.handled) == 310)
        await host.drain(5)
    for key in range(7):
        assert [value for value in function.handled if value % 7 == key] == list(range(key, 310, 7))
    assert all(len(event["Records"]) <= 10 for event in function.events)
    assert host.status.records_done == 310
    if group:
        lengths = {shard.id: len(stream.values(shard.id)) for shard in stream.shards()}
        assert stream.committed == {shard: str(length) for shard, length in lengths.items() if length}


@pytest.mark.parametrize("group", [False, True], ids=["listed", "assigned"])
async def test_after_a_restart_it_goes_on_behind_what_is_done(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, group: bool
) -> None:
    stream = new_stream()
    for number in range(20):
        stream.put(number)
    first, second = Function(), Function()
    host = make_host(stream, first.invoke, engine, clock, tmp_path, group=group, batch_size=5)
    async with running(host):
        await until(clock, lambda: len(first.handled) == 20)
        await host.drain(5)
    stream.put(20)
    async with running(make_host(stream, second.invoke, engine, clock, tmp_path, group=group, owner="node-2")) as host:
        await until(clock, lambda: 20 in second.handled)
        await host.drain(5)
    assert second.handled == [20]


async def test_what_was_in_flight_at_a_crash_is_handled_again(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, calls, second = new_stream(), Calls(), Function()
    for number in range(4):
        stream.put(number)
    async with running(make_host(stream, calls.invoke, engine, clock, tmp_path, batch_size=2)):
        await until(clock, lambda: len(calls.running) == 1)
        calls.running[0].end(Outcome(OutcomeKind.SUCCESS, b"null"))
        await until(clock, lambda: len(calls.started) == 2)
        for _ in range(5):
            await clock.advance(0)
    async with running(make_host(stream, second.invoke, engine, clock, tmp_path, owner="node-2")):
        await until(clock, lambda: len(second.handled) == 2)
    assert second.handled == [2, 3]


async def test_a_window_gathers_and_a_full_batch_does_not_wait(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, function = new_stream(), Function()
    host = make_host(
        stream, function.invoke, engine, clock, tmp_path, batch_size=3, maximum_batching_window=Duration(30)
    )
    async with running(host):
        stream.put(0)
        await until(clock, lambda: bool(stream.opened))
        await clock.advance(20)
        assert function.events == []
        await clock.advance(10)
        await until(clock, lambda: len(function.handled) == 1, step=0)
        for number in range(1, 4):
            stream.put(number)
        await until(clock, lambda: len(function.handled) == 4, step=0)


async def test_with_lanes_order_is_kept_per_key_and_several_batches_run(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, calls = new_stream(), Calls()
    for number in range(40):
        stream.put(number, key=str(number % 8))
    host = make_host(stream, calls.invoke, engine, clock, tmp_path, parallelization_factor=4, batch_size=3, group=True)
    handled: list[int] = []
    async with running(host):
        await until(clock, lambda: len(calls.running) >= 3)
        while len(handled) < 40:
            call = calls.running[-1]  # the latest first: the mark must not run ahead of the others
            handled += [record["value"] for record in call.records]
            call.end(Outcome(OutcomeKind.SUCCESS, b"null"))
            await until(clock, functools.partial(_is_over, calls, call))
            undone = sorted(set(range(40)) - set(handled))
            for _ in range(5):
                await clock.advance(0)
            assert int(stream.committed.get("shard-0", "0")) <= (undone[0] if undone else 40)
        await until(clock, lambda: stream.committed.get("shard-0") == "40")
    for key in range(8):
        assert [value for value in handled if value % 8 == key] == list(range(key, 40, 8))


async def test_at_most_so_many_batches_run_at_once(clock: FakeClock, engine: MemoryEngine, tmp_path: Path) -> None:
    stream, calls = new_stream(6), Calls()
    for number in range(60):
        stream.put(number)
    async with running(make_host(stream, calls.invoke, engine, clock, tmp_path, maximum_concurrency=2)):
        await until(clock, lambda: len(calls.running) == 2)
        while calls.running:
            calls.running[0].end(Outcome(OutcomeKind.SUCCESS, b"null"))
            for _ in range(10):
                await clock.advance(0)
    assert calls.most == 2
    assert sum(len(call.records) for call in calls.started) == 60


async def test_what_does_not_pass_the_filter_is_done(clock: FakeClock, engine: MemoryEngine, tmp_path: Path) -> None:
    stream, function = new_stream(), Function()
    for number in range(10):
        stream.put(number)
    only = [{"offset": [{"numeric": ["<", 5]}]}]
    async with running(
        make_host(stream, function.invoke, engine, clock, tmp_path, group=True, filter_criteria=only)
    ) as host:
        await until(clock, lambda: stream.committed.get("shard-0") == "10")
        assert host.status.records_filtered == 5
    assert function.handled == [0, 1, 2, 3, 4]


# --- failures ---------------------------------------------------------------------------------------------------------


async def test_a_failed_batch_blocks_its_shard_and_no_other(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream = new_stream(2)
    bad = {"poison"}
    function = Function(lambda event: fail_on(*bad)(event))
    stream.put("poison", shard="shard-0")
    stream.put("behind", shard="shard-0")
    stream.put("other", shard="shard-1")
    async with running(make_host(stream, function.invoke, engine, clock, tmp_path, batch_size=1)):
        await until(clock, lambda: "other" in function.handled)
        await clock.advance(600)
        assert function.handled == ["other"]
        bad.clear()
        await until(clock, lambda: len(function.handled) == 3)
    assert function.handled == ["other", "poison", "behind"]


async def test_after_its_attempts_a_batch_goes_to_its_destination_and_the_shard_goes_on(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, function = new_stream(), Function(fail_on(1))
    for number in range(4):
        stream.put(number)
    host = make_host(
        stream,
        function.invoke,
        engine,
        clock,
        tmp_path,
        batch_size=2,
        maximum_retry_attempts=1,
        on_failure="sqs:failed",
    )
    async with running(host):
        await until(clock, lambda: function.handled == [2, 3])
    (record,) = await in_outbox(engine, "sqs:failed")
    assert list(record) == ["requestContext", "responseContext", "version", "timestamp", "MemoryBatchInfo"]
    assert record["requestContext"] | {"requestId": ""} == {
        "requestId": "",
        "functionArn": ARN,
        "condition": "RetryAttemptsExhausted",
        "approximateInvokeCount": 2,
    }
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    assert record["MemoryBatchInfo"] == {"shardId": "shard-0", "startOffset": 0, "endOffset": 1, "batchSize": 2}


async def test_without_a_destination_what_is_given_up_is_in_the_dead_letters_with_its_records(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, function = new_stream(), Function(fail_on(0))
    stream.put(0)
    async with running(make_host(stream, function.invoke, engine, clock, tmp_path, maximum_retry_attempts=0)):
        await until(clock, lambda: bool(engine_has(engine, f"out/{DEAD_LETTERS}")))
    (record,) = await in_outbox(engine, DEAD_LETTERS)
    assert [each["value"] for each in record["payload"]["Records"]] == [0]
    (message,) = await engine.peek(f"out/{DEAD_LETTERS}", 10)
    assert message.attributes["eventfn.origin"] == "fn:hello"
    assert message.attributes["eventfn.shape"] == "batch"
    assert message.attributes["ErrorMessage"] == "0 is bad"


def engine_has(engine: MemoryEngine, queue: str) -> bool:
    found: list[bool] = []

    async def look() -> None:
        found.append(bool(await engine.peek(queue, 1)))

    coroutine = look()
    try:
        coroutine.send(None)
    except StopIteration:
        return found[0]
    raise AssertionError("the memory engine waits for nothing")


async def test_halves_find_the_poison_and_only_it_is_given_up(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, function = new_stream(), Function(fail_on(13))
    for number in range(32):
        stream.put(number)
    host = make_host(
        stream,
        function.invoke,
        engine,
        clock,
        tmp_path,
        batch_size=32,
        bisect_batch_on_function_error=True,
        maximum_retry_attempts=2,
        group=True,
    )
    async with running(host):
        await until(clock, lambda: stream.committed.get("shard-0") == "32")
    assert function.handled == [number for number in range(32) if number != 13]
    (record,) = await in_outbox(engine, DEAD_LETTERS)
    assert record["MemoryBatchInfo"]["batchSize"] == 1
    assert record["payload"]["Records"][0]["value"] == 13
    assert len([event for event in function.events if values(event) == [13]]) == 3


async def test_a_partial_failure_goes_on_at_the_first_record_that_is_named(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream = new_stream()
    ids = [stream.put(number) for number in range(6)]
    answers = iter([reported(ids[4], ids[2]), reported(), reported()])
    function = Function(lambda event: next(answers))
    host = make_host(
        stream, function.invoke, engine, clock, tmp_path, report_batch_item_failures=True, group=True, batch_size=6
    )
    async with running(host):
        await until(clock, lambda: stream.committed.get("shard-0") == "6")
    assert [values(event) for event in function.events] == [[0, 1, 2, 3, 4, 5], [2, 3, 4, 5]]
    assert ("shard-0", "2") in stream.commits


async def test_what_is_too_old_is_given_up_without_an_invocation(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, function = new_stream(), Function()
    stream.put("old", arrived_ms=clock.now_ms() - 61_000)
    stream.put("new", arrived_ms=clock.now_ms() - 1_000)
    host = make_host(stream, function.invoke, engine, clock, tmp_path, maximum_record_age=Duration(60))
    async with running(host):
        await until(clock, lambda: function.handled == ["new"])
    (record,) = await in_outbox(engine, DEAD_LETTERS)
    assert record["requestContext"]["condition"] == "RecordAgeExceeded"
    assert record["requestContext"]["approximateInvokeCount"] == 0
    assert "responseContext" not in record


async def test_a_throttle_counts_as_no_attempt(clock: FakeClock, engine: MemoryEngine, tmp_path: Path) -> None:
    stream = new_stream()
    answers: list[Any] = [THROTTLED] * 5
    function = Function(lambda event: answers.pop() if answers else None)
    stream.put(0)
    async with running(make_host(stream, function.invoke, engine, clock, tmp_path, maximum_retry_attempts=0)):
        await until(clock, lambda: not answers)
        await until(clock, lambda: len(function.events) == 6)
    assert await in_outbox(engine, DEAD_LETTERS) == []


async def test_the_mark_does_not_move_before_a_failure_is_kept(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventfn.errors import EngineFull

    stream, function = new_stream(), Function(fail_on(0))
    stream.put(0)
    full = True
    commit = engine.commit

    async def full_commit(operations: Any, now: int) -> Any:
        if full and any(getattr(operation, "queue", "").startswith("out/") for operation in operations):
            raise EngineFull("no space")
        return await commit(operations, now)

    monkeypatch.setattr(engine, "commit", full_commit)
    async with running(
        make_host(stream, function.invoke, engine, clock, tmp_path, maximum_retry_attempts=0, group=True)
    ):
        await until(clock, lambda: len(function.events) == 1)
        await clock.advance(120)
        assert stream.committed == {}
        full = False
        await until(clock, lambda: stream.committed.get("shard-0") == "1")
    assert len(await in_outbox(engine, DEAD_LETTERS)) == 1


async def test_a_record_that_no_function_can_be_invoked_with_is_given_up(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, function = new_stream(), Function()
    stream.put("x" * 7_000_000)
    stream.put("small")
    async with running(make_host(stream, function.invoke, engine, clock, tmp_path)):
        await until(clock, lambda: function.handled == ["small"])
    (record,) = await in_outbox(engine, DEAD_LETTERS)
    assert record["requestContext"]["condition"] == "RecordTooLarge"


# --- shards come and go -----------------------------------------------------------------------------------------------


async def test_children_are_read_when_their_parent_is_done(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, calls = new_stream(), Calls()
    stream.put("parent")
    (left, right) = stream.split("shard-0")
    stream.put("left", shard=left)
    stream.put("right", shard=right)
    async with running(make_host(stream, calls.invoke, engine, clock, tmp_path)):
        await until(clock, lambda: len(calls.running) == 1)
        await clock.advance(60)
        assert [call.records[0]["value"] for call in calls.started] == ["parent"]
        calls.running[0].end(Outcome(OutcomeKind.SUCCESS, b"null"))
        await until(clock, lambda: len(calls.running) == 2, step=0.1)
        assert {call.records[0]["value"] for call in calls.running} == {"left", "right"}


async def test_latest_skips_what_was_there_and_misses_nothing_of_what_comes(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, function = new_stream(), Function()
    stream.put("before", arrived_ms=clock.now_ms())
    await clock.advance(5)
    async with running(make_host(stream, function.invoke, engine, clock, tmp_path, starting_position="LATEST")) as host:
        await until(clock, lambda: bool(stream.opened))
        await host.drain(1)
    await clock.advance(5)
    stream.put("while it was away", arrived_ms=clock.now_ms())
    async with running(make_host(stream, function.invoke, engine, clock, tmp_path, starting_position="LATEST")):
        await until(clock, lambda: bool(function.handled))
    assert function.handled == ["while it was away"]


async def test_two_nodes_share_the_shards_and_one_takes_over_when_the_other_dies(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream = new_stream(4)
    one, two = Function(), Function()
    for number in range(40):
        stream.put(number)
    first = make_host(stream, one.invoke, engine, clock, tmp_path, owner="one")
    second = make_host(stream, two.invoke, engine, clock, tmp_path, owner="two")
    async with running(first):
        await until(clock, lambda: len(one.handled) == 40)
        async with running(second):
            await until(clock, lambda: sum(1 for _ in second._hosts) == 2)
            for number in range(40, 80):
                stream.put(number)
            await until(clock, lambda: len(one.handled) + len(two.handled) == 80)
            assert two.handled
        for number in range(80, 120):  # the second was killed, not drained
            stream.put(number)
        await until(clock, lambda: len(set(one.handled) | set(two.handled)) == 120)
    assert sorted([*one.handled, *two.handled]) == list(range(120))


async def test_an_owner_that_lost_its_lease_changes_nothing(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, calls, two = new_stream(), Calls(), Function()
    stream.put(0)
    async with running(make_host(stream, calls.invoke, engine, clock, tmp_path, owner="one")) as first:
        await until(clock, lambda: len(calls.running) == 1)
        now = clock.now_ms()
        stolen = await engine.acquire(f"stream/hello/{stream.name}/shard-0", "one", now, now)
        assert stolen is not None
        await engine.give_up(stolen)
        async with running(make_host(stream, two.invoke, engine, clock, tmp_path, owner="two")):
            await until(clock, lambda: two.handled == [0], step=0.1)
            calls.running[0].end(Outcome(OutcomeKind.SUCCESS, b"null"))
            await until(clock, lambda: not calls.running)
            stream.put(1)
            await until(clock, lambda: 1 in two.handled or any(c.records[0]["value"] == 1 for c in calls.started))
        assert first.status.records_done <= 1


async def test_a_revoked_shard_is_drained_committed_and_then_let_go(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, calls, two = new_stream(2), Calls(), Function()
    for number in range(4):
        stream.put(number)
    async with running(make_host(stream, calls.invoke, engine, clock, tmp_path, group=True)):
        await until(clock, lambda: len(calls.running) == 2)
        async with running(make_host(stream, two.invoke, engine, clock, tmp_path, group=True)) as second:
            for _ in range(20):
                await clock.advance(0.1)
            assert two.events == []
            for call in list(calls.running):
                call.end(Outcome(OutcomeKind.SUCCESS, b"null"))
            await until(clock, lambda: len(stream.committed) == 2, step=0.1)
            await until(clock, lambda: len(set(map(id, stream.owners.values()))) == 2, step=0.1)
            for number in range(4, 8):
                stream.put(number)
            await until(clock, lambda: len(two.handled) == 2, step=0.1)
            await second.drain(1)
    assert stream.late_commits == []


async def test_what_ran_when_its_shard_was_lost_is_not_committed(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, calls = new_stream(), Calls()
    stream.put(0)
    async with running(make_host(stream, calls.invoke, engine, clock, tmp_path, group=True)):
        await until(clock, lambda: len(calls.running) == 1)
        stream.expel()
        await until(clock, lambda: len(calls.started) == 2)
        assert calls.running == calls.started[1:]  # nobody waits for the first one any more
        assert stream.commits == []
        calls.started[1].end(Outcome(OutcomeKind.SUCCESS, b"null"))
        await until(clock, lambda: stream.committed == {"shard-0": "1"})


@pytest.mark.parametrize("group", [False, True], ids=["listed", "assigned"])
async def test_a_source_that_goes_down_is_tried_again_and_nothing_is_handled_twice(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, group: bool
) -> None:
    stream, function = new_stream(2), Function()
    async with running(make_host(stream, function.invoke, engine, clock, tmp_path, group=group)) as host:
        for number in range(10):
            stream.put(number)
        await until(clock, lambda: len(function.handled) == 10)
        await clock.advance(1)
        stream.take_down()
        await until(clock, lambda: not host.status.connected)
        assert host.status.last_error
        for number in range(10, 20):
            stream.put(number)
        await clock.advance(120)
        stream.bring_up()
        await until(clock, lambda: len(function.handled) == 20)
        assert host.status.connected
        assert host.status.last_error is None
    assert sorted(function.handled) == list(range(20))


async def test_memory_is_bounded_while_a_function_is_slow(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, calls = new_stream(), Calls()
    for number in range(5000):
        stream.put(number)
    async with running(make_host(stream, calls.invoke, engine, clock, tmp_path, batch_size=10)) as host:
        await until(clock, lambda: len(calls.running) == 1)
        await clock.advance(60)
        assert host.status.records_read <= 220


# --- tumbling windows -------------------------------------------------------------------------------------------------


async def test_a_tumbling_window_carries_its_state_and_ends_once(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream = new_stream()

    def handler(event: Any) -> Any:
        return {"state": {"sum": event["state"].get("sum", 0) + sum(values(event))}}

    function = Function(handler)
    began = clock.now_ms() // 60_000 * 60_000
    for number in range(5):
        stream.put(number, arrived_ms=began + number)
    stream.put(100, arrived_ms=began + 60_000)
    host = make_host(stream, function.invoke, engine, clock, tmp_path, batch_size=2, tumbling_window=Duration(60))
    async with running(host):
        await until(clock, lambda: 100 in function.handled)
        await until(clock, lambda: len([event for event in function.events if event["isFinalInvokeForWindow"]]) == 2)
    first = [event for event in function.events if event["window"]["start"] == function.events[0]["window"]["start"]]
    assert [values(event) for event in first] == [[0, 1], [2, 3], [4]]
    assert [event["state"] for event in first] == [{}, {"sum": 1}, {"sum": 6}]
    assert [event["isFinalInvokeForWindow"] for event in first] == [False, False, True]
    assert function.events[-1]["Records"] == []
    assert function.events[-1]["state"] == {"sum": 100}
    assert function.events[0]["shardId"] == "shard-0"


async def test_the_state_of_a_window_survives_a_restart(clock: FakeClock, engine: MemoryEngine, tmp_path: Path) -> None:
    stream = new_stream()
    function = Function(lambda event: {"state": {"seen": [*event["state"].get("seen", []), *values(event)]}})
    now = clock.now_ms() // 60_000 * 60_000
    stream.put("a", arrived_ms=now)

    def make() -> StreamIntake:
        return make_host(stream, function.invoke, engine, clock, tmp_path, tumbling_window=Duration(60))

    async with running(make()) as host:
        await until(clock, lambda: function.handled == ["a"], step=0.1)
        await host.drain(1)
    stream.put("b", arrived_ms=now + 1)
    async with running(make()):
        await until(clock, lambda: function.handled == ["a", "b"], step=0.1)
    assert function.events[-1]["state"] == {"seen": ["a"]}


async def test_a_function_without_a_state_fails_its_batch(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, function = new_stream(), Function(lambda event: None)
    stream.put(0, arrived_ms=clock.now_ms())
    host = make_host(
        stream, function.invoke, engine, clock, tmp_path, tumbling_window=Duration(60), maximum_retry_attempts=0
    )
    async with running(host):
        await until(clock, lambda: engine_has(engine, f"out/{DEAD_LETTERS}"))


async def test_a_drain_ends_in_its_time_though_a_function_hangs(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, calls = new_stream(), Calls()
    stream.put(0)
    async with running(make_host(stream, calls.invoke, engine, clock, tmp_path)) as host:
        await until(clock, lambda: len(calls.running) == 1)
        draining = asyncio.create_task(host.drain(3))
        await until(clock, draining.done, step=0.5, most=20)


async def test_shards_stay_with_their_node_while_the_source_is_down(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path
) -> None:
    stream, calls = new_stream(), Calls()
    stream.put(0)
    async with running(make_host(stream, calls.invoke, engine, clock, tmp_path)) as host:
        await until(clock, lambda: len(calls.running) == 1)
        stream.take_down()
        for _ in range(30):
            await clock.advance(10)
        calls.running[0].end(Outcome(OutcomeKind.SUCCESS, b"null"))
        for _ in range(5):
            await clock.advance(0)
        stream.bring_up()
        stream.put(1)
        await until(clock, lambda: len(calls.started) == 2)
        assert [record["value"] for record in calls.started[1].records] == [1], "what was done is not done again"
        assert host.status.connected


@pytest.mark.parametrize("jump", [3_600_000, -3_600_000], ids=["forward", "back"])
async def test_a_clock_that_jumps_loses_nothing_and_repeats_nothing_on_one_node(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, jump: int
) -> None:
    stream, function = new_stream(2), Function()
    async with running(make_host(stream, function.invoke, engine, clock, tmp_path)) as host:
        for number in range(10):
            stream.put(number)
        await until(clock, lambda: len(function.handled) == 10)
        clock._start_ms += jump
        for number in range(10, 20):
            stream.put(number)
        await until(clock, lambda: len(function.handled) == 20)
        for _ in range(10):
            await clock.advance(10)
        await host.drain(1)
    async with running(make_host(stream, function.invoke, engine, clock, tmp_path, owner="node-2")) as host:
        for _ in range(10):
            await clock.advance(10)
        await host.drain(1)
    assert sorted(function.handled) == list(range(20))


async def test_a_fault_of_the_host_itself_stops_no_stream(
    clock: FakeClock, engine: MemoryEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventfn.rules.streaming import Lane

    stream, function = new_stream(), Function()
    broken = True
    succeeded = Lane.succeeded

    def sometimes(lane: Lane, state: bytes = b"{}") -> None:
        nonlocal broken
        if broken:
            broken = False
            raise AssertionError("a bug")
        succeeded(lane, state)

    monkeypatch.setattr(Lane, "succeeded", sometimes)
    stream.put(0)
    async with running(make_host(stream, function.invoke, engine, clock, tmp_path)) as host:
        await until(clock, lambda: function.handled == [0, 0])
        stream.put(1)
        await until(clock, lambda: function.handled == [0, 0, 1])
        assert host.status.connected


async def test_memory_is_bounded_in_bytes_too(clock: FakeClock, engine: MemoryEngine, tmp_path: Path) -> None:
    stream, calls = new_stream(), Calls()
    for _ in range(60):
        stream.put("x" * 1_000_000)

    class OneByOne(MemoryStreamTrigger):
        async def open_shard(self, shard: Shard, at: str | Start) -> ShardReader:
            reader: Any = await super().open_shard(shard, at)
            read = reader.read
            reader.read = lambda limit: read(1)
            return cast(ShardReader, reader)

    host = make_host(stream, calls.invoke, engine, clock, tmp_path, trigger_class=OneByOne, batch_size=100)
    async with running(host):
        await until(clock, lambda: len(calls.running) == 1)
        await clock.advance(60)
        assert host.status.records_read <= 20
        done = 0
        while done < 60:
            await until(clock, lambda: bool(calls.running), most=20)
            done += len(calls.running[0].records)
            calls.running[0].end(Outcome(OutcomeKind.SUCCESS, b"null"))
            await clock.advance(0)

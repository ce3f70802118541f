"""When a batch is complete, and what its outcome says about each record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.event import MAX_SYNC_REQUEST, Outcome, OutcomeKind, Record
from eventfn.rules.batching import (
    ENVELOPE,
    MAX_RECORD,
    Ahead,
    Gathering,
    Scaling,
    StreamVerdict,
    effective_lease,
    judge,
    judge_stream,
)
from eventfn.rules.windows import WindowCall
from eventfn.trigger import DONE, RETRY, Settlement


class Item(msgspec.Struct, frozen=True, eq=False):
    record: Record

    @property
    def id(self) -> str:
        return self.record.id


def item(name: str, group: str | None = None, size: int = 10) -> Item:
    return Item(Record(id=name, payload=b"x" * size, group=group))


def ids(items: Sequence[Item]) -> list[str]:
    return [each.id for each in items]


# --- batches ----------------------------------------------------------------------------------------------------------


def test_without_a_window_whatever_is_there_is_a_batch() -> None:
    gathering: Gathering[Item] = Gathering(size=3, window=0)
    gathering.add(item("1"), 0)
    gathering.add(item("2"), 0)
    assert ids(gathering.take(0, ())) == ["1", "2"]
    assert len(gathering) == 0
    assert gathering.take(0, ()) == []


def test_a_window_begins_with_the_first_record() -> None:
    gathering: Gathering[Item] = Gathering(size=10, window=5)
    assert gathering.due(()) is None
    gathering.add(item("1"), 100)
    gathering.add(item("2"), 104)
    assert gathering.due(()) == 105
    assert gathering.take(104.9, ()) == []
    assert ids(gathering.take(105, ())) == ["1", "2"]


def test_a_full_batch_does_not_wait_for_its_window() -> None:
    gathering: Gathering[Item] = Gathering(size=2, window=300)
    for n in range(3):
        gathering.add(item(str(n)), 0)
    assert gathering.room() == 0
    assert ids(gathering.take(0, ())) == ["0", "1"]
    assert gathering.room() == 1
    assert gathering.take(0, ()) == []


def test_room_for_several_batches_is_asked_for_when_half_of_it_is_free() -> None:
    gathering: Gathering[Item] = Gathering(size=10, window=0)
    assert gathering.room(4) == 40
    for n in range(30):
        gathering.add(item(str(n)), 0)
    assert (gathering.room(4), gathering.room(1)) == (0, 0)
    gathering.take(0, ())
    assert gathering.room(4) == 20
    assert gathering.room(2) == 0, "there are two"
    gathering.take(0, ())
    gathering.add(item("30"), 0)
    assert gathering.room(1) == 0
    gathering.take(0, ())
    assert (gathering.room(1), gathering.room(2)) == (9, 19), "what is less than a batch is made one"


def ahead_of(*seconds: float, size: int = 10, in_groups: bool = False, lease: float | None = 30.0) -> int:
    ahead = Ahead(size)
    ahead.in_groups = in_groups
    for each in seconds:
        ahead.took(each)
    return ahead.batches(lease)


def test_nothing_is_read_ahead_of_a_function_that_is_slow_or_not_known() -> None:
    assert ahead_of() == 0
    assert ahead_of(1.0) == 0
    assert ahead_of(*[0.001] * 100, 1.0) == 0
    assert ahead_of(0.9) == 1


def test_several_batches_are_read_ahead_of_a_function_that_was_quick_for_long() -> None:
    assert ahead_of(*[0.001] * 20) == 1
    assert ahead_of(*[0.001] * 100) == 10
    assert ahead_of(*[0.01] * 100) == 5, "as many as begin within 0.05 s"
    assert ahead_of(*[0.06] * 100) == 1
    assert ahead_of(*[0.001] * 100, 0.2, 0.001) == 1, "one that was slow is remembered"
    assert ahead_of(*[0.0] * 100, size=100) == 5, "500 records"
    assert ahead_of(*[0.0] * 100, size=10_000) == 1
    assert ahead_of(*[0.0] * 100, in_groups=True) == 1
    assert ahead_of(*[0.001] * 100, lease=None) == 10
    assert ahead_of(*[0.001] * 100, lease=0.5) == 5, "a hundredth of the lease"
    assert ahead_of(*[0.001] * 100, lease=0.05) == 1
    assert ahead_of(0.9, lease=0.05) == 1


def test_six_megabytes_are_a_batch() -> None:
    gathering: Gathering[Item] = Gathering(size=100, window=300)
    third = (MAX_SYNC_REQUEST - ENVELOPE - 2) // 3
    for n in range(3):
        gathering.add(item(str(n), size=third), 0)
    assert gathering.take(0, ()) == [], "one more byte could still fit"
    gathering.add(item("3", size=third), 0)
    assert gathering.room() == 0
    assert ids(gathering.take(0, ())) == ["0", "1", "2"]


def test_the_largest_record_is_a_batch_of_its_own() -> None:
    gathering: Gathering[Item] = Gathering(size=100, window=300)
    gathering.add(item("1", size=MAX_RECORD), 0)
    assert ids(gathering.take(0, ())) == ["1"]


def test_records_of_a_busy_group_wait_and_let_the_others_pass() -> None:
    gathering: Gathering[Item] = Gathering(size=10, window=0)
    for name, group in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("n", None)):
        gathering.add(item(name, group), 0)
    assert ids(gathering.take(0, {"a"})) == ["b1", "n"]
    assert gathering.due({"a"}) is None
    assert ids(gathering.take(0, ())) == ["a1", "a2"]


def test_what_waits_of_a_group_can_be_taken_back() -> None:
    gathering: Gathering[Item] = Gathering(size=10, window=0)
    for name, group in (("a1", "a"), ("b1", "b"), ("a2", "a")):
        gathering.add(item(name, group), 0)
    assert ids(gathering.take_group("a")) == ["a1", "a2"]
    assert ids(gathering.take_all()) == ["b1"]


groups = st.none() | st.sampled_from("ab")
records = st.lists(st.tuples(groups, st.sampled_from([1, 1000, MAX_RECORD // 3, MAX_RECORD])), max_size=20)


@given(records, st.integers(1, 5), st.sampled_from([0.0, 2.0]), st.data())
def test_every_record_is_in_one_batch_in_the_order_of_its_group(
    given_records: list[tuple[str | None, int]], size: int, window: float, data: st.DataObject
) -> None:
    gathering: Gathering[Item] = Gathering(size, window)
    items = [item(str(n), group, length) for n, (group, length) in enumerate(given_records)]
    came: dict[str, float] = {}
    taken: list[Item] = []
    for now, each in enumerate(items):
        gathering.add(each, float(now))
        came[each.id] = float(now)
        busy = data.draw(st.sets(st.sampled_from("ab")))
        batch = gathering.take(float(now), busy)
        _check_batch(batch, size, busy)
        if batch and len(batch) < size and window:
            waits_long_enough = now >= came[batch[0].id] + window
            assert waits_long_enough or _bytes(batch) + max(length for _, length in given_records) >= MAX_SYNC_REQUEST
        taken += batch
    while batch := gathering.take(1000.0, ()):
        _check_batch(batch, size, set())
        taken += batch
    assert sorted(ids(taken)) == sorted(ids(items))
    for group in "ab":
        assert ids([each for each in taken if each.record.group == group]) == ids(
            [each for each in items if each.record.group == group]
        )


def _check_batch(batch: list[Item], size: int, busy: set[str]) -> None:
    assert len(batch) <= size
    assert _bytes(batch) <= MAX_SYNC_REQUEST
    assert not busy & {each.record.group for each in batch}


def _bytes(batch: list[Item]) -> int:
    return len(b'{"Records":[' + b",".join(each.record.payload for each in batch) + b"]}")


@pytest.mark.parametrize(
    ("lease", "window", "timeout", "expected"),
    [(30, 0, 60, 30), (30, 5, 20, 30), (30, 5, 25, 30), (30, 5, 26, 61), (30, 300, 900, 1230)],
)
def test_the_effective_visibility(lease: float, window: float, timeout: float, expected: float) -> None:
    assert effective_lease(lease, window, timeout) == expected


# --- outcomes ---------------------------------------------------------------------------------------------------------

ALL = [Record(id="1", payload=b"{}"), Record(id="2", payload=b"{}"), Record(id="3", payload=b"{}")]
FIFO = [Record(id=name, payload=b"{}", group=name[0]) for name in ("a1", "b1", "a2", "b2", "a3")]


def answered(payload: Any) -> Outcome:
    return Outcome(OutcomeKind.SUCCESS, payload if isinstance(payload, bytes) else msgspec.json.encode(payload))


def failures(*names: Any) -> Outcome:
    return answered({"batchItemFailures": [{"itemIdentifier": name} for name in names]})


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        # success
        (None, "done done done"),
        ("", "done done done"),
        ({}, "done done done"),
        ([], "done done done"),
        (b" null\n", "done done done"),
        ({"other": 1}, "done done done"),
        ({"batchItemFailures": None}, "done done done"),
        ({"batchItemFailures": []}, "done done done"),
        # partial
        ({"batchItemFailures": [{"itemIdentifier": "2"}]}, "done retry done"),
        ({"batchItemFailures": [{"itemIdentifier": "2", "note": 1}]}, "done retry done"),
        ({"batchItemFailures": [{"itemIdentifier": "2"}, {"itemIdentifier": "2"}]}, "done retry done"),
        # the whole batch
        (b"not json", "retry retry retry"),
        (b"", "retry retry retry"),
        ("text", "retry retry retry"),
        (5, "retry retry retry"),
        ({"batchItemFailures": "1"}, "retry retry retry"),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, "retry retry retry"),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, "retry retry retry"),
        ({"batchItemFailures": [{"foo": "1"}]}, "retry retry retry"),
        ({"batchItemFailures": ["1"]}, "retry retry retry"),
        ({"batchItemFailures": [{"itemIdentifier": 1}]}, "retry retry retry"),
        ({"batchItemFailures": [{"itemIdentifier": "1"}, {"itemIdentifier": "9"}]}, "retry retry retry"),
    ],
)
def test_a_partial_batch_response(payload: Any, expected: str) -> None:
    verdict = judge(ALL, answered(payload), report_batch_item_failures=True)
    assert words(verdict.settlements) == expected
    assert (verdict.problem is not None) is (expected == "retry retry retry")


@pytest.mark.parametrize("payload", [b"not json", b'{"batchItemFailures": [{"itemIdentifier": "1"}]}'])
def test_the_answer_is_ignored_unless_failures_are_reported(payload: bytes) -> None:
    assert words(judge(ALL, answered(payload), report_batch_item_failures=False).settlements) == "done done done"


@pytest.mark.parametrize("kind", [OutcomeKind.FUNCTION_ERROR, OutcomeKind.THROTTLED, OutcomeKind.SYSTEM_ERROR])
@pytest.mark.parametrize("report", [True, False])
def test_a_failed_batch_comes_again(kind: OutcomeKind, report: bool) -> None:
    outcome = Outcome(kind, b'{"batchItemFailures": []}')
    assert words(judge(ALL, outcome, report).settlements) == "retry retry retry"


@pytest.mark.parametrize(
    ("failed", "expected"),
    [
        (("a1",), "retry done retry done retry"),
        (("a2",), "done done retry done retry"),
        (("a3", "b1"), "done retry done retry retry"),
        ((), "done done done done done"),
    ],
)
def test_what_comes_behind_a_failure_in_its_group_comes_again_too(failed: tuple[str, ...], expected: str) -> None:
    assert words(judge(FIFO, failures(*failed), report_batch_item_failures=True).settlements) == expected


@given(
    st.lists(st.tuples(st.uuids().map(str), groups), min_size=1, max_size=10, unique_by=lambda each: each[0]),
    st.data(),
)
def test_each_record_gets_exactly_one_settlement(named: list[tuple[str, str | None]], data: st.DataObject) -> None:
    batch = [Record(id=name, payload=b"{}", group=group) for name, group in named]
    reported = data.draw(st.lists(st.sampled_from([name for name, _ in named])))
    verdict = judge(batch, failures(*reported), report_batch_item_failures=True)
    assert len(verdict.settlements) == len(batch)
    for n, (record, settlement) in enumerate(zip(batch, verdict.settlements, strict=True)):
        failed_before = record.group is not None and any(
            earlier.id in reported and earlier.group == record.group for earlier in batch[:n]
        )
        assert settlement == (RETRY if record.id in reported or failed_before else DONE)


def words(settlements: Sequence[Settlement]) -> str:
    return " ".join("done" if settlement == DONE else "retry" for settlement in settlements)


# --- a shard's batch --------------------------------------------------------------------------------------------------

SHARD = [Record(id=f"orders-0-{number}", payload=b"{}") for number in range(4)]


@pytest.mark.parametrize(
    ("answer", "ok", "done"),
    [
        (b"null", True, 4),
        (b'""', True, 4),
        (b"{}", True, 4),
        (b"[]", True, 4),
        (b'{"batchItemFailures":[]}', True, 4),
        (b'{"batchItemFailures":null}', True, 4),
        (b'{"batchItemFailures":[{"itemIdentifier":"orders-0-2"}]}', False, 2),
        (b'{"batchItemFailures":[{"itemIdentifier":"orders-0-3"},{"itemIdentifier":"orders-0-1"}]}', False, 1),
        (b'{"batchItemFailures":[{"itemIdentifier":{"partition":"orders-0","offset":2}}]}', False, 2),
        (b'{"batchItemFailures":[{"itemIdentifier":""}]}', False, 0),
        (b'{"batchItemFailures":[{"itemIdentifier":null}]}', False, 0),
        (b'{"batchItemFailures":[{"foo":"orders-0-2"}]}', False, 0),
        (b'{"batchItemFailures":[{"itemIdentifier":"orders-0-2"},{"itemIdentifier":"unknown"}]}', False, 0),
        (b'{"batchItemFailures":[{"itemIdentifier":{"partition":"orders-0","offset":9}}]}', False, 0),
        (b"not json", False, 0),
    ],
)
def test_the_first_record_that_is_named_is_where_a_shard_goes_on(answer: bytes, ok: bool, done: int) -> None:
    verdict = judge_stream(SHARD, answered(answer), report_batch_item_failures=True)
    assert (verdict.ok, verdict.done) == (ok, done)
    assert (verdict.problem is not None) == (not ok and done == 0)


def test_without_the_report_an_answer_says_nothing_and_an_error_everything() -> None:
    named = b'{"batchItemFailures":[{"itemIdentifier":"orders-0-0"}]}'
    assert judge_stream(SHARD, answered(named), False).done == 4
    failed = Outcome(OutcomeKind.FUNCTION_ERROR, b"{}")
    assert judge_stream(SHARD, failed, True) == StreamVerdict(False, 0)


@pytest.mark.parametrize(
    ("answer", "final", "state"),
    [
        (b'{"state":{"n":1}}', False, b'{"n":1}'),
        (b'{"state":{"n":1},"batchItemFailures":[]}', False, b'{"n":1}'),
        (b"null", True, None),
        (b'{"batchItemFailures":[]}', True, None),
    ],
)
def test_a_window_s_state_is_taken_from_the_answer(answer: bytes, final: bool, state: bytes | None) -> None:
    call = WindowCall(0, 60_000, b"{}", final, early=False)
    verdict = judge_stream(SHARD, answered(answer), True, call)
    assert verdict.ok
    assert verdict.state == state


def test_what_is_done_in_the_last_call_of_a_window_stays_in_its_state() -> None:
    call = WindowCall(0, 60_000, b"{}", final=True, early=False)
    failures = b'"batchItemFailures":[{"itemIdentifier":"orders-0-2"}]'
    assert judge_stream(SHARD, answered(b'{"state":{"n":2},%b}' % failures), True, call) == StreamVerdict(
        False, 2, b'{"n":2}'
    )
    without = judge_stream(SHARD, answered(b"{%b}" % failures), True, call)
    assert (without.ok, without.done) == (False, 0), "what the two records added would be lost"


@pytest.mark.parametrize("answer", [b"null", b"{}", b'{"state":null}', b'{"state":[1]}', b'{"state":"x"}', b"["])
def test_an_answer_without_a_state_fails_a_window_s_batch(answer: bytes) -> None:
    verdict = judge_stream(SHARD, answered(answer), False, WindowCall(0, 60_000, b"{}", final=False, early=False))
    assert (verdict.ok, verdict.done) == (False, 0)
    assert verdict.problem is not None
    assert "state" in verdict.problem


# --- how many at once -------------------------------------------------------------------------------------------------


def test_places_grow_by_the_second_up_to_their_bound_and_are_few_again() -> None:
    scaling = Scaling(None)
    limits = []
    for tenth in range(100):
        scaling.one_waits(1 + tenth / 10)
        limits.append(scaling.limit)
    assert limits[0] == 10
    assert limits[:10] == [10] * 10
    assert limits[10] == 15
    assert limits[-1] == Scaling.MOST
    scaling.none_waits(Scaling.START, 20)
    assert scaling.limit == Scaling.MOST
    scaling.none_waits(Scaling.START - 1, 20)
    assert scaling.limit == Scaling.START


def test_a_number_that_was_asked_for_stays() -> None:
    scaling = Scaling(2)
    scaling.one_waits(100)
    scaling.none_waits(0, 100)
    assert scaling.limit == 2

"""A shard's rules: batches, retries, halves, age, the mark. The state machine tries what no table thinks of."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from eventfn.event import MAX_SYNC_REQUEST, Record
from eventfn.rules.streaming import (
    EXHAUSTED,
    RECORD_ITSELF,
    TOO_LARGE,
    TOO_OLD,
    GiveUp,
    Invoke,
    Lane,
    Policy,
    Progress,
    Step,
)
from eventfn.rules.windows import STATE_LIMIT, Window

NOW_MS = 1_700_000_000_000


def record(number: int, key: str | None = None, arrived_ms: int = NOW_MS, size: int = 10) -> Record:
    return Record(id=str(number), payload=b"x" * size, group=key, arrived_ms=arrived_ms)


def lane_of(count: int, **policy: Any) -> Lane:
    lane = Lane(Policy(**{"batch_size": 100, **policy}))
    for number in range(count):
        lane.add(number, record(number), 0)
    return lane


def ids(step: Step | None) -> list[int]:
    assert step is not None
    return [int(each.id) for each in step.piece.records]


def take(lane: Lane, now: float = 0, now_ms: int = NOW_MS) -> Step:
    step = lane.next(now, now_ms)
    assert step is not None
    return step


# --- batches ----------------------------------------------------------------------------------------------------------


def test_nothing_starts_while_a_batch_is_in_flight() -> None:
    lane = lane_of(4, batch_size=2)
    assert ids(take(lane)) == [0, 1]
    assert lane.next(0, NOW_MS) is None
    lane.succeeded()
    assert ids(take(lane)) == [2, 3]


def test_a_batch_is_cut_at_six_megabytes() -> None:
    lane = Lane(Policy(batch_size=100))
    for number in range(4):
        lane.add(number, record(number, size=2_500_000), 0)
    assert ids(take(lane)) == [0, 1]


def test_one_record_that_is_too_large_alone_is_given_up_at_once() -> None:
    lane = Lane(Policy(batch_size=100))
    lane.add(0, record(0, size=MAX_SYNC_REQUEST), 0)
    lane.add(1, record(1), 0)
    step = take(lane)
    assert isinstance(step, GiveUp)
    assert (ids(step), step.condition) == ([0], TOO_LARGE)
    lane.gave_up()
    assert ids(take(lane)) == [1]


def test_a_window_is_waited_for_and_what_is_at_its_end_is_not() -> None:
    lane = lane_of(1, batching_window=10)
    assert lane.next(9.9, NOW_MS) is None
    assert lane.due() == 10
    lane.end()
    assert ids(take(lane)) == [0]


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_retry_takes_the_same_records_after_its_delay() -> None:
    lane = lane_of(2)
    take(lane)
    lane.add(2, record(2), 0)
    lane.failed(0, now=0, delay=5)
    assert lane.next(4.9, NOW_MS) is None
    assert lane.due() == 5
    assert ids(take(lane, 5)) == [0, 1]


def test_retries_end_and_what_is_behind_goes_on() -> None:
    lane = lane_of(3, batch_size=2, maximum_retry_attempts=2)
    for _ in range(3):
        assert isinstance(take(lane, 10), Invoke)
        lane.failed(0, now=0, delay=1)
    step = take(lane)
    assert isinstance(step, GiveUp)
    assert (ids(step), step.condition, step.piece.invokes) == ([0, 1], EXHAUSTED, 3)
    lane.gave_up()
    assert ids(take(lane)) == [2]


def test_without_a_limit_it_is_tried_for_ever() -> None:
    lane = lane_of(1)
    for _ in range(1000):
        assert isinstance(take(lane, 1), Invoke)
        lane.failed(0, now=0, delay=1)


def test_halves_come_in_order_at_once_and_use_no_attempt() -> None:
    lane = lane_of(5, bisect=True, maximum_retry_attempts=0)
    take(lane)
    lane.failed(0, now=0, delay=60)
    assert ids(take(lane)) == [0, 1]
    lane.succeeded()
    assert ids(take(lane)) == [2, 3, 4]
    lane.failed(0, now=0, delay=60)
    assert ids(take(lane)) == [2]
    lane.failed(0, now=0, delay=60)
    assert isinstance(step := take(lane), GiveUp)
    assert ids(step) == [2]
    lane.gave_up()
    assert ids(take(lane)) == [3, 4]


def test_a_partial_failure_is_split_where_the_function_says() -> None:
    lane = lane_of(4, bisect=True)
    take(lane)
    lane.failed(1, now=0, delay=60)
    assert ids(take(lane)) == [1, 2, 3]


def test_a_throttle_counts_nothing() -> None:
    lane = lane_of(1, maximum_retry_attempts=0)
    step = take(lane)
    lane.put_back(now=0, delay=2)
    assert lane.next(1.9, NOW_MS) is None
    assert step.piece.invokes == 0
    assert isinstance(take(lane, 2), Invoke)


def test_what_is_too_old_is_looked_at_before_each_try() -> None:
    lane = lane_of(2, maximum_record_age=60)
    take(lane)
    lane.failed(0, now=0, delay=1)
    step = take(lane, 100, NOW_MS + 60_001)
    assert isinstance(step, GiveUp)
    assert (ids(step), step.condition) == ([0, 1], TOO_OLD)


def test_a_record_of_unknown_arrival_is_never_too_old() -> None:
    lane = Lane(Policy(batch_size=10, maximum_record_age=60))
    lane.add(0, record(0, arrived_ms=0), 0)
    assert isinstance(take(lane), Invoke)


# --- tumbling windows -------------------------------------------------------------------------------------------------


def windowed(*arrivals: int, **policy: Any) -> Lane:
    lane = Lane(Policy(**{"batch_size": 10, "tumbling_window": 60, **policy}))
    for number, arrived in enumerate(arrivals):
        lane.add(number, record(number, arrived_ms=arrived), 0)
    return lane


def test_a_batch_never_reaches_into_the_next_window() -> None:
    lane = windowed(0, 59_999, 60_000)
    step = take(lane, now_ms=60_000)
    assert isinstance(step, Invoke)
    assert ids(step) == [0, 1]
    assert step.window is not None
    assert (step.window.start_ms, step.window.end_ms, step.window.final) == (0, 60_000, True)
    lane.succeeded(b'{"n":2}')
    following = take(lane, now_ms=60_000)
    assert isinstance(following, Invoke)
    assert following.window is not None
    assert (following.window.start_ms, following.window.state, following.window.final) == (60_000, b"{}", False)


def test_an_idle_window_ends_by_itself_with_no_records() -> None:
    lane = windowed(0)
    take(lane, now_ms=1_000)
    lane.succeeded(b'{"n":1}')
    assert lane.next(61, 62_000) is None, "the shard may have more of it"
    assert lane.window_due(61, 62_000) is None
    lane.quiet_since = 61
    assert lane.window_due(61, 60_000) == 2
    assert lane.window_due(61, 62_000) == 2
    assert lane.next(62.9, 62_000) is None
    assert lane.next(63, 61_999) is None
    step = take(lane, now=63, now_ms=62_000)
    assert isinstance(step, Invoke)
    assert ids(step) == []
    assert step.window is not None
    assert (step.window.state, step.window.final) == (b'{"n":1}', True)
    lane.succeeded()
    assert lane.idle


def test_a_state_that_is_too_large_ends_its_window_early() -> None:
    lane = windowed(0)
    take(lane, now_ms=0)
    large = b'{"x":"' + b"x" * STATE_LIMIT + b'"}'
    lane.succeeded(large)
    step = take(lane, now_ms=0)
    assert isinstance(step, Invoke)
    assert step.window is not None
    assert (step.window.final, step.window.early, step.window.state) == (True, True, large)
    lane.succeeded()
    assert lane.window is not None
    assert lane.window.state == b"{}"


def test_what_comes_late_belongs_to_the_window_that_is_open() -> None:
    lane = windowed(60_000, 59_000)
    step = take(lane, now_ms=61_000)
    assert isinstance(step, Invoke)
    assert ids(step) == [0, 1]


def test_a_window_is_final_only_in_its_last_half() -> None:
    lane = windowed(0, 1, 60_000, bisect=True)
    take(lane, now_ms=60_000)
    lane.failed(0, now=0, delay=1)
    finals = []
    for _ in range(2):
        step = take(lane, now_ms=60_000)
        assert isinstance(step, Invoke)
        assert step.window is not None
        finals.append((ids(step), step.window.state, step.window.final))
        lane.succeeded(b'{"seen":1}')
    assert finals == [([0], b"{}", False), ([1], b'{"seen":1}', True)]


def test_a_window_that_is_over_does_not_hurry_a_retry() -> None:
    lane = windowed(0)
    take(lane, 61, NOW_MS + 62_000)
    lane.failed(0, now=61, delay=5)
    lane.quiet_since = 0
    assert lane.window_due(62, NOW_MS + 63_000) is None, "it would be asked again and again until the retry is due"
    assert lane.due() == 66


def test_a_state_that_was_too_large_before_a_restart_ends_its_window_early() -> None:
    lane = Lane(Policy(batch_size=100, tumbling_window=60))
    lane.window = Window(NOW_MS // 60_000 * 60_000, b'{"x": "' + b"x" * STATE_LIMIT + b'"}')
    lane.add(0, record(0), 0)
    step = take(lane)
    assert isinstance(step, Invoke)
    assert step.window is not None
    assert (ids(step), step.window.final, step.window.early) == ([], True, True)
    lane.succeeded()
    assert ids(take(lane)) == [0]


# --- the mark ---------------------------------------------------------------------------------------------------------


def test_the_mark_passes_what_is_filtered_out_and_stops_at_what_is_not_done() -> None:
    progress = Progress(Policy(batch_size=1))
    progress.add([record(0), record(1), record(2)], [False, True, False], 0)
    mark = progress.mark()
    assert mark is not None
    assert mark.id == "0"
    assert progress.mark() is None
    take(progress.lanes[0])
    progress.lanes[0].succeeded()
    mark = progress.mark()
    assert mark is not None
    assert mark.id == "2"


@pytest.mark.parametrize("lanes", [1, 2, 7])
def test_a_key_is_always_in_the_same_lane(lanes: int) -> None:
    progress = Progress(Policy(batch_size=1000), lanes)
    progress.add([record(number, key=str(number % 5)) for number in range(100)], None, 0)
    where: dict[str, set[int]] = {}
    for at, lane in enumerate(progress.lanes):
        if lane.waiting:
            for each in take(lane).piece.records:
                where.setdefault(each.group or "", set()).add(at)
    assert all(len(places) == 1 for places in where.values())
    assert len(where) == 5


def test_what_was_filtered_out_is_held_no_longer_than_the_mark_needs_it() -> None:
    progress = Progress(Policy(batch_size=1))
    progress.add([record(0)], [True], 0)
    step = take(progress.lanes[0])
    held = progress.held_bytes
    for number in range(1, 100, 3):
        progress.add([record(number), record(number + 1), record(number + 2)], [False] * 3, 0)
        assert progress.held_bytes <= 2 * held, "one that is not done, and the last one"
    progress.add([record(100), record(101)], [True, False], 0)
    assert step.piece.records
    progress.lanes[0].succeeded()
    moved = progress.mark()
    assert moved is not None
    assert moved.id == "99", "right up to the next that is not done"
    take(progress.lanes[0])
    progress.lanes[0].succeeded()
    moved = progress.mark()
    assert moved is not None
    assert moved.id == "101"
    assert progress.held_bytes == 0


class AShard(RuleBasedStateMachine):
    """Whatever happens in whatever order: each record ends exactly once, in the order of its key, and the mark never
    passes one that has not ended."""

    steps = Bundle("steps")

    @initialize(
        size=st.integers(1, 5),
        lanes=st.integers(1, 3),
        bisect=st.booleans(),
        retries=st.integers(-1, 2),
        age=st.sampled_from([None, 60.0]),
        window=st.sampled_from([0.0, 3.0]),
    )
    def begin(self, size: int, lanes: int, bisect: bool, retries: int, age: float | None, window: float) -> None:
        self.policy = Policy(
            batch_size=size,
            bisect=bisect,
            maximum_retry_attempts=retries,
            maximum_record_age=age,
            batching_window=window,
        )
        self.progress = Progress(self.policy, lanes)
        self.records: list[Record] = []
        self.ended: dict[str, str] = {}  # id -> how
        self.order: list[Record] = []
        self.flights: dict[int, Step] = {}
        self.marked = -1
        self.now = 0.0

    @property
    def now_ms(self) -> int:
        return NOW_MS + round(self.now * 1000)

    @rule(keys=st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=6), data=st.data())
    def read(self, keys: list[str], data: st.DataObject) -> None:
        new = [record(len(self.records) + at, key, self.now_ms) for at, key in enumerate(keys)]
        wanted = data.draw(st.lists(st.booleans(), min_size=len(new), max_size=len(new)))
        self.records += new
        for each, passes in zip(new, wanted, strict=True):
            if not passes:
                self.ended[each.id] = "filtered"
        self.progress.add(new, wanted, self.now)

    @rule(seconds=st.sampled_from([0.5, 5.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(at=st.integers(0, 2))
    def start(self, at: int) -> None:
        at %= len(self.progress.lanes)
        busy = at in self.flights
        step = self.progress.lanes[at].next(self.now, self.now_ms)
        if busy:
            assert step is None
        elif step is not None:
            assert 0 < len(step.piece.records) <= self.policy.batch_size
            assert not any(each.id in self.ended for each in step.piece.records), "it has ended already"
            self.flights[at] = step

    @precondition(lambda self: bool(self.flights))
    @rule(data=st.data(), how=st.sampled_from(["success", "failure", "partial", "throttle"]))
    def end(self, data: st.DataObject, how: str) -> None:
        at = data.draw(st.sampled_from(sorted(self.flights)))
        step = self.flights.pop(at)
        lane, records = self.progress.lanes[at], step.piece.records
        if isinstance(step, GiveUp):
            lane.gave_up()
            self._end(records, "given up")
        elif how == "success":
            lane.succeeded()
            self._end(records, "done")
        elif how == "throttle":
            lane.put_back(self.now, 1)
        else:
            done = data.draw(st.integers(0, len(records) - 1)) if how == "partial" else 0
            lane.failed(done, self.now, 1)
            self._end(records[:done], "done")

    def _end(self, records: list[Record], how: str) -> None:
        for each in records:
            assert each.id not in self.ended, "it ends twice"
            self.ended[each.id] = how
            self.order.append(each)

    @invariant()
    def the_mark_never_passes_what_has_not_ended(self) -> None:
        if not hasattr(self, "progress"):
            return
        moved = self.progress.mark()
        if moved is not None:
            assert int(moved.id) > self.marked
            self.marked = int(moved.id)
        assert all(each.id in self.ended for each in self.records[: self.marked + 1])

    @invariant()
    def nothing_is_held_but_what_the_mark_may_stand_behind(self) -> None:
        if not hasattr(self, "progress"):
            return
        self.the_mark_never_passes_what_has_not_ended()
        # One in front of each that was wanted, and the last; nothing once all has ended.
        wanted = sum(self.ended.get(each.id) != "filtered" for each in self.records[self.marked + 1 :])
        assert self.progress.held_bytes <= (wanted + 1) * (RECORD_ITSELF + 10)
        assert self.progress.held_bytes == 0 or self.marked < len(self.records) - 1

    @invariant()
    def order_is_kept_by_key(self) -> None:
        for key in "abcd":
            of_key = [int(each.id) for each in getattr(self, "order", ()) if each.group == key]
            assert of_key == sorted(of_key)

    def teardown(self) -> None:
        if not hasattr(self, "progress"):
            return
        for at, step in list(self.flights.items()):
            lane = self.progress.lanes[at]
            if isinstance(step, GiveUp):
                lane.gave_up()
            else:
                lane.succeeded()
            self._end(step.piece.records, "at last")
        for lane in self.progress.lanes:
            self.now += 1000
            while (following := lane.next(self.now, NOW_MS)) is not None:
                if isinstance(following, GiveUp):
                    lane.gave_up()
                else:
                    lane.succeeded()
                self._end(following.piece.records, "at last")
        assert set(self.ended) == {each.id for each in self.records}, "nothing is lost"
        assert self.progress.idle
        if self.records and self.marked < len(self.records) - 1:
            last = self.progress.mark()
            assert last is not None
            assert last.id == self.records[-1].id


TestAShard = AShard.TestCase
TestAShard.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)

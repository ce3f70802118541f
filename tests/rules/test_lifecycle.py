"""The table of an asynchronous invocation's life: every row, and laws that hold whatever happens when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.event import Outcome, OutcomeKind
from eventfn.functions.model import Function
from eventfn.rules.lifecycle import (
    INTERRUPTIONS,
    LONGEST_BACKOFF_MS,
    TABLE,
    Accepted,
    On,
    State,
    after_running,
    backoff_ms,
    before_running,
    handed_back,
)
from eventfn.units import Duration

T0 = 1_000_000
SUCCESS = Outcome(OutcomeKind.SUCCESS, b"1")
ERROR = Outcome(OutcomeKind.FUNCTION_ERROR, b"{}", error_type="ValueError")
THROTTLED = Outcome(OutcomeKind.THROTTLED, b"{}")
BROKEN = Outcome(OutcomeKind.SYSTEM_ERROR, b"{}")


def function(
    retries: int = 2, max_age: float = 21_600, delays: tuple[float, ...] = (60, 120), reserved: int | None = None
) -> Function:
    return Function(
        name="f",
        handler="f.handler",
        code="/f",
        maximum_retry_attempts=retries,
        maximum_event_age=Duration(max_age),
        retry_delays=tuple(map(Duration, delays)),
        reserved_concurrency=reserved,
    )


def event(attempts: int = 1, claims: int | None = None) -> Accepted:
    return Accepted("id", b"{}", T0, attempts, attempts if claims is None else claims)


@pytest.mark.parametrize(
    ("outcome", "attempts", "on", "wait"),
    [
        pytest.param(SUCCESS, 1, On.SUCCEEDED, None, id="success"),
        pytest.param(ERROR, 1, On.FAILED, 60_000, id="first error waits a minute"),
        pytest.param(ERROR, 2, On.FAILED, 120_000, id="second error waits two"),
        pytest.param(ERROR, 3, On.EXHAUSTED, None, id="third error ends it"),
        pytest.param(ERROR, 4, On.EXHAUSTED, None, id="an error after interruptions ends it too"),
        pytest.param(THROTTLED, 1, On.HELD_BACK, 1_000, id="throttled"),
        pytest.param(THROTTLED, 3, On.HELD_BACK, 1_000, id="throttled on the last attempt"),
        pytest.param(BROKEN, 3, On.HELD_BACK, 1_000, id="a fault of ours"),
    ],
)
def test_each_outcome_has_one_verdict(outcome: Outcome, attempts: int, on: On, wait: int | None) -> None:
    verdict = after_running(event(attempts), outcome, function(), T0 + 5)

    assert verdict.on is on
    assert (verdict.visible_ms - T0 - 5 if verdict.next is State.QUEUED else None) == wait


@pytest.mark.parametrize(
    ("attempt", "delays", "wait"),
    [(1, (1, 2), 1_000), (2, (1, 2), 2_000), (5, (1, 2), 2_000), (1, (), 0), (3, (0.5,), 500)],
)
def test_the_last_delay_repeats(attempt: int, delays: tuple[float, ...], wait: int) -> None:
    verdict = after_running(event(attempt), ERROR, function(retries=10, delays=delays), T0)

    assert verdict.visible_ms == T0 + wait


def test_who_would_wait_too_long_is_settled_now() -> None:
    young_enough = after_running(event(), ERROR, function(max_age=61), T0 + 1_000)
    too_old = after_running(event(), ERROR, function(max_age=61), T0 + 1_001)

    assert young_enough.on is On.FAILED
    assert (too_old.on, too_old.condition, too_old.next) == (On.TOO_OLD, "EventAgeExceeded", State.SETTLED)


@pytest.mark.parametrize(
    ("accepted", "declared", "now", "on"),
    [
        pytest.param(event(), function(), T0, None, id="runs"),
        pytest.param(event(), None, T0, On.UNKNOWN, id="no such function"),
        pytest.param(event(), function(reserved=0), T0, On.BLOCKED, id="no places"),
        pytest.param(event(), function(max_age=60), T0 + 60_000, None, id="just young enough"),
        pytest.param(event(), function(max_age=60), T0 + 60_001, On.TOO_OLD, id="too old"),
        pytest.param(event(3 + INTERRUPTIONS), function(), T0, None, id="interrupted often"),
        pytest.param(event(4 + INTERRUPTIONS), function(), T0, On.INTERRUPTED, id="interrupted too often"),
        pytest.param(event(1, 1000), function(), T0, None, id="held back often, which is nobody's fault"),
    ],
)
def test_before_running(accepted: Accepted, declared: Function | None, now: int, on: On | None) -> None:
    verdict = before_running(accepted, declared, now)

    assert (verdict.on if verdict else None) is on


@pytest.mark.parametrize(("times", "wait"), [(0, 1_000), (1, 2_000), (2, 4_000), (9, 300_000), (10_000, 300_000)])
def test_back_off_doubles_to_five_minutes(times: int, wait: int) -> None:
    assert backoff_ms(times) == wait


def test_a_drain_hands_back_at_once_and_uncounted() -> None:
    verdict = handed_back(T0)

    assert (verdict.next, verdict.counted, verdict.visible_ms) == (State.QUEUED, False, T0)


def test_every_settled_row_but_success_names_its_condition() -> None:
    for (_, on), row in TABLE.items():
        assert (row.next is State.SETTLED) == (row.condition is not None), on


@given(
    retries=st.integers(0, 5),
    outcomes=st.lists(st.sampled_from([SUCCESS, ERROR, THROTTLED, BROKEN]), min_size=30, max_size=60),
    waits=st.lists(st.integers(0, 10_000), min_size=60, max_size=60),
)
def test_whatever_happens_an_event_settles_once_with_at_most_its_attempts(
    retries: int, outcomes: list[Outcome], waits: list[int]
) -> None:
    declared = function(retries=retries, delays=(1, 2))
    now, attempts, claims, errors = T0, 0, 0, 0
    for outcome, wait in zip(outcomes, waits, strict=False):
        attempts, claims = attempts + 1, claims + 1
        claimed = Accepted("id", b"{}", T0, attempts, claims)
        verdict = before_running(claimed, declared, now)
        if verdict is None:
            verdict = after_running(claimed, outcome, declared, now)
            errors += outcome is ERROR
        if verdict.next is State.SETTLED:
            assert verdict.condition is not None
            assert errors <= retries + 1
            assert verdict.success == (outcome is SUCCESS)
            return
        assert now <= verdict.visible_ms <= now + max(LONGEST_BACKOFF_MS, 2_000)
        attempts -= not verdict.counted
        now = verdict.visible_ms + wait
    assert errors <= retries

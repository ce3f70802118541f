"""Who may run now: reserved places, the common ones, and what a reload changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eventfn.bus.admission import ACCOUNT_REACHED, RESERVED_REACHED, Admission, Share
from eventfn.functions.model import Function


def function(name: str, reserved: int | None = None) -> Function:
    return Function(name=name, handler="f.h", code="/f", reserved_concurrency=reserved)


def admission(concurrency: int, *functions: Function) -> Admission:
    made = Admission(concurrency)
    made.declare(functions)
    return made


def test_reserved_places_are_a_guarantee_and_a_ceiling() -> None:
    door = admission(3, function("own", 1), function("a"), function("b"))
    assert all([door.enter("a"), door.enter("b")])

    assert door.enter("b") is None
    assert door.reason("b") == ACCOUNT_REACHED
    assert door.enter("own") is not None
    assert door.enter("own") is None
    assert door.reason("own") == RESERVED_REACHED


def test_a_place_left_is_free_again_and_wakes_who_waits() -> None:
    door = admission(1, function("a"))
    share = door.enter("a")
    assert share is not None
    woken: list[int] = []
    door.when_room(lambda: woken.append(door.room("a")))
    assert woken == []

    door.leave(share)

    assert woken == [1]


def test_a_reload_keeps_count_of_what_runs() -> None:
    door = admission(10, function("a", 2))
    running = door.enter("a")
    assert running is not None

    door.declare([function("a", 1)])

    assert door.enter("a") is None
    door.leave(running)
    assert door.enter("a") is not None


def test_zero_reserved_lets_nobody_in() -> None:
    assert admission(10, function("a", 0)).enter("a") is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=200))
def test_limits_hold_whatever_comes_and_goes(steps: list[tuple[str, bool]]) -> None:
    door = admission(5, function("a"), function("b"), function("c", 2))
    inside: dict[str, list[Share]] = {"a": [], "b": [], "c": []}
    for name, enters in steps:
        if enters:
            share = door.enter(name)
            if share is not None:
                inside[name].append(share)
        elif inside[name]:
            door.leave(inside[name].pop())
        assert len(inside["c"]) <= 2
        assert len(inside["a"]) + len(inside["b"]) <= 3
        assert door.room("c") == 2 - len(inside["c"])


def test_who_waits_is_woken_once_however_often_he_asked() -> None:
    door = admission(1, function("a"))
    share = door.enter("a")
    assert share is not None
    woken: list[str] = []

    def first() -> None:
        woken.append("first")

    def second() -> None:
        woken.append("second")

    for _ in range(1000):  # each event that is accepted meanwhile makes a lane look, and ask, again
        door.when_room(first)
        door.when_room(second)
    door.leave(share)

    assert woken == ["first", "second"]

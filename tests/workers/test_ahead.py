"""Who has a request that was sent ahead: every order in which an environment and its supervisor may come to it."""

from __future__ import annotations

import fcntl
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.workers import gate as supervisors
from eventfn.workers.ahead import Ahead
from eventfn.workers.child import frames, gate
from eventfn.workers.child.inbox import Inbox
from eventfn.workers.pace import Pace


class Both:
    """The two sides with a real gate and a real channel, each of which takes a step when it is told to."""

    def __init__(self) -> None:
        self.gate = supervisors.Gate()
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.inbox = Inbox(self.reading, gate.Gate(self.gate.descriptor))
        self.ahead: Ahead[str] = Ahead()
        self.number = 0
        self.shut = True
        self.lets_pass = False
        self.ended = False
        self.alone = 0
        self.head: tuple[int, str] | None = None  # the one that runs, as the supervisor knows it
        self.answers: list[str] = []  # on their way
        self.runs: str | None = None  # in the environment
        self.began: list[str] = []
        self.waiting: list[str] = []
        self.named = 0

    def close(self) -> None:
        self.gate.close()
        os.close(self.reading)
        os.close(self.writing)

    # --- the supervisor ---

    def send(self) -> None:
        """A new one, or one that was given back: ahead of its turn, where something runs."""
        if not self.waiting:
            self.named += 1
            self.waiting.append(f"request {self.named}")
        if self.head is None:
            flag, self.shut = (frames.OPEN if self.shut else 0), False
            self.lets_pass = True
            self._write(flag, name := self.waiting.pop(0))
            self._begin_alone(name)
        elif self.lets_pass and len(self.ahead) < 16:
            self._write(frames.AHEAD, name := self.waiting.pop(0))
            self.ahead.add(self.number, name)

    def _begin_alone(self, name: str) -> None:
        self.head = self.number, name
        self.alone = self.number
        self.ahead.begin_alone(self.number)

    def _write(self, flag: int, name: str) -> None:
        self.number += 1
        os.write(self.writing, frames.join(frames.INVOKE, payload=name.encode(), number=self.number, flag=flag))

    def hear(self) -> None:
        if self.answers:
            assert self.head is not None
            assert self.answers.pop(0) == self.head[1]
            self.head = self.ahead.begin() if self.ahead else None

    def take_back(self) -> None:
        if self.shut or self.head is None or (passed := self.gate.shut()) is None:
            return
        self.shut, self.lets_pass = True, False
        given_back = self.ahead.take_back(passed)
        if self.ahead.held_up(passed) == self.head[0]:
            if self.head[0] == self.alone and not self.ended:
                assert self.head[1] not in self.began
                self._write(frames.OPEN, self.head[1])
                self._begin_alone(self.head[1])
                self.shut = False
            else:
                given_back.insert(0, self.head[1])
                self.head = None
        assert not set(given_back) & set(self.began), "what runs, or has run, is nobody else's"
        self.waiting = given_back + self.waiting

    # --- the environment ---

    def begin(self) -> None:
        if self.runs is None:
            try:
                frame = self.inbox.next_request()
            except BlockingIOError:
                return
            assert frame is not None
            self.runs = frame[4].decode()
            self.began.append(self.runs)

    def answer(self) -> None:
        if self.runs is not None:
            self.answers.append(self.runs)
            self.runs = None


STEPS = ["send", "hear", "take_back", "begin", "answer"]


@given(st.lists(st.sampled_from([*STEPS, "send", "send"]), max_size=80))
def test_each_request_runs_exactly_once(steps: list[str]) -> None:
    both = Both()
    try:
        for step in steps:
            getattr(both, step)()
        for _ in range(4 * len(steps) + 4):  # to its end, with nothing new
            if both.waiting:
                both.send()
            for step in ("begin", "answer", "hear"):
                getattr(both, step)()
        assert sorted(both.began) == sorted(f"request {number + 1}" for number in range(both.named))
        assert both.head is None
        assert not both.ahead
        assert not both.waiting
    finally:
        both.close()


@given(st.lists(st.sampled_from([*STEPS, "send", "send"]), max_size=80))
def test_when_the_environment_ends_nothing_is_lost_and_nothing_runs_again(steps: list[str]) -> None:
    both = Both()
    try:
        for step in steps:
            getattr(both, step)()
        while both.answers:  # what it has still said
            both.hear()
        both.ended = True
        both.take_back()
        if not both.shut:  # as it has not opened it
            both.waiting = both.ahead.take_back(0) + both.waiting
            if both.head is not None and both.ahead.held_up(None) == both.head[0]:
                both.waiting.insert(0, both.head[1])
        assert len(both.ahead) == 0, "nothing is begun behind a request without an answer"
        assert sorted([*both.began, *both.waiting]) == sorted(f"request {number + 1}" for number in range(both.named))
    finally:
        both.close()


def test_what_an_environment_makes_up_takes_no_more_than_its_own() -> None:
    ahead: Ahead[str] = Ahead()
    for number, name in enumerate("abc", 1):
        ahead.add(number, name)
    assert ahead.take_back(1 << 63) == []
    assert len(ahead) == 3
    assert ahead.begin() == (1, "a")
    assert ahead.take_back(-1) == ["b", "c"]
    assert ahead.held_up(1) == 0
    assert ahead.held_up(0) == 1
    assert ahead.held_up(0) == 0


@pytest.mark.parametrize("blocking", [True, False])
def test_no_state_of_the_gate_keeps_the_supervisor_waiting(blocking: bool) -> None:
    mine = supervisors.Gate()
    theirs = os.dup(mine.descriptor)
    try:
        flags = fcntl.fcntl(theirs, fcntl.F_GETFL)
        fcntl.fcntl(theirs, fcntl.F_SETFL, flags & ~os.O_NONBLOCK if blocking else flags)
        assert mine.shut() is None
        os.eventfd_write(theirs, 2**64 - 2)
        assert mine.shut() == 2**64 - 3
        assert mine.shut() is None
    finally:
        os.close(theirs)
        mine.close()


@pytest.mark.parametrize(
    ("milliseconds", "quick", "together", "ahead"),
    [
        (0.0, True, 16, 16),
        (0.03, True, 8, 16),
        (0.1, True, 2, 10),
        (0.25, True, 1, 4),
        (0.3, True, 0, 3),
        (1.0, True, 0, 1),
        (1.1, True, 0, 0),
        (5.0, True, 0, 0),
        (5.1, False, 0, 0),
    ],
)
def test_how_much_is_sent_ahead_goes_by_the_time_that_it_would_wait(
    milliseconds: float, quick: bool, together: int, ahead: int
) -> None:
    pace = Pace()
    assert not pace.quick
    assert pace.ahead == pace.together == 0
    pace.answered(milliseconds)
    assert (pace.quick, pace.together, pace.ahead) == (quick, together, ahead)


def test_one_slow_answer_does_not_make_a_function_slow_and_many_do() -> None:
    pace = Pace()
    pace.answered(0.05)
    pace.answered(500)
    assert pace.ahead == 16
    for _ in range(300):
        pace.answered(500)
    assert not pace.quick
    assert pace.ahead == 0

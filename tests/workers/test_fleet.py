"""Which environment gets which request: a fleet with environments that run nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import cast

import msgspec

from eventfn.event import Apart, Invocation, Outcome, OutcomeKind
from eventfn.functions.model import Function
from eventfn.workers.contract import Prepared
from eventfn.workers.environment import Environment
from eventfn.workers.fleet import Fleet
from eventfn.workers.request import Request
from tests.support import until

CORES = os.cpu_count() or 1


class Idle:
    """An environment that takes requests and answers when it is told to."""

    ended = False
    stale = False
    good_until = float("inf")
    reads_ahead = False

    def __init__(self, fleet: Fleet) -> None:
        self.requests: dict[int, Request] = {}
        self.ahead: list[Request] = []
        self.answers = 0
        self.fleet = fleet

    @property
    def full(self) -> bool:
        return bool(self.requests)

    def run(self, request: Request) -> None:
        self.requests[0] = request

    def answer(self, milliseconds: float) -> None:
        request = self.requests.pop(0)
        self.answers += 1
        if self.ahead:
            self.requests[0] = self.ahead.pop(0)
        else:
            self.fleet.freed(cast(Environment, self))
        outcome = Outcome(OutcomeKind.SUCCESS, b"", request.invocation.request_id, duration_ms=milliseconds)
        self.fleet.finished(request, outcome)


class Reading(Idle):
    """One that may be sent requests ahead, and begins none of them by itself."""

    reads_ahead = True
    took_back = False

    @property
    def may_send_ahead(self) -> bool:
        return bool(self.requests) and not self.took_back

    def send_ahead(self, request: Request) -> None:
        self.ahead.append(request)

    def take_back(self) -> None:
        self.took_back = True
        ahead, self.ahead = self.ahead, []
        self.fleet.given_back(ahead)


class Asked:
    """The pool: remembers that it was asked for environments."""

    def __init__(self) -> None:
        self.wanted = 0
        self.answered: list[str] = []

    def wants(self, fleet: Fleet) -> None:
        self.wanted = fleet.wanted()

    def finished(self, request: Request, outcome: Outcome) -> None:
        self.answered.append(outcome.request_id)

    def empty(self, fleet: Fleet) -> None: ...


def request(name: str) -> Request:
    return Request(Invocation(name, "f", b"{}", "arn"), lambda _: None, None)


def fleet_of(count: int, tmp_path: Path, kind: type[Idle] = Idle) -> tuple[Fleet, list[Idle], Asked]:
    function = Function(name="f", handler="f.handler", code=str(tmp_path))
    prepared = Prepared(
        function=function,
        arn="arn",
        version="1",
        task_root=str(tmp_path),
        interpreter=sys.executable,
        runtime="python3.11",
    )
    pool = Asked()
    fleet = Fleet(prepared, pool)
    environments = [kind(fleet) for _ in range(count)]
    for environment in environments:
        fleet.ready(cast(Environment, environment))
    return fleet, environments, pool


def busy(environments: list[Idle]) -> int:
    return sum(bool(environment.requests) for environment in environments)


async def test_an_unknown_function_gets_an_environment_for_each_request(tmp_path: Path) -> None:
    fleet, environments, pool = fleet_of(CORES + 2, tmp_path)
    for number in range(CORES + 3):
        fleet.take(request(str(number)))
    assert busy(environments) == CORES + 2
    assert pool.wanted == 1


async def test_a_quick_function_keeps_the_cores_busy_and_no_more(tmp_path: Path) -> None:
    fleet, environments, pool = fleet_of(CORES + 2, tmp_path)
    fleet.take(request("first"))
    environments[-1].answer(milliseconds=0.2)
    for number in range(3 * CORES):
        fleet.take(request(str(number)))
    assert busy(environments) == CORES
    for _ in range(3 * CORES):
        next(environment for environment in environments if environment.requests).answer(milliseconds=0.2)
        assert busy(environments) <= CORES
    assert sorted(pool.answered) == sorted(["first", *(str(number) for number in range(3 * CORES))])
    assert pool.wanted == 0


async def test_when_answers_stop_whoever_waits_gets_an_environment_of_his_own(tmp_path: Path) -> None:
    fleet, environments, pool = fleet_of(CORES + 2, tmp_path)
    fleet.take(request("first"))
    environments[-1].answer(milliseconds=0.2)
    for number in range(CORES + 5):
        fleet.take(request(str(number)))
    assert busy(environments) == CORES
    await until(lambda: busy(environments) == CORES + 2, "those who wait are served by the idle environments")
    assert pool.wanted == 3


async def test_whoever_waited_before_the_function_was_known_to_be_quick_is_looked_after(tmp_path: Path) -> None:
    fleet, environments, pool = fleet_of(CORES + 1, tmp_path)
    for number in range(2 * CORES + 2):
        fleet.take(request(str(number)))
    environments[-1].answer(milliseconds=0.2)
    assert len(fleet.waiting) == CORES
    pool.wanted = 0
    await until(lambda: pool.wanted == CORES, "the pool is asked for more environments")


async def test_a_function_that_turns_slow_is_not_held_back(tmp_path: Path) -> None:
    fleet, environments, _ = fleet_of(CORES + 2, tmp_path)
    fleet.take(request("first"))
    environments[-1].answer(milliseconds=0.2)
    for number in range(200):
        fleet.take(request(str(number)))
        environments[-1].answer(milliseconds=500)
    for number in range(CORES + 2):
        fleet.take(request(str(number)))
    assert busy(environments) == CORES + 2


async def test_a_fleet_wants_no_more_environments_than_it_may_have(tmp_path: Path) -> None:
    fleet, _, _ = fleet_of(1, tmp_path)
    fleet.prepared = msgspec.structs.replace(fleet.prepared, most_environments=2)
    for number in range(5):
        fleet.take(request(str(number)))
    assert fleet.wanted() == 1
    fleet.starting = 1
    assert fleet.wanted() == 0


async def test_of_a_very_quick_function_one_environment_gets_what_the_next_milliseconds_bring(tmp_path: Path) -> None:
    fleet, environments, pool = fleet_of(CORES + 2, tmp_path, Reading)
    fleet.take(request("first"))
    environments[-1].answer(milliseconds=0.05)
    for number in range(4):
        fleet.take(request(str(number)))
    assert busy(environments) == 1
    assert [each.invocation.request_id for each in environments[-1].ahead] == ["1", "2", "3"]
    for _ in range(4):
        environments[-1].answer(milliseconds=0.05)
    assert pool.answered == ["first", "0", "1", "2", "3"]
    assert busy(environments) == 0


async def test_what_would_wait_longer_wakes_others_and_then_waits(tmp_path: Path) -> None:
    fleet, environments, pool = fleet_of(CORES + 2, tmp_path, Reading)
    fleet.take(request("first"))
    environments[-1].answer(milliseconds=0.05)
    for number in range(CORES * 20):
        fleet.take(request(str(number)))
    assert busy(environments) == CORES
    assert sorted(len(each.ahead) for each in environments) == [0, 0, *[16] * CORES]
    assert fleet.waits == CORES * 20 - CORES
    while any(environment.requests for environment in environments):
        next(environment for environment in environments if environment.requests).answer(milliseconds=0.05)
    assert sorted(pool.answered) == sorted(["first", *(str(number) for number in range(CORES * 20))])


async def test_whoever_was_sent_ahead_and_is_held_up_goes_to_somebody_else(tmp_path: Path) -> None:
    fleet, environments, _ = fleet_of(CORES + 2, tmp_path, Reading)
    fleet.take(request("first"))
    environments[-1].answer(milliseconds=0.05)
    for number in range(4):
        fleet.take(request(str(number)))
    await until(lambda: busy(environments) > 1, "what was sent ahead is taken back and run")
    running = {each.requests[0].invocation.request_id for each in environments if each.requests}
    assert {"0", "1"} <= running


async def test_what_is_streamed_or_large_or_wants_its_log_is_not_sent_ahead(tmp_path: Path) -> None:
    fleet, environments, _ = fleet_of(1, tmp_path, Reading)
    fleet.take(request("first"))
    environments[-1].answer(milliseconds=0.05)
    fleet.take(request("runs"))
    fleet.take(Request(Invocation("tail", "f", b"{}", "arn"), lambda _: None, bytearray()))
    fleet.waiting.clear()
    fleet.take(Request(Invocation("large", "f", b" " * 16_385, "arn"), lambda _: None, None))
    fleet.waiting.clear()
    fleet.take(Request(Invocation("apart", "f", b"{}", "arn", apart=Apart(b" " * 16_383, "", 0)), lambda _: None, None))
    fleet.waiting.clear()
    assert not environments[0].ahead
    fleet.take(request("small"))
    assert len(environments[0].ahead) == 1

"""A tiny model beside the engine: whatever comes after whatever, both say the same."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from eventfn.engine.contract import (
    Claim,
    Complete,
    Extend,
    Move,
    Operation,
    Release,
    Send,
)
from eventfn.errors import Fenced
from eventfn.testing.engines.ground import NOW, EngineGround, ids

T = TypeVar("T")
_SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)


class ModelPromise(EngineGround):
    def test_it_agrees_with_a_model(self) -> None:
        """No message lost, none settled twice, the order of groups kept, whatever comes after whatever."""

        class AgainstThisEngine(_AgainstAModel):
            suite = self

        # No deadline and no health check: how long a disk takes is not what is tested.
        bounds = settings(max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=_SLOW)
        run_state_machine_as_test(AgainstThisEngine, settings=bounds)


class _Expected(msgspec.Struct):
    """A message as the model knows it."""

    id: str
    queue: str
    group: str | None
    visible_ms: int
    attempts: int = 0
    claims: int = 0
    claim: Claim | None = None  # who may settle it

    def flying(self, now: int) -> bool:
        return self.claim is not None and self.visible_ms > now


class _AgainstAModel(RuleBasedStateMachine):
    QUEUES = ("q", "r")

    suite: ClassVar[EngineGround]

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._runner = asyncio.Runner()
        self._engine = self.suite.create(Path(self._folder.name) / "data")
        self._now = NOW
        self._messages: list[_Expected] = []  # in order of sending
        self._claims: list[Claim] = []  # every claim ever given
        self._sent = 0
        self._do(self._engine.open(self._now))

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def teardown(self) -> None:
        for queue in self.QUEUES:
            assert ids(self._do(self._engine.peek(queue, 1000))) == [m.id for m in self._in(queue)]
        self._do(self._engine.close())
        self._runner.close()
        self._folder.cleanup()

    def _in(self, queue: str) -> list[_Expected]:
        return [message for message in self._messages if message.queue == queue]

    def _ahead(self, message: _Expected) -> list[_Expected]:
        place = self._messages.index(message)
        return [m for m in self._messages[:place] if (m.queue, m.group) == (message.queue, message.group)]

    def _claimable(self, message: _Expected) -> bool:
        if message.visible_ms > self._now:
            return False
        if message.group is None:
            return True
        group = [m for m in self._in(message.queue) if m.group == message.group]
        return not any(m.flying(self._now) for m in group) and all(
            m.visible_ms <= self._now for m in self._ahead(message)
        )

    @rule(
        queue=st.sampled_from(QUEUES),
        groups=st.lists(st.sampled_from([None, "g", "h"]), min_size=1, max_size=4),
        delay=st.sampled_from([0, 0, 0, 50]),
    )
    def send(self, queue: str, groups: list[str | None], delay: int) -> None:
        new: list[_Expected] = []
        for group in groups:
            self._sent += 1
            new.append(_Expected(str(self._sent), queue, group, self._now + delay))
        operations = [Send(m.queue, m.id, b"", visible_ms=m.visible_ms, group=m.group) for m in new]
        assert self._do(self._engine.commit(operations, self._now)) == [m.id for m in new]
        self._messages += new

    @rule(queue=st.sampled_from(QUEUES), limit=st.integers(1, 5), lease=st.sampled_from([10, 100]))
    def claim(self, queue: str, limit: int, lease: int) -> None:
        claimable = [m for m in self._in(queue) if self._claimable(m)]
        got = self._do(self._engine.claim(queue, limit, self._now + lease, self._now))
        expected = {m.id: m for m in claimable}
        assert len(got) == min(limit, len(claimable))
        assert ids(got) == [m.id for m in claimable if m.id in ids(got)]  # in order
        if all(m.group is None for m in claimable):
            assert ids(got) == [m.id for m in claimable[:limit]]  # and the oldest
        for message in got:
            model = expected[message.id]
            assert all(m.id in ids(got) for m in self._ahead(model) if m.group is not None)
            model.attempts += 1
            model.claims += 1
            assert (message.attempts, message.claims) == (model.attempts, model.claims)
            assert message.claim not in self._claims
        for message in got:
            model = expected[message.id]
            model.claim, model.visible_ms = message.claim, self._now + lease
            self._claims.append(message.claim)

    @precondition(lambda self: self._claims)
    @rule(data=st.data(), how=st.sampled_from(["complete", "release", "uncount", "extend", "move"]))
    def settle(self, data: st.DataObject, how: str) -> None:
        claim = data.draw(st.sampled_from(self._claims))
        later = self._now + data.draw(st.sampled_from([0, 20]))
        operations: dict[str, Operation] = {
            "complete": Complete(claim),
            "release": Release(claim, later),
            "uncount": Release(claim, later, count=False),
            "extend": Extend(claim, later),
            "move": Move(claim, "r"),
        }
        holder = next((m for m in self._messages if m.claim == claim), None)
        if holder is None:
            with pytest.raises(Fenced):
                self._do(self._engine.commit([operations[how]], self._now))
            return
        self._do(self._engine.commit([operations[how]], self._now))
        if how in ("complete", "move"):
            self._messages.remove(holder)
        if how == "move":
            self._messages.append(_Expected(holder.id, "r", holder.group, self._now))
        if how in ("release", "uncount"):
            holder.claim, holder.visible_ms = None, later
            holder.attempts -= how == "uncount"
        if how == "extend":
            holder.visible_ms = later

    @rule(milliseconds=st.sampled_from([1, 10, 60]))
    def wait(self, milliseconds: int) -> None:
        self._now += milliseconds

    @invariant()
    def counts_agree(self) -> None:
        expected: dict[str, tuple[int, int, int]] = {}
        for queue in self.QUEUES:
            if messages := self._in(queue):
                flying = sum(m.flying(self._now) for m in messages)
                waiting = sum(m.visible_ms > self._now for m in messages)
                expected[queue] = (len(messages) - waiting, flying, waiting - flying)
        stats = self._do(self._engine.stats("", self._now))
        assert {s.queue: (s.visible, s.in_flight, s.delayed) for s in stats} == expected

    @invariant()
    def it_says_when_to_look_again(self) -> None:
        found = self._do(self._engine.next_visible(""))
        assert set(found) == {m.queue for m in self._messages}
        for queue, visible in found.items():
            assert (visible <= self._now) == any(self._claimable(m) for m in self._in(queue))

"""The conformance suite of engines: every promise of eventfn.engine.contract as a test, and a model beside them.

class TestMyEngine(EngineSuite):
    def create(self, folder: Path) -> Engine:
        return MyEngine(folder)
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
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
    Conflict,
    Engine,
    Expect,
    Extend,
    Message,
    Move,
    Operation,
    Put,
    QueueFull,
    QueueStats,
    Release,
    Send,
)
from eventfn.errors import EngineError, Fenced

T = TypeVar("T")
NOW = 1_700_000_000_000  # suites count from here, in milliseconds
LEASE = 30_000
_SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)


def ids(messages: Sequence[Message]) -> list[str]:
    return [message.id for message in messages]


def sends(queue: str, *names: str, group: str | None = None) -> list[Operation]:
    return [Send(queue, name, name.encode(), group=group) for name in names]


def every_settlement(claim: Claim) -> list[Operation]:
    return [Complete(claim), Release(claim, NOW), Extend(claim, NOW + LEASE), Move(claim, "r")]


class EngineSuite:
    """Subclass it as a Test class and say how an engine is made. `create` is called once for each test."""

    def create(self, folder: Path) -> Engine:
        """An engine that is not open yet. `folder` does not exist; nobody else uses it."""
        raise NotImplementedError

    @pytest.fixture
    async def engine(self, tmp_path: Path) -> AsyncIterator[Engine]:
        engine = self.create(tmp_path / "data")
        await engine.open(NOW)
        yield engine
        await engine.close()

    # --- sending and claiming -----------------------------------------------------------------------------------------

    async def test_a_message_comes_as_it_was_sent(self, engine: Engine) -> None:
        send = Send("q", "id-1", b"\x00body", attributes={"a": "ä"}, dedupe_key="k", dedupe_until_ms=NOW + 1)
        assert await engine.commit([send], NOW) == ["id-1"]
        (message,) = await engine.claim("q", 10, NOW + LEASE, NOW + 5)
        assert message == Message(
            claim=message.claim,
            id="id-1",
            body=b"\x00body",
            attributes={"a": "ä"},
            attempts=1,
            claims=1,
            sent_ms=NOW,
            first_claimed_ms=NOW + 5,
            visible_ms=NOW + LEASE,
            dedupe_key="k",
        )
        assert message.queue == "q"
        assert message.sequence > 0

    async def test_results_stand_in_the_order_of_the_operations(self, engine: Engine) -> None:
        await engine.commit(sends("q", "old"), NOW)
        (old,) = await engine.claim("q", 1, NOW + LEASE, NOW)
        operations = [*sends("q", "a"), Complete(old.claim), Put("k", b"v"), *sends("q", "b")]
        assert await engine.commit(operations, NOW) == ["a", None, None, "b"]

    async def test_a_commit_of_nothing_is_nothing(self, engine: Engine) -> None:
        assert await engine.commit([], NOW) == []

    async def test_the_oldest_come_first_and_no_more_than_asked_for(self, engine: Engine) -> None:
        await engine.commit(sends("q", "a", "b", "c"), NOW)
        await engine.commit(sends("q", "d"), NOW)
        assert ids(await engine.claim("q", 3, NOW + LEASE, NOW)) == ["a", "b", "c"]
        assert ids(await engine.claim("q", 3, NOW + LEASE, NOW)) == ["d"]
        assert await engine.claim("q", 3, NOW + LEASE, NOW) == []

    async def test_a_message_that_was_handed_back_keeps_its_age(self, engine: Engine) -> None:
        await engine.commit(sends("q", "a", "b"), NOW)
        (first,) = await engine.claim("q", 1, NOW + LEASE, NOW)
        await engine.commit([Release(first.claim, NOW)], NOW)
        assert ids(await engine.claim("q", 2, NOW + LEASE, NOW)) == ["a", "b"]

    async def test_of_the_delayed_that_are_due_the_oldest_comes_first(self, engine: Engine) -> None:
        delays = {"a": 300, "b": 200, "c": 100}
        await engine.commit([Send("q", name, b"", visible_ms=NOW + delay) for name, delay in delays.items()], NOW)
        assert ids(await engine.claim("q", 1, NOW + LEASE, NOW + 300)) == ["a"]

    async def test_queues_are_apart(self, engine: Engine) -> None:
        await engine.commit([*sends("q", "a"), *sends("r", "b")], NOW)
        assert ids(await engine.claim("r", 10, NOW + LEASE, NOW)) == ["b"]
        assert ids(await engine.claim("q", 10, NOW + LEASE, NOW)) == ["a"]

    async def test_sequences_grow_over_all_queues_and_are_never_given_twice(self, engine: Engine) -> None:
        seen: list[int] = []
        for n in range(6):
            await engine.commit(sends(f"q{n % 2}", str(n)), NOW)
            (message,) = await engine.claim(f"q{n % 2}", 1, NOW + LEASE, NOW)
            seen.append(message.sequence)
            await engine.commit([Complete(message.claim)], NOW)
            if n == 3:
                await engine.close()
                await engine.open(NOW)
        assert seen == sorted(set(seen))

    async def test_a_delayed_message_comes_when_its_time_has_come(self, engine: Engine) -> None:
        await engine.commit([Send("q", "a", b"", visible_ms=NOW + 100)], NOW)
        assert await engine.claim("q", 1, NOW + LEASE, NOW + 99) == []
        assert ids(await engine.claim("q", 1, NOW + LEASE, NOW + 100)) == ["a"]

    async def test_a_queue_that_nobody_knows_is_empty(self, engine: Engine) -> None:
        assert await engine.claim("none", 1, NOW + LEASE, NOW) == []
        assert await engine.peek("none", 1) == []
        assert await engine.purge("none") == 0

    # --- claims and fences --------------------------------------------------------------------------------------------

    async def test_a_lapsed_claim_is_claimable_and_its_late_answer_is_refused(self, engine: Engine) -> None:
        await engine.commit(sends("q", "a"), NOW)
        (first,) = await engine.claim("q", 1, NOW + LEASE, NOW)
        assert await engine.claim("q", 1, NOW + 2 * LEASE, NOW + LEASE - 1) == []
        (second,) = await engine.claim("q", 1, NOW + 2 * LEASE, NOW + LEASE)
        assert second.claim.fence > first.claim.fence
        assert (second.attempts, second.claims, second.first_claimed_ms) == (2, 2, NOW)
        for late in every_settlement(first.claim):
            with pytest.raises(Fenced):
                await engine.commit([late], NOW + LEASE)
        await engine.commit([Complete(second.claim)], NOW + LEASE)
        assert await engine.peek("q", 1) == []

    @pytest.mark.parametrize("group", [None, "g"])
    async def test_a_lapsed_claim_settles_as_long_as_nobody_else_claimed(
        self, engine: Engine, group: str | None
    ) -> None:
        await engine.commit(sends("q", "a", "b", group=group), NOW)
        first, second = await engine.claim("q", 2, NOW + 10, NOW)
        assert ids(await engine.claim("q", 1, NOW + LEASE, NOW + 10)) == ["a"]  # which looked at b, and left it
        await engine.commit([Complete(second.claim)], NOW + 11)
        with pytest.raises(Fenced):
            await engine.commit([Complete(first.claim)], NOW + 11)
        assert ids(await engine.peek("q", 10)) == ["a"]

    async def test_nothing_is_settled_twice(self, engine: Engine) -> None:
        await engine.commit(sends("q", "a", "b", "c"), NOW)
        a, b, c = await engine.claim("q", 3, NOW + LEASE, NOW)
        await engine.commit([Complete(a.claim), Release(b.claim, NOW), Move(c.claim, "r")], NOW)
        for claim in (a.claim, b.claim, c.claim):
            for again in every_settlement(claim):
                with pytest.raises(Fenced):
                    await engine.commit([again], NOW)
        assert (ids(await engine.peek("q", 9)), ids(await engine.peek("r", 9))) == (["b"], ["c"])

    async def test_one_commit_does_not_settle_twice_either(self, engine: Engine) -> None:
        await engine.commit(sends("q", "a"), NOW)
        (message,) = await engine.claim("q", 1, NOW + LEASE, NOW)
        with pytest.raises(Fenced):
            await engine.commit([Complete(message.claim), Complete(message.claim)], NOW)
        await engine.commit([Complete(message.claim)], NOW)

    async def test_a_claim_that_nobody_gave_settles_nothing(self, engine: Engine) -> None:
        await engine.commit(sends("q", "a"), NOW)
        (peeked,) = await engine.peek("q", 1)
        for claim in (peeked.claim, Claim("q", 999, 1), Claim("r", peeked.sequence, 1), Claim("none", 1, 1)):
            with pytest.raises(Fenced):
                await engine.commit([Complete(claim)], NOW)
        assert ids(await engine.peek("q", 1)) == ["a"]

    async def test_a_released_message_keeps_its_error_and_counts(self, engine: Engine) -> None:
        await engine.commit(sends("q", "a"), NOW)
        counts: list[tuple[int, int, str | None]] = []
        for count, error in [(True, "first"), (False, None), (True, "third"), (True, None)]:
            (message,) = await engine.claim("q", 1, NOW + LEASE, NOW)
            counts.append((message.attempts, message.claims, message.last_error))
            await engine.commit([Release(message.claim, NOW, count=count, error=error)], NOW)
        assert counts == [(1, 1, None), (2, 2, "first"), (2, 3, "first"), (3, 4, "third")]

    async def test_a_released_message_comes_when_its_time_has_come(self, engine: Engine) -> None:
        await engine.commit(sends("q", "a"), NOW)
        (message,) = await engine.claim("q", 1, NOW + LEASE, NOW)
        await engine.commit([Release(message.claim, NOW + 500)], NOW)
        assert await engine.claim("q", 1, NOW + LEASE, NOW + 499) == []
        assert ids(await engine.claim("q", 1, NOW + LEASE, NOW + 500)) == ["a"]

    async def test_a_claim_is_held_as_long_as_it_is_extended(self, engine: Engine) -> None:
        await engine.commit(sends("q", "a"), NOW)
        (message,) = await engine.claim("q", 1, NOW + 10, NOW)
        await engine.commit([Extend(message.claim, NOW + 100)], NOW + 5)
        assert await engine.claim("q", 1, NOW + LEASE, NOW + 99) == []
        await engine.commit([Extend(message.claim, NOW + 50)], NOW + 5)  # and shortened
        assert ids(await engine.claim("q", 1, NOW + LEASE, NOW + 50)) == ["a"]

    # --- all or none --------------------------------------------------------------------------------------------------

    async def test_a_refused_commit_leaves_nothing(self, engine: Engine) -> None:
        await engine.commit([*sends("q", "a", "b"), Put("k", b"old")], NOW)
        a, b = await engine.claim("q", 2, NOW + LEASE, NOW)
        await engine.commit([Complete(b.claim)], NOW)
        before = await self.everything(engine)
        kept: list[Operation] = [
            *sends("r", "new"),
            Put("k", b"new"),
            Put("l", b"new"),
            Extend(a.claim, NOW + 2 * LEASE),
            Send("q", "d", b"", dedupe_key="d", dedupe_until_ms=NOW + LEASE),
            Move(a.claim, "r"),
        ]
        with pytest.raises(Fenced):
            await engine.commit([*kept, Complete(b.claim)], NOW)
        with pytest.raises(Conflict):
            await engine.commit([*kept, Expect("k", b"old")], NOW)
        with pytest.raises(QueueFull):
            await engine.commit([*kept, Send("r", "over", b"", limit=2)], NOW)
        assert await self.everything(engine) == before
        assert await engine.commit([Send("q", "e", b"", dedupe_key="d", dedupe_until_ms=NOW + 1)], NOW) == ["e"]
        await engine.commit([Complete(a.claim)], NOW)

    async def test_a_refused_commit_disturbs_none_that_came_with_it(self, engine: Engine) -> None:
        await engine.commit(sends("q", "a"), NOW)
        (a,) = await engine.claim("q", 1, NOW + LEASE, NOW)
        stale = Claim("q", a.sequence, a.claim.fence + 1)
        results = await asyncio.gather(
            *(engine.commit([*sends("r", str(n)), *([Complete(stale)] if n % 3 == 0 else [])], NOW) for n in range(60)),
            return_exceptions=True,
        )
        refused = [n for n, result in enumerate(results) if isinstance(result, Fenced)]
        assert refused == list(range(0, 60, 3))
        assert sorted(ids(await engine.peek("r", 100)), key=int) == [str(n) for n in range(60) if n % 3]
        (stats,) = await engine.stats("r", NOW)
        assert stats.total == 40

    async def test_what_was_committed_is_there_after_a_reopening(self, engine: Engine) -> None:
        await engine.commit([*sends("q", "a", "b"), Put("k", b"v")], NOW)
        digest = await engine.put_blob([b"blob"])
        await engine.close()
        await engine.open(NOW + 1)
        assert ids(await engine.peek("q", 10)) == ["a", "b"]
        assert await engine.get("k") == b"v"
        assert await engine.get_blob(digest) == b"blob"

    async def test_after_closing_it_refuses_and_closing_again_is_nothing(self, engine: Engine) -> None:
        await engine.close()
        await engine.close()
        with pytest.raises(EngineError):
            await engine.commit(sends("q", "a"), NOW)
        with pytest.raises(EngineError):
            await engine.peek("q", 1)

    async def test_commits_under_way_are_answered_before_it_is_closed(self, engine: Engine) -> None:
        under_way = [asyncio.ensure_future(engine.commit(sends("q", str(n)), NOW)) for n in range(50)]
        await asyncio.sleep(0)
        await engine.close()
        assert await asyncio.gather(*under_way) == [[str(n)] for n in range(50)]
        await engine.open(NOW)
        assert len(await engine.peek("q", 100)) == 50

    async def test_cancelled_commits_happen_or_do_not_and_hurt_nobody(self, engine: Engine) -> None:
        commits = [asyncio.ensure_future(engine.commit(sends("q", f"{n}a", f"{n}b"), NOW)) for n in range(100)]
        await asyncio.sleep(0)
        for commit in commits[::2]:
            commit.cancel()
        await asyncio.gather(*commits, return_exceptions=True)
        await engine.commit(sends("q", "after"), NOW)
        kept = ids(await engine.peek("q", 1000))
        for n, commit in enumerate(commits):
            both = (f"{n}a" in kept, f"{n}b" in kept)
            assert both in ({(True, True)} if not commit.cancelled() else {(True, True), (False, False)})
        assert kept[-1] == "after"

    async def test_what_a_cancelled_claim_brought_is_handed_back(self, engine: Engine) -> None:
        await engine.commit(sends("q", "a"), NOW)
        for turns in range(4):
            claim = asyncio.ensure_future(engine.claim("q", 1, NOW + LEASE, NOW))
            for _ in range(turns):
                await asyncio.sleep(0)
            claim.cancel()
            await asyncio.gather(claim, return_exceptions=True)
            if claim.cancelled():
                await self.settled(engine)
            else:
                await engine.commit([Release(claim.result()[0].claim, NOW, count=False)], NOW)
            (message,) = await engine.claim("q", 1, NOW + LEASE, NOW)
            assert message.attempts == 1
            await engine.commit([Release(message.claim, NOW, count=False)], NOW)

    # --- dedupe -------------------------------------------------------------------------------------------------------

    async def test_a_key_seen_within_its_window_gives_the_old_id(self, engine: Engine) -> None:
        def send(identity: str, queue: str = "q") -> Send:
            return Send(queue, identity, b"", dedupe_key="k", dedupe_until_ms=NOW + 100)

        assert await engine.commit([send("a"), send("b")], NOW) == ["a", "a"]
        assert await engine.commit([send("c", "other queue")], NOW) == ["c"]
        (message,) = await engine.claim("q", 10, NOW + LEASE, NOW)
        await engine.commit([Complete(message.claim)], NOW)
        assert await engine.commit([send("d")], NOW + 99) == ["a"]  # also when the message is long gone
        assert await engine.peek("q", 1) == []
        assert await engine.commit([send("e")], NOW + 100) == ["e"]

    async def test_a_key_without_a_window_is_carried_and_nothing_more(self, engine: Engine) -> None:
        operations = [Send("q", name, b"", dedupe_key="k") for name in "ab"]
        assert await engine.commit(operations, NOW) == ["a", "b"]
        assert [message.dedupe_key for message in await engine.peek("q", 10)] == ["k", "k"]

    async def test_a_window_survives_purge_and_reopening(self, engine: Engine) -> None:
        send = Send("q", "a", b"", dedupe_key="k", dedupe_until_ms=NOW + 100)
        await engine.commit([send], NOW)
        await engine.purge("q")
        await engine.close()
        await engine.open(NOW + 1)
        assert await engine.commit([msgspec.structs.replace(send, id="b")], NOW + 1) == ["a"]

    async def test_the_same_key_from_many_at_once_is_kept_once(self, engine: Engine) -> None:
        commits = [
            engine.commit([Send("q", str(n), b"", dedupe_key="k", dedupe_until_ms=NOW + 100)], NOW) for n in range(50)
        ]
        results = await asyncio.gather(*commits)
        (kept,) = await engine.peek("q", 100)
        assert results == [[kept.id]] * 50

    # --- limits -------------------------------------------------------------------------------------------------------

    async def test_a_full_queue_refuses_until_something_goes(self, engine: Engine) -> None:
        def send(name: str) -> Send:
            return Send("q", name, b"", limit=2)

        await engine.commit([send("a"), send("b")], NOW)
        (claimed,) = await engine.claim("q", 1, NOW + LEASE, NOW)
        with pytest.raises(QueueFull) as refusal:
            await engine.commit([send("c")], NOW)
        assert (refusal.value.queue, refusal.value.limit) == ("q", 2)
        await engine.commit([Complete(claimed.claim), send("d")], NOW)
        await engine.close()
        await engine.open(NOW)
        with pytest.raises(QueueFull):
            await engine.commit([send("e")], NOW)
        (claimed,) = await engine.claim("q", 1, NOW + LEASE, NOW)
        await engine.commit([Move(claimed.claim, "r"), send("f")], NOW)
        assert await engine.purge("q") == 2
        await engine.commit([send("g"), send("h")], NOW)

    async def test_a_limit_holds_against_many_at_once(self, engine: Engine) -> None:
        results = await asyncio.gather(
            *(engine.commit([Send("q", str(n), b"", limit=7)], NOW) for n in range(50)), return_exceptions=True
        )
        assert sum(isinstance(result, QueueFull) for result in results) == 43
        assert len(await engine.peek("q", 100)) == 7

    async def test_a_known_key_is_no_new_message_for_a_full_queue(self, engine: Engine) -> None:
        send = Send("q", "a", b"", dedupe_key="k", dedupe_until_ms=NOW + 100, limit=1)
        await engine.commit([send], NOW)
        assert await engine.commit([send], NOW) == ["a"]

    # --- groups -------------------------------------------------------------------------------------------------------

    async def test_a_group_comes_in_order_and_one_claim_may_take_several(self, engine: Engine) -> None:
        await engine.commit(sends("q", "1", "2", "3", group="g"), NOW)
        first = await engine.claim("q", 2, NOW + LEASE, NOW)
        assert ids(first) == ["1", "2"]
        assert await engine.claim("q", 2, NOW + LEASE, NOW) == []  # in flight: nothing of the group
        await engine.commit([Complete(first[0].claim)], NOW)
        assert await engine.claim("q", 2, NOW + LEASE, NOW) == []  # 2 still is
        await engine.commit([Complete(first[1].claim)], NOW)
        assert ids(await engine.claim("q", 2, NOW + LEASE, NOW)) == ["3"]

    async def test_groups_do_not_wait_for_each_other(self, engine: Engine) -> None:
        await engine.commit([*sends("q", "a1", "a2", group="a"), *sends("q", "b1", group="b"), *sends("q", "c")], NOW)
        assert ids(await engine.claim("q", 1, NOW + LEASE, NOW)) == ["a1"]
        assert ids(await engine.claim("q", 10, NOW + LEASE, NOW)) == ["b1", "c"]

    async def test_the_same_group_in_another_queue_is_another(self, engine: Engine) -> None:
        await engine.commit([*sends("q", "a", group="g"), *sends("r", "b", group="g")], NOW)
        assert ids(await engine.claim("q", 1, NOW + LEASE, NOW)) == ["a"]
        assert ids(await engine.claim("r", 1, NOW + LEASE, NOW)) == ["b"]

    async def test_an_earlier_delayed_message_holds_its_group(self, engine: Engine) -> None:
        await engine.commit([Send("q", "1", b"", visible_ms=NOW + 100, group="g"), *sends("q", "2", group="g")], NOW)
        assert await engine.claim("q", 10, NOW + LEASE, NOW + 99) == []
        assert ids(await engine.claim("q", 10, NOW + LEASE, NOW + 100)) == ["1", "2"]

    async def test_a_later_delayed_message_holds_nobody(self, engine: Engine) -> None:
        await engine.commit([*sends("q", "1", group="g"), Send("q", "2", b"", visible_ms=NOW + 100, group="g")], NOW)
        (first,) = await engine.claim("q", 10, NOW + 200, NOW)
        await engine.commit([Complete(first.claim)], NOW)
        assert await engine.claim("q", 10, NOW + LEASE, NOW + 99) == []
        assert ids(await engine.claim("q", 10, NOW + LEASE, NOW + 100)) == ["2"]

    async def test_a_released_head_waits_for_the_rest_of_its_batch(self, engine: Engine) -> None:
        await engine.commit(sends("q", "1", "2", "3", group="g"), NOW)
        first, second = await engine.claim("q", 2, NOW + LEASE, NOW)
        await engine.commit([Release(first.claim, NOW)], NOW)
        assert await engine.claim("q", 10, NOW + LEASE, NOW) == []
        assert await engine.next_visible("q") == {"q": NOW + LEASE}
        await engine.commit([Release(second.claim, NOW)], NOW)
        assert ids(await engine.claim("q", 10, NOW + LEASE, NOW)) == ["1", "2", "3"]

    async def test_a_back_off_holds_the_group(self, engine: Engine) -> None:
        await engine.commit(sends("q", "1", "2", group="g"), NOW)
        (first,) = await engine.claim("q", 1, NOW + LEASE, NOW)
        await engine.commit([Release(first.claim, NOW + 500)], NOW)
        assert await engine.claim("q", 10, NOW + LEASE, NOW + 499) == []
        assert ids(await engine.claim("q", 10, NOW + LEASE, NOW + 500)) == ["1", "2"]

    async def test_a_lapsed_group_comes_again_in_order(self, engine: Engine) -> None:
        await engine.commit(sends("q", "1", "2", "3", group="g"), NOW)
        claimed = await engine.claim("q", 3, NOW + LEASE, NOW)
        await engine.commit([Extend(claimed[2].claim, NOW + 2 * LEASE)], NOW)
        assert await engine.claim("q", 3, NOW + 3 * LEASE, NOW + LEASE) == []  # the third is still in flight
        assert ids(await engine.claim("q", 3, NOW + 3 * LEASE, NOW + 2 * LEASE)) == ["1", "2", "3"]

    async def test_moving_the_head_lets_the_next_of_its_group_come(self, engine: Engine) -> None:
        await engine.commit(sends("q", "1", "2", group="g"), NOW)
        (first,) = await engine.claim("q", 1, NOW + LEASE, NOW)
        await engine.commit([Move(first.claim, "dead")], NOW)
        assert ids(await engine.claim("q", 10, NOW + LEASE, NOW)) == ["2"]
        (dead,) = await engine.claim("dead", 10, NOW + LEASE, NOW)
        assert (dead.id, dead.group) == ("1", "g")

    # --- moving -------------------------------------------------------------------------------------------------------

    async def test_a_moved_message_is_a_new_one_with_its_old_content(self, engine: Engine) -> None:
        await engine.commit([Send("q", "a", b"body", attributes={"x": "1", "y": "1"}, dedupe_key="k")], NOW)
        await engine.commit(sends("dead", "before"), NOW)
        (claimed,) = await engine.claim("q", 1, NOW + LEASE, NOW)
        await engine.commit([Release(claimed.claim, NOW, error="boom")], NOW)
        (claimed,) = await engine.claim("q", 1, NOW + LEASE, NOW)
        await engine.commit([Move(claimed.claim, "dead", attributes={"y": "2", "z": "2"})], NOW + 7)
        assert await engine.peek("q", 1) == []
        _, moved = await engine.claim("dead", 10, NOW + LEASE, NOW + 7)
        assert moved == Message(
            claim=moved.claim,
            id="a",
            body=b"body",
            attributes={"x": "1", "y": "2", "z": "2"},
            attempts=1,
            claims=1,
            sent_ms=NOW + 7,
            first_claimed_ms=NOW + 7,
            visible_ms=NOW + LEASE,
            dedupe_key="k",
            last_error="boom",
        )
        assert moved.sequence > claimed.sequence

    async def test_a_worn_out_message_goes_to_the_dead_letters_instead(self, engine: Engine) -> None:
        await engine.commit(sends("q", "a", "b"), NOW)

        async def claim() -> list[Message]:
            return await engine.claim("q", 1, NOW + LEASE, NOW, max_claims=2, dead_letters="dead")

        for _ in range(2):
            (message,) = await claim()
            assert message.id == "a"
            await engine.commit([Release(message.claim, NOW, error="boom")], NOW)
        assert ids(await claim()) == ["b"]
        (dead,) = await engine.peek("dead", 10)
        assert (dead.id, dead.claims, dead.last_error) == ("a", 0, "boom")

    async def test_a_worn_out_head_lets_its_group_go_on(self, engine: Engine) -> None:
        await engine.commit(sends("q", "1", "2", "3", group="g"), NOW)
        (message,) = await engine.claim("q", 1, NOW + LEASE, NOW)
        await engine.commit([Release(message.claim, NOW)], NOW)
        claimed = await engine.claim("q", 10, NOW + LEASE, NOW, max_claims=1, dead_letters="dead")
        assert ids(claimed) == ["2", "3"]
        assert ids(await engine.peek("dead", 10)) == ["1"]

    # --- looking ------------------------------------------------------------------------------------------------------

    async def test_peeking_shows_all_in_order_and_claims_nothing(self, engine: Engine) -> None:
        await engine.commit([*sends("q", "a", "b", group="g"), Send("q", "c", b"", visible_ms=NOW + 100)], NOW)
        await engine.commit(sends("r", "x"), NOW)
        await engine.commit(sends("q", "d"), NOW)
        await engine.claim("q", 1, NOW + LEASE, NOW)
        first = await engine.peek("q", 2)
        assert ids(first) == ["a", "b"]
        assert [(message.claims, message.visible_ms) for message in first] == [(1, NOW + LEASE), (0, NOW)]
        assert ids(await engine.peek("q", 10, after=first[-1].sequence)) == ["c", "d"]
        assert ids(await engine.claim("q", 10, NOW + LEASE, NOW)) == ["d"]

    async def test_purging_drops_all_of_one_queue(self, engine: Engine) -> None:
        await engine.commit([*sends("q", "a", "b", group="g"), *sends("q", "c"), *sends("r", "x")], NOW)
        claimed = await engine.claim("q", 1, NOW + LEASE, NOW)
        assert await engine.purge("q") == 3
        with pytest.raises(Fenced):
            await engine.commit([Complete(claimed[0].claim)], NOW)
        assert [stats.queue for stats in await engine.stats("", NOW)] == ["r"]
        await engine.commit(sends("q", "d", group="g"), NOW)
        assert ids(await engine.claim("q", 10, NOW + LEASE, NOW)) == ["d"]

    async def test_stats_count_what_is_there(self, engine: Engine) -> None:
        await engine.commit(sends("fn/a", "1", "2", "3"), NOW)
        await engine.commit([Send("fn/a", "4", b"", visible_ms=NOW + 100)], NOW + 1)
        await engine.commit(sends("fn/b", "1", "2", "3", group="g"), NOW + 2)
        await engine.commit(sends("q/a", "1"), NOW + 3)
        await engine.claim("fn/a", 1, NOW + 50, NOW + 3)
        await engine.claim("fn/b", 2, NOW + 50, NOW + 3)
        assert await engine.stats("fn/", NOW + 10) == [
            QueueStats("fn/a", visible=2, in_flight=1, delayed=1, oldest_ms=NOW),
            QueueStats("fn/b", visible=1, in_flight=2, delayed=0, oldest_ms=NOW + 2),
        ]
        (stats,) = await engine.stats("fn/a", NOW + 100)
        assert (stats.visible, stats.in_flight, stats.delayed, stats.total) == (4, 0, 0, 4)
        assert [stats.queue for stats in await engine.stats("", NOW)] == ["fn/a", "fn/b", "q/a"]

    async def test_next_visible_tells_when_to_look_again(self, engine: Engine) -> None:
        assert await engine.next_visible("") == {}
        await engine.commit([Send("fn/a", "1", b"", visible_ms=NOW + 200)], NOW)
        await engine.commit([Send("fn/a", "2", b"", visible_ms=NOW + 100)], NOW)
        await engine.commit([*sends("fn/b", "1"), *sends("q/a", "1")], NOW)
        found = await engine.next_visible("fn/")
        assert found == {"fn/a": NOW + 100, "fn/b": found["fn/b"]}
        assert found["fn/b"] <= NOW
        (claimed,) = await engine.claim("fn/b", 1, NOW + LEASE, NOW)
        assert (await engine.next_visible("fn/"))["fn/b"] == NOW + LEASE
        await engine.commit([Complete(claimed.claim)], NOW)
        assert await engine.next_visible("fn/") == {"fn/a": NOW + 100}

    async def test_next_visible_knows_that_a_busy_group_gives_nothing(self, engine: Engine) -> None:
        await engine.commit(sends("q", "1", "2", group="g"), NOW)
        (first,) = await engine.claim("q", 1, NOW + LEASE, NOW)
        assert await engine.next_visible("q") == {"q": NOW + LEASE}
        await engine.commit([Complete(first.claim)], NOW + 1)
        assert (await engine.next_visible("q"))["q"] <= NOW + 1

    async def test_listeners_hear_of_what_may_be_visible_sooner(self, engine: Engine) -> None:
        heard: list[str] = []
        loop = asyncio.get_running_loop()

        def listen(queue: str) -> None:
            assert asyncio.get_running_loop() is loop
            heard.append(queue)

        engine.on_send(listen)

        async def after(*operations: Operation) -> set[str]:
            heard.clear()
            await engine.commit(operations, NOW)
            return set(heard)

        assert await after(*sends("q", "a"), *sends("r", "b", "c", group="g")) == {"q", "r"}
        assert await after(Put("k", b"v")) == set()
        (a,) = await engine.claim("q", 1, NOW + LEASE, NOW)
        assert await after(Release(a.claim, NOW)) == {"q"}
        (a,) = await engine.claim("q", 1, NOW + LEASE, NOW)
        assert "s" in await after(Move(a.claim, "s"))
        (moved,) = await engine.claim("s", 1, NOW + LEASE, NOW)
        assert await after(Complete(moved.claim)) == set()
        (b,) = await engine.claim("r", 1, NOW + LEASE, NOW)
        assert await after(Complete(b.claim)) == {"r"}  # the next of its group has its turn
        heard.clear()
        with pytest.raises(Conflict):
            await engine.commit([*sends("q", "x"), Expect("k", None)], NOW)
        assert heard == []

    # --- facts, leases, blobs -----------------------------------------------------------------------------------------

    async def test_facts_are_kept_replaced_and_forgotten(self, engine: Engine) -> None:
        assert await engine.get("k") is None
        await engine.commit([Put("p/a", b"1"), Put("p/b", b""), Put("q/a", b"3")], NOW)
        await engine.commit([Put("p/a", b"2"), Put("q/a", None), Put("never", None)], NOW)
        assert await engine.scan("p/") == {"p/a": b"2", "p/b": b""}
        assert await engine.scan("") == {"p/a": b"2", "p/b": b""}
        assert await engine.get("q/a") is None
        assert await engine.get("p/b") == b""

    async def test_compare_and_set_lets_one_of_many_win(self, engine: Engine) -> None:
        results = await asyncio.gather(
            *(engine.commit([Expect("k", None), Put("k", b"%d" % n)], NOW) for n in range(20)), return_exceptions=True
        )
        assert sum(isinstance(result, Conflict) for result in results) == 19
        winner = await engine.get("k")
        with pytest.raises(Conflict):
            await engine.commit([Expect("k", b"other")], NOW)
        await engine.commit([Expect("k", winner), Put("k", None), Expect("k", None)], NOW)

    async def test_a_lease_has_one_owner_and_an_epoch(self, engine: Engine) -> None:
        mine = await engine.acquire("shard", "me", NOW + 100, NOW)
        assert mine is not None
        assert await engine.acquire("shard", "you", NOW + 100, NOW + 99) is None
        again = await engine.acquire("shard", "me", NOW + 200, NOW + 50)
        assert again is not None
        assert (again.epoch, again.until_ms) == (mine.epoch, NOW + 200)
        yours = await engine.acquire("shard", "you", NOW + 300, NOW + 200)
        assert yours is not None
        assert (yours.owner, yours.epoch) == ("you", mine.epoch + 1)
        await engine.give_up(again)  # late: it is somebody else's by now
        assert await engine.acquire("shard", "me", NOW + 300, NOW + 201) is None
        await engine.give_up(yours)
        back = await engine.acquire("shard", "me", NOW + 300, NOW + 201)
        assert back is not None
        assert back.epoch == yours.epoch + 1

    async def test_leases_are_apart_and_epochs_survive(self, engine: Engine) -> None:
        first = await engine.acquire("a", "me", NOW + 100, NOW)
        assert await engine.acquire("b", "you", NOW + 100, NOW) is not None
        await engine.close()
        await engine.open(NOW + 100)
        taken = await engine.acquire("a", "you", NOW + 300, NOW + 100)
        assert first is not None
        assert taken is not None
        assert taken.epoch > first.epoch

    async def test_blobs_are_named_by_their_content(self, engine: Engine) -> None:
        content = bytes(range(256)) * 1000
        digest = hashlib.sha256(content).hexdigest()
        assert await engine.get_blob(digest) is None
        chunks = [content[:1000], content[1000:]]
        assert await engine.put_blob(chunks) == digest
        assert await engine.put_blob(iter(chunks)) == digest
        assert await engine.get_blob(digest) == content
        assert await engine.get_blob("../../etc/passwd") is None

    async def test_a_blob_whose_source_fails_is_not_kept(self, engine: Engine) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"half"
            raise LookupError("the upload broke off")

        with pytest.raises(LookupError):
            await engine.put_blob(chunks())
        assert await engine.get_blob(hashlib.sha256(b"half").hexdigest()) is None

    # --- a model beside it --------------------------------------------------------------------------------------------

    def test_it_agrees_with_a_model(self) -> None:
        """No message lost, none settled twice, the order of groups kept, whatever comes after whatever."""

        class AgainstThisEngine(_AgainstAModel):
            suite = self

        # No deadline and no health check: how long a disk takes is not what is tested.
        bounds = settings(max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=_SLOW)
        run_state_machine_as_test(AgainstThisEngine, settings=bounds)

    # --- helpers ------------------------------------------------------------------------------------------------------

    async def everything(self, engine: Engine) -> Any:
        stats = await engine.stats("", NOW)
        messages = [await engine.peek(queue.queue, 1000) for queue in stats]
        return stats, messages, await engine.scan(""), await engine.next_visible("")

    async def settled(self, engine: Engine) -> None:
        """Everything that was set off has been done: a commit comes behind what was handed over before it."""
        for _ in range(3):
            await engine.commit([Put("barrier", b"")], NOW)


class EmbeddedEngineSuite(EngineSuite):
    """For an engine that is alone with its data: what a process that is gone had claimed is free at the next start."""

    async def test_claims_of_a_process_that_is_gone_are_released(self, engine: Engine) -> None:
        await engine.commit([*sends("q", "a", "b", group="g"), *sends("q", "c")], NOW)
        await engine.commit([Send("q", "later", b"", visible_ms=NOW + LEASE)], NOW)
        claimed = await engine.claim("q", 10, NOW + LEASE, NOW)
        await engine.close()
        await engine.open(NOW + 1)
        for message in claimed:
            with pytest.raises(Fenced):
                await engine.commit([Complete(message.claim)], NOW + 1)
        assert [message.visible_ms for message in await engine.peek("q", 3)] == [NOW + 1] * 3
        again = await engine.claim("q", 10, NOW + LEASE, NOW + 1)
        assert ids(again) == ["a", "b", "c"]
        assert [(message.attempts, message.claims) for message in again] == [(2, 2)] * 3  # the attempt stays counted
        for message in claimed:
            with pytest.raises(Fenced):
                await engine.commit([Complete(message.claim)], NOW + 1)

    async def test_leases_of_a_process_that_is_gone_are_free(self, engine: Engine) -> None:
        gone = await engine.acquire("cron", "node-1", NOW + LEASE, NOW)
        await engine.close()
        await engine.open(NOW + 1)
        taken = await engine.acquire("cron", "node-2", NOW + LEASE, NOW + 1)
        assert gone is not None
        assert taken is not None
        assert taken.epoch == gone.epoch + 1


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

    suite: ClassVar[EngineSuite]

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

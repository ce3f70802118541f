"""Messages: sent, claimed, fenced, sent again, too many."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from eventfn.engine.contract import (
    Claim,
    Complete,
    Conflict,
    Engine,
    Extend,
    Message,
    Move,
    Put,
    QueueFull,
    Release,
    Send,
)
from eventfn.errors import Fenced
from eventfn.testing.engines.ground import LEASE, NOW, EngineGround, every_settlement, ids, sends


class MessagePromises(EngineGround):
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

    async def test_what_is_to_be_new_is_refused_when_its_key_was_seen(self, engine: Engine) -> None:
        send = Send("q", "a", b"", dedupe_key="k", dedupe_until_ms=NOW + 100, only_new=True)
        assert await engine.commit([Put("fact", b"1"), send], NOW) == [None, "a"]
        with pytest.raises(Conflict):
            await engine.commit([Put("fact", b"2"), send], NOW + 99)
        assert await engine.get("fact") == b"1", "nothing of a refused commit is kept"
        (message,) = await engine.claim("q", 10, NOW + LEASE, NOW)
        await engine.commit([Complete(message.claim)], NOW)
        with pytest.raises(Conflict):
            await engine.commit([send], NOW + 99)
        assert await engine.commit([send], NOW + 100) == ["a"]

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

"""Groups come in order, also over a move to another queue."""

from __future__ import annotations

from eventfn.engine.contract import (
    Complete,
    Engine,
    Extend,
    Message,
    Move,
    Release,
    Send,
)
from eventfn.testing.engines.ground import LEASE, NOW, EngineGround, ids, sends


class GroupPromises(EngineGround):
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

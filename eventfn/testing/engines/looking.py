"""What can be seen of queues without taking anything."""

from __future__ import annotations

import asyncio

import pytest

from eventfn.engine.contract import (
    Complete,
    Conflict,
    Engine,
    Expect,
    Move,
    Operation,
    Put,
    QueueStats,
    Release,
    Send,
)
from eventfn.errors import Fenced
from eventfn.testing.engines.ground import LEASE, NOW, EngineGround, ids, sends


class LookingPromises(EngineGround):
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

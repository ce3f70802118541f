"""A commit keeps all of its operations or none."""

from __future__ import annotations

import asyncio

import pytest

from eventfn.engine.contract import (
    Claim,
    Complete,
    Conflict,
    Engine,
    Expect,
    Extend,
    Move,
    Operation,
    Put,
    QueueFull,
    Release,
    Send,
)
from eventfn.errors import EngineError, Fenced
from eventfn.testing.engines.ground import LEASE, NOW, EngineGround, ids, sends


class CommitPromises(EngineGround):
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

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eventfn.engine.contract import Complete, Engine, Release, Send
from eventfn.engine.sqlite import SqliteEngine
from eventfn.testing.engines import LEASE, NOW, EmbeddedEngineSuite, ids, sends


class TestSqliteEngine(EmbeddedEngineSuite):
    def create(self, folder: Path) -> Engine:
        return SqliteEngine(folder)


@pytest.fixture
async def engine(tmp_path: Path):  # type: ignore[no-untyped-def]  # a generator fixture needs no type to be used
    engine = SqliteEngine(tmp_path / "data")
    await engine.open(NOW)
    yield engine
    await engine.close()


async def test_commits_that_wait_together_share_a_transaction(engine: SqliteEngine) -> None:
    before = engine.transactions
    await asyncio.gather(*(engine.commit(sends("q", str(n)), NOW) for n in range(500)))
    # The first may go alone; the others queue up behind it.
    assert engine.transactions - before <= 20


async def test_a_commit_that_is_alone_waits_for_nobody(engine: SqliteEngine) -> None:
    before = engine.transactions
    for n in range(5):
        await engine.commit(sends("q", str(n)), NOW)
    assert engine.transactions - before == 5


async def test_more_callers_than_may_wait_are_all_answered(engine: SqliteEngine) -> None:
    results = await asyncio.gather(*(engine.commit(sends("q", str(n)), NOW) for n in range(10_000)))
    assert results == [[str(n)] for n in range(10_000)]
    assert len(await engine.peek("q", 20_000)) == 10_000


async def test_a_bug_of_one_caller_is_his_alone(engine: SqliteEngine) -> None:
    wrong = Send("q", "wrong", "text where bytes belong", attributes={"x": object()})  # type: ignore[arg-type,dict-item]  # the bug
    results = await asyncio.gather(
        engine.commit(sends("q", "a"), NOW),
        engine.commit([*sends("q", "half"), wrong], NOW),
        engine.commit(sends("q", "b"), NOW),
        return_exceptions=True,
    )
    assert (results[0], results[2]) == (["a"], ["b"])
    assert isinstance(results[1], TypeError)
    assert ids(await engine.peek("q", 10)) == ["a", "b"]
    (stats,) = await engine.stats("q", NOW)
    assert stats.total == 2
    with pytest.raises(Exception, match="holds its limit of 2"):
        await engine.commit([Send("q", "c", b"", limit=2)], NOW)


async def test_a_claim_of_a_long_group_looks_at_its_head_alone(engine: SqliteEngine) -> None:
    """Counted in steps of SQLite's machine, not in time: as many for ten waiting messages as for 100,000."""

    async def steps(queue: str) -> int:
        await engine.claim(queue, 1, NOW + LEASE, NOW)  # the head is in flight: the group gives nothing
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        engine._store._db.set_progress_handler(step, 1)
        assert await engine.claim(queue, 10, NOW + LEASE, NOW) == []
        engine._store._db.set_progress_handler(None, 0)
        return count

    await engine.commit([Send("short", str(n), b"", group="g") for n in range(10)], NOW)
    await engine.commit([Send("long", str(n), b"", group="g") for n in range(100_000)], NOW)
    assert await steps("long") <= await steps("short")


async def test_next_visible_steps_from_queue_to_queue(engine: SqliteEngine) -> None:
    async def steps() -> int:
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        engine._view._run.__self__.set_progress_handler(step, 1)  # type: ignore[attr-defined]  # a bound method
        assert len(await engine.next_visible("")) == 10
        engine._view._run.__self__.set_progress_handler(None, 0)  # type: ignore[attr-defined]  # a bound method
        return count

    await engine.commit([Send(f"q{n % 10}", str(n), b"") for n in range(10)], NOW)
    few = await steps()
    await engine.commit([Send(f"q{n % 10}", str(n), b"") for n in range(50_000)], NOW)
    assert await steps() <= few


async def test_the_dedupe_table_stays_as_small_as_its_windows(engine: SqliteEngine) -> None:
    for batch in range(10):
        now = NOW + batch * 1000
        operations = [
            Send("q", f"{batch}.{n}", b"", dedupe_key=f"{batch}.{n}", dedupe_until_ms=now + 500) for n in range(100)
        ]
        await engine.commit(operations, now)
    (remembered,) = engine._store._db.execute("SELECT count(*) FROM dedupe").fetchone()
    assert remembered <= 200


async def test_many_workers_on_one_queue_settle_each_message_once(engine: SqliteEngine) -> None:
    await engine.commit([Send("q", str(n), b"") for n in range(500)], NOW)
    settled: list[str] = []

    async def work(worker: int) -> None:
        while claimed := await engine.claim("q", 7, NOW + LEASE, NOW):
            for n, message in enumerate(claimed):
                if (n + worker) % 3 or message.claims > 3:
                    await engine.commit([Complete(message.claim)], NOW)
                    settled.append(message.id)
                else:
                    await engine.commit([Release(message.claim, NOW)], NOW)

    await asyncio.gather(*(work(n) for n in range(10)))
    while left := await engine.claim("q", 100, NOW + LEASE, NOW):
        await engine.commit([Complete(message.claim) for message in left], NOW)
        settled += ids(left)
    assert sorted(settled, key=int) == [str(n) for n in range(500)]


async def test_a_clock_that_is_set_back_hides_nothing_that_was_visible(engine: SqliteEngine) -> None:
    await engine.commit([Send("q", "1", b"")], NOW)
    (claimed,) = await engine.claim("q", 1, NOW + 1000, NOW)
    await engine.commit([Release(claimed.claim, NOW)], NOW)
    an_hour_before = NOW - 3_600_000

    assert (await engine.next_visible("q"))["q"] <= an_hour_before
    assert len(await engine.claim("q", 1, an_hour_before + 1000, an_hour_before)) == 1

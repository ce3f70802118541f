"""Messages that were sent together: what is kept of each over a crash, a refusal and a transaction that fails."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventfn.engine import parcels
from eventfn.engine.contract import Complete, Extend, Move, Release, Send
from eventfn.engine.sqlite import SqliteEngine
from eventfn.errors import EngineFull, Fenced
from eventfn.testing.engines import LEASE, NOW, EmbeddedEngineSuite, ids, sends


class TestEngineWithLittleInMemory(EmbeddedEngineSuite):
    """Every promise again, with parcels of two messages that are always read from disk."""

    @pytest.fixture(autouse=True)
    def little(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parcels, "_MOST_MESSAGES", 2)
        monkeypatch.setattr(parcels, "_AT_HAND", 0)
        monkeypatch.setattr(parcels, "_READ_AHEAD", 1)

    def create(self, folder: Path) -> SqliteEngine:
        return SqliteEngine(folder)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[SqliteEngine]:
    engine = SqliteEngine(tmp_path / "data")
    await engine.open(NOW)
    yield engine
    await engine.close()


def rows_of(engine: SqliteEngine, table: str) -> int:
    with sqlite3.connect(engine._folder.path / "eventfn.db") as db:
        (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    db.close()
    return int(count)


async def test_what_is_sent_together_is_one_row_until_all_of_it_is_gone(engine: SqliteEngine) -> None:
    await engine.commit(sends("q", *map(str, range(100))), NOW)
    assert (rows_of(engine, "parcel"), rows_of(engine, "content"), rows_of(engine, "message")) == (1, 1, 0)
    claimed = await engine.claim("q", 100, NOW + LEASE, NOW)
    await engine.commit([Complete(message.claim) for message in claimed[1:]], NOW)
    assert rows_of(engine, "parcel") == 1
    await engine.commit([Complete(claimed[0].claim)], NOW)
    assert (rows_of(engine, "parcel"), rows_of(engine, "content"), rows_of(engine, "message")) == (0, 0, 0)


async def test_each_message_is_after_a_crash_what_it_was_before(engine: SqliteEngine) -> None:
    await engine.commit(sends("q", *"abcdef"), NOW)
    a, b = await engine.claim("q", 2, NOW + LEASE, NOW + 1)
    (c,) = await engine.claim("q", 1, NOW + LEASE, NOW + 2)
    (d,) = await engine.claim("q", 1, NOW + LEASE, NOW + 3)
    await engine.commit([Complete(b.claim), Release(c.claim, NOW + 100, error="boom")], NOW + 4)
    for n in range(2):  # the second time it finds what the first one wrote
        await engine.close()  # which leaves claims as a crash does
        await engine.open(NOW + 10 + n)
    found = {message.id: message for message in await engine.claim("q", 10, NOW + LEASE, NOW + 200)}
    assert list(found) == ["a", "c", "d", "e", "f"]
    assert {name: (each.attempts, each.claims) for name, each in found.items()} == {
        "a": (2, 2),
        "c": (2, 2),
        "d": (2, 2),
        "e": (1, 1),
        "f": (1, 1),
    }
    assert [found[name].first_claimed_ms for name in "acde"] == [NOW + 1, NOW + 2, NOW + 3, NOW + 200]
    assert (found["a"].sequence, found["d"].sequence) == (a.sequence, d.sequence)
    assert found["c"].last_error == "boom"


async def test_a_message_that_comes_again_keeps_its_place(engine: SqliteEngine) -> None:
    await engine.commit(sends("q", *"abc"), NOW)
    a, b = await engine.claim("q", 2, NOW + LEASE, NOW)
    await engine.commit([Release(b.claim, NOW), Extend(a.claim, NOW + 5)], NOW)
    await engine.commit(sends("q", "d"), NOW)
    assert ids(await engine.claim("q", 10, NOW + LEASE, NOW + 5)) == ["a", "b", "c", "d"]


async def test_a_refused_commit_takes_back_what_it_did_to_parcels_alone(engine: SqliteEngine) -> None:
    await engine.commit(sends("q", *"abcd"), NOW)
    a, b, c, d = await engine.claim("q", 4, NOW + LEASE, NOW)
    settled = Complete(d.claim)
    await engine.commit([settled], NOW)
    refused = [*sends("q", "x"), Complete(a.claim), Extend(b.claim, NOW), Move(c.claim, "r"), settled]
    results = await asyncio.gather(
        engine.commit(sends("q", "before"), NOW),
        engine.commit(refused, NOW),
        engine.commit(sends("q", "after"), NOW),
        return_exceptions=True,
    )
    assert isinstance(results[1], Fenced)
    assert ids(await engine.peek("q", 10)) == ["a", "b", "c", "before", "after"]
    assert await engine.peek("r", 10) == []
    await engine.commit([Complete(a.claim), Extend(b.claim, NOW + LEASE), Complete(c.claim)], NOW)


async def test_a_transaction_that_finds_no_space_changes_nothing(engine: SqliteEngine) -> None:
    await engine.commit(sends("q", *"abc"), NOW)
    a, b = await engine.claim("q", 2, NOW + LEASE, NOW)
    before = await engine.stats("", NOW), await engine.peek("q", 10)
    (pages,) = engine._store._db.execute("PRAGMA page_count").fetchone()
    engine._store._db.execute(f"PRAGMA max_page_count={pages}")
    large = Send("q", "large", bytes(100_000))
    with pytest.raises(EngineFull):
        await engine.commit([Complete(a.claim), Release(b.claim, NOW), large], NOW)
    with pytest.raises(EngineFull):
        await engine.commit([large], NOW)
    assert (await engine.stats("", NOW), await engine.peek("q", 10)) == before

    engine._store._db.execute(f"PRAGMA max_page_count={pages + 1000}")
    await engine.commit([Complete(a.claim), Release(b.claim, NOW), large], NOW)
    assert ids(await engine.claim("q", 10, NOW + LEASE, NOW)) == ["b", "c", "large"]


async def test_large_messages_share_no_parcel(engine: SqliteEngine) -> None:
    bodies = [bytes([n]) * size for n, size in enumerate([10, 200_000, 200_000, 10, 300_000, 10])]
    await engine.commit([Send("q", str(n), body) for n, body in enumerate(bodies)], NOW)
    assert rows_of(engine, "parcel") > 1
    await engine.close()
    await engine.open(NOW)
    claimed = await engine.claim("q", 10, NOW + LEASE, NOW)
    assert [message.body for message in claimed] == bodies
    assert [message.sequence for message in claimed] == list(range(1, 7))

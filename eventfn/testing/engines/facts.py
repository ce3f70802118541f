"""Facts with compare-and-set, leases with epochs, blobs by their content."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator

import pytest

from eventfn.engine.contract import (
    Conflict,
    Engine,
    Expect,
    Put,
)
from eventfn.testing.engines.ground import NOW, EngineGround


class FactPromises(EngineGround):
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

    async def test_blobs_that_nothing_names_are_dropped(self, engine: Engine) -> None:
        one, two, three = [await engine.put_blob([content]) for content in (b"1", b"2", b"3")]
        assert await engine.drop_blobs({two, "ff" * 32}) == 2
        assert [await engine.get_blob(digest) for digest in (one, two, three)] == [None, b"2", None]
        assert await engine.drop_blobs([two]) == 0

    async def test_a_blob_whose_source_fails_is_not_kept(self, engine: Engine) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"half"
            raise LookupError("the upload broke off")

        with pytest.raises(LookupError):
            await engine.put_blob(chunks())
        assert await engine.get_blob(hashlib.sha256(b"half").hexdigest()) is None

"""No space left: the caller is told so, what was kept is intact, and with space all goes on."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventfn.engine.contract import Complete, Put, Send
from eventfn.engine.sqlite import SqliteEngine
from eventfn.errors import EngineFull
from eventfn.testing.engines import LEASE, NOW, ids

SIZE_MB = 4
BODY = os.urandom(50_000)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"a small disk takes the right to mount one: {mount.stderr.strip()}")
    try:
        yield disk
    finally:
        # Lazily: a test that failed may have left the engine open.
        subprocess.run(["umount", "-l", str(disk)], check=True)


async def fill(engine: SqliteEngine) -> list[str]:
    """Sends until the disk is full; what was acknowledged."""
    kept: list[str] = []
    for n in range(SIZE_MB * 1000):
        try:
            await engine.commit([Send("q", str(n), BODY), Put("last", b"%d" % n)], NOW)
        except EngineFull:
            return kept
        kept.append(str(n))
    pytest.fail("the disk never was full")


async def test_a_full_disk_refuses_and_keeps_what_it_had(small_disk: Path) -> None:
    engine = SqliteEngine(small_disk / "data")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    await engine.open(NOW)

    kept = await fill(engine)
    assert len(kept) > 5
    assert ids(await engine.peek("q", 10_000)) == kept
    assert await engine.get("last") == kept[-1].encode()
    (stats,) = await engine.stats("", NOW)
    assert stats.total == len(kept)

    ballast.unlink()
    assert await engine.commit([Send("q", "after", BODY)], NOW) == ["after"]
    claimed = await engine.claim("q", 10_000, NOW + LEASE, NOW)
    assert ids(claimed) == [*kept, "after"]
    await engine.commit([Complete(message.claim) for message in claimed], NOW)
    await engine.close()

    await engine.open(NOW)
    assert await engine.peek("q", 1) == []
    await engine.close()


async def test_one_who_asks_for_too_much_does_not_fail_the_others(small_disk: Path) -> None:
    engine = SqliteEngine(small_disk / "data")
    await engine.open(NOW)
    too_much = engine.commit([Send("q", "huge", bytes(SIZE_MB << 20))], NOW)
    small = [engine.commit([Send("q", str(n), b"small")], NOW) for n in range(10)]
    refused, *answers = await asyncio.gather(too_much, *small, return_exceptions=True)
    assert isinstance(refused, EngineFull)
    assert answers == [[str(n)] for n in range(10)]
    assert ids(await engine.peek("q", 100)) == [str(n) for n in range(10)]
    await engine.close()


async def test_a_blob_that_finds_no_space_leaves_nothing(small_disk: Path) -> None:
    engine = SqliteEngine(small_disk / "data")
    await engine.open(NOW)
    with pytest.raises(EngineFull):
        await engine.put_blob(bytes(1 << 20) for _ in range(SIZE_MB + 1))
    assert list((small_disk / "data" / "blobs").iterdir()) == []
    digest = await engine.put_blob([b"small"])
    assert await engine.get_blob(digest) == b"small"
    await engine.close()


async def test_the_operator_is_told_which_disk_is_full_and_not_with_every_event(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = SqliteEngine(small_disk / "data")
    await engine.open(NOW)
    for _ in range(5):
        with pytest.raises(EngineFull, match=str(small_disk / "data")):
            await engine.commit([Send("q", "huge", bytes(SIZE_MB << 20))], NOW)
    (said,) = [record.getMessage() for record in caplog.records if record.name == "eventfn.engine"]
    assert str(small_disk / "data") in said
    assert said.endswith("New events are refused meanwhile.")
    await engine.close()

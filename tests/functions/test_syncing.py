from __future__ import annotations

import asyncio
import queue

import pytest

from eventfn.functions.syncing import SharedSync

PATIENCE = 60.0  # seconds


class Disk:
    """A sync that takes until the test lets it end. Knows what had been written when each one began."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.synced: list[list[str]] = []
        self.sync = SharedSync(self._sync)
        self._ends: queue.Queue[OSError | None] = queue.Queue()
        self._loop = asyncio.get_running_loop()
        self._began: asyncio.Queue[None] = asyncio.Queue()

    def _sync(self) -> None:
        self.synced.append(list(self.written))
        self._loop.call_soon_threadsafe(self._began.put_nowait, None)
        if (failure := self._ends.get(timeout=PATIENCE)) is not None:
            raise failure

    async def began(self) -> None:
        await asyncio.wait_for(self._began.get(), PATIENCE)

    def end(self, failure: OSError | None = None) -> None:
        self._ends.put(failure)

    def write(self, name: str) -> asyncio.Task[None]:
        self.written.append(name)
        return asyncio.create_task(self.sync())


async def settled() -> None:
    """All that is to be done at once has been."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_whoever_comes_while_one_runs_shares_the_next() -> None:
    disk = Disk()
    first = disk.write("a")
    await disk.began()
    later = [disk.write(name) for name in "bcd"]
    await settled()
    assert disk.synced == [["a"]], "one at a time"
    disk.end()
    await first
    await disk.began()
    assert not any(task.done() for task in later), "the first one began before they had written"
    disk.end()
    await asyncio.gather(*later)
    assert disk.synced == [["a"], ["a", "b", "c", "d"]]


async def test_those_who_come_at_once_share_one() -> None:
    disk = Disk()
    everybody = [disk.write(str(number)) for number in range(1000)]
    await disk.began()
    disk.end()
    await asyncio.gather(*everybody)
    assert [len(names) for names in disk.synced] == [1000]


async def test_another_one_begins_when_all_are_over() -> None:
    disk = Disk()
    for name in "ab":
        task = disk.write(name)
        await disk.began()
        disk.end()
        await task
    assert disk.synced == [["a"], ["a", "b"]]


async def test_who_goes_away_takes_it_from_nobody() -> None:
    disk = Disk()
    goes, stays = disk.write("a"), disk.write("b")
    await disk.began()
    goes.cancel()
    await settled()
    assert (goes.cancelled(), stays.done()) == (True, False)
    disk.end()
    await stays


async def test_a_failure_is_for_those_who_waited_for_it() -> None:
    disk = Disk()
    first = disk.write("a")
    await disk.began()
    second = disk.write("b")
    disk.end(OSError("input/output error"))
    with pytest.raises(OSError, match="input/output error"):
        await first
    await disk.began()
    disk.end()
    await second


async def test_a_loop_has_one() -> None:
    assert SharedSync.of_this_loop() is SharedSync.of_this_loop()

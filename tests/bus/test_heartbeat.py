"""What is under way stays ours, however much of it there is and however slow the disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from eventfn.bus.heartbeat import Heartbeat
from eventfn.engine.contract import Complete, Operation, Send
from eventfn.engine.memory import MemoryEngine
from eventfn.testing import FakeClock


class SlowDisk(MemoryEngine):
    """A commit takes a second, shared by all who come meanwhile."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    async def commit(self, operations: Sequence[Operation], now: int) -> list[str | None]:
        await self._clock.sleep(1)
        return await super().commit(operations, now)


async def test_no_claim_of_many_lapses_on_a_slow_disk() -> None:
    clock = FakeClock()
    engine = SlowDisk(clock)
    await engine.open(clock.now_ms())
    sending = asyncio.create_task(engine.commit([Send("q", str(n), b"") for n in range(200)], clock.now_ms()))
    await clock.advance(1)
    await sending
    heartbeat = Heartbeat(engine, clock)
    held = await engine.claim("q", 200, clock.now_ms() + 60_000, clock.now_ms())
    heartbeat.claims |= {message.claim for message in held}
    beating = asyncio.create_task(heartbeat.run())
    for _ in range(10):
        await clock.advance(30)
        assert await engine.claim("q", 200, clock.now_ms() + 60_000, clock.now_ms()) == []
    beating.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await beating


async def test_a_claim_that_is_settled_stops_no_other() -> None:
    clock = FakeClock()
    engine = MemoryEngine()
    await engine.open(clock.now_ms())
    await engine.commit([Send("q", "1", b""), Send("q", "2", b"")], clock.now_ms())
    held = await engine.claim("q", 2, clock.now_ms() + 60_000, clock.now_ms())
    heartbeat = Heartbeat(engine, clock)
    heartbeat.claims |= {message.claim for message in held}
    beating = asyncio.create_task(heartbeat.run())
    await clock.advance(0)
    await engine.commit([Complete(held[0].claim)], clock.now_ms())
    await clock.advance(300)

    assert await engine.claim("q", 2, clock.now_ms() + 60_000, clock.now_ms()) == []
    beating.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await beating

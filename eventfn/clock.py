"""Time, passed in: everything that waits or reads a clock is given one of these, so tests jump it instead of sleeping.

What belongs here: the protocol and the machine's clock. The fake one is eventfn.testing.FakeClock.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall time, milliseconds since the epoch: what is stored, shown and compared across processes."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump: what durations are measured with."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns once `seconds` have passed on this clock; at most a turn of the loop for 0 or less."""
        ...


class SystemClock:
    monotonic = staticmethod(time.monotonic)  # and not a method around it: it is asked several times for each request

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0))

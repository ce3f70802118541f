"""Waiting for something to happen or for a time to come, whichever is first, on the clock that was passed in."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from eventfn.clock import Clock

T = TypeVar("T")


async def wait_for(event: asyncio.Event, clock: Clock, seconds: float | None) -> None:
    """Returns when `event` is set or after `seconds` (None: only then), and leaves nothing running behind."""
    if seconds is None:
        await event.wait()
        return
    waiting = asyncio.ensure_future(event.wait())
    sleeping = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({waiting, sleeping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        sleeping.cancel()
        await asyncio.gather(waiting, sleeping, return_exceptions=True)


async def within(work: Coroutine[Any, Any, T], clock: Clock, seconds: float) -> T:
    """Raises TimeoutError when `work` takes longer, and has cancelled it then."""
    working = asyncio.ensure_future(work)
    sleeping = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({working, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise TimeoutError(f"it took longer than {seconds:g} s")
        return working.result()
    finally:
        working.cancel()
        sleeping.cancel()
        await asyncio.gather(working, sleeping, return_exceptions=True)

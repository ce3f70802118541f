"""One sync for all who wait for one: a thousand folders that are unpacked at once do not write the disk out a thousand
times.

Belongs here: who may share which. Does not: what is made durable, and why (kept.py).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from weakref import WeakKeyDictionary


class SharedSync:
    """Of one event loop. `sync` blocks until all that was written before it was called is on the disk."""

    @classmethod
    def of_this_loop(cls) -> SharedSync:
        """Of the whole machine's disks."""
        return _of_loops.setdefault(asyncio.get_running_loop(), cls(os.sync))

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        """Returns after a sync that began after this call: one that runs already may have passed over what the caller
        has just written. So whoever comes while one runs shares the next one, and nobody waits for more than two.
        Raises what `sync` raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running))
        await asyncio.shield(self._next)  # a caller that is cancelled leaves it to the others

    async def _after(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])  # its failure is for those who waited for it
        self._running, self._next = self._next, None
        try:
            await asyncio.to_thread(self._sync)
        finally:
            self._running = None


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, SharedSync] = WeakKeyDictionary()

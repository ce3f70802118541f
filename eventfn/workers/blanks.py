"""Sandboxes that stand ready and belong to no function yet: what a cold start does not have to wait for.

How many there are follows how many were taken of late. They are made one after the other, so that a burst of cold
starts, which makes its own besides, is no herd.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from typing import NamedTuple

from eventfn.clock import Clock
from eventfn.sandbox.cgroups import Group
from eventfn.sandbox.probe import Sandbox
from eventfn.workers.process import Process
from eventfn.workers.zygote import Kind, Zygote, ZygoteDied

_LEAST, _MOST = 2, 8  # ready at once: on a node that does nothing, and after a burst
_FORGOTTEN_AFTER = 10.0  # seconds, in which half of the demand is
_USUAL = Kind()
_HEAD_START = 0.02  # seconds
_HEAD_START_OF_A_PROGRAM = 0.1  # which has itself to load, and is held up by half of what a blank takes
_GATE = b"\0"
_CHANNEL_BUFFER = 1 << 20
_SO_SNDBUFFORCE = 32
_slots = itertools.count(1)  # of this process: names of cgroups


class Blank(NamedTuple):
    process: Process
    channel: socket.socket  # nothing has been said on it


class Blanks:
    """Those of one zygote, of the usual kind. Others are made when they are wanted."""

    def __init__(self, zygote: Zygote, sandbox: Sandbox, clock: Clock) -> None:
        self._zygote = zygote
        self._sandbox = sandbox
        self._clock = clock
        self._ready: list[Blank] = []
        self._ending: set[Process] = set()
        self._demand = _LEAST
        self._filling: asyncio.Task[None] | None = None
        self._forgetting = asyncio.create_task(self._forget())
        self._closed = False
        self._fill()

    @property
    def orphaned(self) -> bool:
        """Their zygote is dead: none can be added, and nobody asks for those that are left."""
        return self._zygote.dead

    async def take(self, kind: Kind, *, for_a_program: bool = False) -> Blank:
        """Raises ZygoteDied, OSError."""
        if kind != _USUAL:
            return await self._make(kind)
        self._demand = min(self._demand + 1, _MOST)
        if not self._ready:
            self._fill()
            return await self._make(_USUAL)
        # Whoever takes one has a start to make, on the same cores: the next blank is made a little later.
        head_start = _HEAD_START_OF_A_PROGRAM if for_a_program else _HEAD_START
        asyncio.get_running_loop().call_later(head_start, self._fill)
        return self._ready.pop(0)

    async def _make(self, kind: Kind) -> Blank:
        ours, theirs = _channel()
        group: Group | None = None
        try:
            with theirs:
                if self._sandbox.cgroups is not None:
                    group = self._sandbox.cgroups.create(next(_slots))
                pid = await self._zygote.clone(theirs.fileno(), kind)
            process = Process(pid, has_init=self._sandbox.tier == "full", group=group)
        except BaseException:
            ours.close()  # it reads the end of it, and ends
            if group is not None:
                group.remove()
            raise
        doors: list[int] = []
        try:
            # It goes into its groups by itself, before it does anything else: only so does nobody wait for the kernel.
            doors = [] if group is None else group.doors()
            socket.send_fds(ours, [_GATE], doors)
        except OSError:
            ours.close()
            process.kill()
            raise
        finally:
            for door in doors:
                os.close(door)
        return Blank(process, ours)

    def _fill(self) -> None:
        if self._filling is None and len(self._ready) < self._demand and not self._closed:
            self._filling = asyncio.create_task(self._fill_up())

    async def _fill_up(self) -> None:
        try:
            while len(self._ready) < self._demand and not self._zygote.dead:
                blank = await self._make(_USUAL)
                self._ready.append(blank)
                blank.process.on_end(lambda blank=blank: self._died(blank))  # type: ignore[misc]  # bound here, now
        except (ZygoteDied, OSError):
            pass  # whoever wants one tries again, and is told
        finally:
            self._filling = None

    def _died(self, blank: Blank) -> None:
        blank.channel.close()
        self._ending.discard(blank.process)
        if blank in self._ready:
            self._ready.remove(blank)
            # Not made again at once: what has killed it may kill the next.

    async def _forget(self) -> None:
        while True:
            await self._clock.sleep(_FORGOTTEN_AFTER)
            self._demand = max(_LEAST, self._demand // 2)
            self._end_all_but(self._demand)

    def _end_all_but(self, count: int) -> None:
        for blank in self._ready[count:]:
            self._ending.add(blank.process)
            blank.process.kill()
        del self._ready[count:]

    async def close(self) -> None:
        """Ends those that nobody took, and waits for their end."""
        self._closed = True
        tasks = [task for task in (self._filling, self._forgetting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._end_all_but(0)
        while self._ending:
            await self._ending.copy().pop().ended()


def _channel() -> tuple[socket.socket, socket.socket]:
    """Both ends. With the kernel's usual 208 KB a frame of 1 MB costs each side five waits for the other."""
    ends = socket.socketpair()
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _CHANNEL_BUFFER)
        with contextlib.suppress(PermissionError):  # beyond the machine's limit for everybody, when allowed to
            end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _CHANNEL_BUFFER)
    return ends

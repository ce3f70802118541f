"""Sandboxes that stand ready and belong to no function yet: what a cold start does not have to wait for.

How many there are follows how many were taken of late. Each says when it stands, and the next one is made then: one
after the other as long as some stand ready, as many at once as there are cores while none does. So a burst of cold
starts, which waits for them in turn, is no herd.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from collections import deque
from typing import NamedTuple

from eventfn.clock import Clock
from eventfn.sandbox.cgroups import Group
from eventfn.sandbox.probe import Sandbox
from eventfn.workers.child import frames
from eventfn.workers.process import Process
from eventfn.workers.zygote import Kind, Zygote, ZygoteDied

_LEAST, _MOST = 2, 8  # ready at once: on a node that does nothing, and after a burst
_FORGOTTEN_AFTER = 10.0  # seconds, in which half of the demand is
_USUAL = Kind()
_HEAD_START = 0.02  # seconds
_HEAD_START_OF_A_PROGRAM = 0.1  # which has itself to load, and is held up by half of what a blank takes
_CORES = os.cpu_count() or 1
_STANDS_WITHIN = 1.0  # seconds; 10 ms are usual. Then it is given away as it is, and its start's own limits hold
_STANDS = frames.join(frames.STANDS)
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
        self._waiting: deque[asyncio.Future[Blank]] = deque()
        self._ending: set[Process] = set()
        self._demand = _LEAST
        self._making: set[asyncio.Task[None]] = set()
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
            return await self._next()
        # Whoever takes one has a start to make, on the same cores: the next blank is made a little later.
        head_start = _HEAD_START_OF_A_PROGRAM if for_a_program else _HEAD_START
        asyncio.get_running_loop().call_later(head_start, self._fill)
        return self._ready.pop(0)

    async def _next(self) -> Blank:
        """The next one that stands and that nobody waits for longer. Raises ZygoteDied, OSError."""
        waiter: asyncio.Future[Blank] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._fill()
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:
                self._end(waiter.result())
            raise

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
        while not self._closed and self._one_more():
            self._making.add(asyncio.create_task(self._make_one()))

    def _one_more(self) -> bool:
        under_way = len(self._making)
        most = _CORES if not self._ready and (self._waiting or self._demand > _LEAST) else 1
        return under_way < most and len(self._ready) + under_way < self._demand + len(self._waiting)

    async def _make_one(self) -> None:
        """For who waits longest, or to be ready."""
        task = asyncio.current_task()
        assert task is not None
        try:
            blank = await self._make(_USUAL)
            stands = await self._until_it_stands(blank)
        except (ZygoteDied, OSError) as error:
            if (waiter := self._longest_waiting()) is None:
                return  # whoever wants one tries again, and is told
            waiter.set_exception(error)
        else:
            if (waiter := self._longest_waiting()) is not None:
                waiter.set_result(blank)
            elif not stands:
                self._end(blank)
                return  # not made again at once: what has killed it may kill the next
            else:
                self._ready.append(blank)
                blank.process.on_end(lambda: self._died(blank))
        finally:
            self._making.discard(task)
        self._fill()

    def _longest_waiting(self) -> asyncio.Future[Blank] | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():  # cancelled
                return waiter
        return None

    async def _until_it_stands(self, blank: Blank) -> bool:
        """Whether it does. If not, it says why to whoever takes it, or has ended."""
        loop = asyncio.get_running_loop()
        said: asyncio.Future[None] = loop.create_future()
        channel = blank.channel
        loop.add_reader(channel.fileno(), _set, said)
        try:
            async with asyncio.timeout(_STANDS_WITHIN):
                await said
        except TimeoutError:
            return False
        except BaseException:
            self._end(blank)
            raise
        finally:
            loop.remove_reader(channel.fileno())
        try:
            if channel.recv(frames.SIZE, socket.MSG_PEEK | socket.MSG_DONTWAIT) != _STANDS:
                return False
            channel.recv(frames.SIZE)
        except OSError:
            return False
        return True

    def _died(self, blank: Blank) -> None:
        blank.channel.close()
        self._ending.discard(blank.process)
        if blank in self._ready:
            self._ready.remove(blank)
            # Not made again at once, as above.

    async def _forget(self) -> None:
        while True:
            await self._clock.sleep(_FORGOTTEN_AFTER)
            self._demand = max(_LEAST, self._demand // 2)
            self._end_all_but(self._demand)

    def _end_all_but(self, count: int) -> None:
        for blank in self._ready[count:]:
            self._end(blank)
        del self._ready[count:]

    def _end(self, blank: Blank) -> None:
        self._ending.add(blank.process)
        blank.process.kill()
        blank.process.on_end(lambda: self._died(blank))

    async def close(self) -> None:
        """Ends those that nobody took, and waits for their end."""
        self._closed = True
        tasks = [*self._making, self._forgetting]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._end_all_but(0)
        while self._ending:
            await self._ending.copy().pop().ended()


def _set(said: asyncio.Future[None]) -> None:
    if not said.done():
        said.set_result(None)


def _channel() -> tuple[socket.socket, socket.socket]:
    """Both ends. With the kernel's usual 208 KB a frame of 1 MB costs each side five waits for the other."""
    ends = socket.socketpair()
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _CHANNEL_BUFFER)
        with contextlib.suppress(PermissionError):  # beyond the machine's limit for everybody, when allowed to
            end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _CHANNEL_BUFFER)
    return ends

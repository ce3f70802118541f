"""One environment's share of the supervisor's loop: its sockets together are one thing to serve, by a few calls a turn.

A loop serves all that is ready in every turn. With its sockets in there, a function with a hundred busy connections
would hold up every other one by a hundred calls a turn. So they are watched by an epoll of their own, which the loop
watches; the kernel hands out what is ready in a ring, so that none of them starves.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

Callback = Callable[[], None]

_CALLS = 8  # a turn; the longest, moving 64 KB, takes about 25 us


class Share:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[Callback | None, Callback | None]] = {}  # who reads, who writes
        self._loop.add_reader(self._epoll.fileno(), self._turn)

    def on_readable(self, descriptor: int, callback: Callback | None) -> None:
        """Calls it as long as there is something to read, an end or an error too; None: no more. Has to be None before
        the descriptor is closed."""
        self._watch(descriptor, callback, self._watched.get(descriptor, (None, None))[1])

    def on_writable(self, descriptor: int, callback: Callback | None) -> None:
        self._watch(descriptor, self._watched.get(descriptor, (None, None))[0], callback)

    def catch_up(self, turns: int) -> None:
        """What is ready now, at most so many turns of it, at once: whoever has sent it is gone."""
        while turns and not self._epoll.closed and self._epoll.poll(0, 1):
            self._turn()
            turns -= 1

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._watched.clear()

    def _watch(self, descriptor: int, read: Callback | None, write: Callback | None) -> None:
        events = (select.EPOLLIN if read else 0) | (select.EPOLLOUT if write else 0)
        if descriptor not in self._watched:
            if events:
                self._epoll.register(descriptor, events)
        elif events:
            self._epoll.modify(descriptor, events)
        else:
            # Not only without events: a broken connection is ready whatever is asked for.
            self._epoll.unregister(descriptor)
            del self._watched[descriptor]
        if events:
            self._watched[descriptor] = read, write

    def _turn(self) -> None:
        for descriptor, events in self._epoll.poll(0, _CALLS):
            # Asked anew each time: the call before may have ended this one, or the whole share.
            read, _ = self._watched.get(descriptor, (None, None))
            if read is not None and events & ~select.EPOLLOUT:
                read()
            _, write = self._watched.get(descriptor, (None, None))
            if write is not None and events & ~select.EPOLLIN:
                write()

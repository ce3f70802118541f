"""The supervisor's side of an allow-list: what a function connects to inside, relayed to the real host.

The environment's set-up code listens inside and hands its sockets over (sandbox/network.py); what is accepted from
them lives in the sandbox's network, what is connected here in the machine's. So a function reaches these hosts and
ports and nothing else, and says nothing that anybody here has to understand.

The function is hostile: it may open connections by the thousand, never read, never end. It gets so many places at a
time, each for half a second at least, and one new connection a turn of the loop; the others wait in the kernel's queue.
Bytes are bounded in conduit.py, calls in share.py, look-ups in names.py, lines in its log here.
"""

from __future__ import annotations

import asyncio
import math
import os
import select
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from eventfn.clock import Clock
from eventfn.sandbox.allow_list import Target
from eventfn.workers.conduit import Conduit, reset
from eventfn.workers.names import Address, Names
from eventfn.workers.share import Share

_PLACES = 128  # connections of one environment at a time; each takes two descriptors of the supervisor
_LEAST_STAY = 0.5  # seconds that one takes its place: new ones cost most, 0.3 ms, and so are at most 256 a second
_CONNECT_TIMEOUT = 10.0  # seconds, for the name and all of its addresses
_OUT_OF_SOMETHING = 1.0  # seconds to wait when the machine has no descriptor or no memory for another connection
_QUIET = 1.0  # seconds between two lines of log about one target
# Of each socket inside, whose other end is on the same machine: more would only be more memory of the kernel for a
# function that does not read. Those outside have what the kernel finds right for the way to the host.
_KERNEL_BUFFER = 262_144
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))  # seconds, and times


class OwnApi(Protocol):
    """The node's own API, which has to know which of its connections are a function's. api/inward.py has the real
    one."""

    def connect(self, function: str, host: str, port: int) -> socket.socket | None:
        """A non-blocking socket that is connected to it, if this IP address and port are its own; None: they lead
        elsewhere. Raises OSError."""
        ...


class Relay:
    """Relays one environment's connections until `close`, which is to be called when the environment ends.

    `listeners[i]` leads to `targets[i]`; the sockets are the relay's from here on. Raises ValueError, and closes them,
    if they are not listening TCP sockets, one for each target. `log` gets a line of text for the function's log.
    `inward` gives the connection to an address and a port of the node itself.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        targets: Sequence[Target],
        names: Names,
        log: Callable[[str], None],
        clock: Clock,
        *,
        inward: Callable[[str, int], socket.socket | None] = lambda host, port: None,
        places: int = _PLACES,
        connect_timeout: float = _CONNECT_TIMEOUT,
    ) -> None:
        self._names = names
        self._inward = inward
        self._complaints = _Complaints(log, clock)
        self._places = places
        self._connect_timeout = connect_timeout
        self._loop = asyncio.get_running_loop()
        self._taken = 0
        self._connecting: dict[asyncio.Task[None], socket.socket] = {}
        self._conduits: set[Conduit] = set()
        self._closed = False
        self._watching = False
        self._out_of_something = False
        self._doors: dict[int, tuple[socket.socket, Target]] = {}
        # One descriptor to watch or not to, whatever the number of doors.
        self._ready = select.epoll()
        try:
            for listener, target in zip(listeners, targets, strict=True):
                _prepare(listener)
                self._doors[listener.fileno()] = listener, target
                self._ready.register(listener, select.EPOLLIN)
        except (OSError, ValueError) as error:
            self._ready.close()
            for listener in listeners:
                listener.close()
            raise ValueError(f"{len(listeners)} sockets for {len(targets)} targets: {error}") from error
        self._share = Share()
        self._watch()

    @property
    def taken(self) -> int:
        """Places that are taken: by connections, and by those that ended before their time."""
        return self._taken

    def close(self) -> None:
        """Ends every connection, and with the last of its sockets the sandbox's network, which they keep in being."""
        if self._closed:
            return
        self._closed = True
        self._unwatch()
        for listener, _ in self._doors.values():
            listener.close()
        for task, inside in self._connecting.items():
            task.cancel()
            inside.close()  # a task that has not begun never will
        for conduit in self._conduits:
            conduit.close()
        self._conduits.clear()
        self._share.close()
        self._ready.close()
        self._complaints.close()

    # --- accepting ---------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if not self._closed and not self._watching and not self._out_of_something and self._taken < self._places:
            self._watching = True
            self._share.on_readable(self._ready.fileno(), self._accept)

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            self._share.on_readable(self._ready.fileno(), None)

    def _accept(self) -> None:
        for descriptor, _ in self._ready.poll(0, 1):
            listener, target = self._doors[descriptor]
            try:
                inside, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue  # it has gone again
            except OSError as error:
                self._complaints.say(str(target), f"no connection can be taken now: {error.strerror}")
                self._unwatch()
                self._out_of_something = True
                self._loop.call_later(_OUT_OF_SOMETHING, self._try_again)
                continue
            inside.setblocking(False)
            inside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._taken += 1
            if self._taken == self._places:
                self._unwatch()
                self._complaints.say("connections", f"all {self._places} places are taken; others wait")
            task = self._loop.create_task(self._serve(inside, target, self._loop.time()))
            self._connecting[task] = inside
            task.add_done_callback(self._connecting.pop)

    def _try_again(self) -> None:
        self._out_of_something = False
        self._watch()

    # --- one connection ----------------------------------------------------------------------------------------------

    async def _serve(self, inside: socket.socket, target: Target, began: float) -> None:
        """Until it is connected; from then on nobody waits for it."""
        outside: socket.socket | None = None
        try:
            async with asyncio.timeout(self._connect_timeout):
                outside = await self._connect(target)
        except OSError as error:
            why = f"no answer within {self._connect_timeout:g} s" if isinstance(error, TimeoutError) else _reason(error)
            self._complaints.say(str(target), f"{why} (the function's connection was reset)")
        finally:
            if outside is None:
                reset(inside)
                self._leave(began)

        def ended(conduit: Conduit) -> None:
            self._conduits.discard(conduit)
            self._leave(began)

        if outside is not None:
            self._conduits.add(Conduit(inside, outside, self._share, ended))

    async def _connect(self, target: Target) -> socket.socket:
        addresses = _literal(target) or await self._names.addresses(target)
        for at, address in enumerate(addresses):
            is_last = at == len(addresses) - 1
            try:
                # An address that does not answer leaves the others their time.
                async with asyncio.timeout(None if is_last else self._connect_timeout / len(addresses)):
                    return await self._dial(address)
            except OSError:
                if is_last:
                    raise
        raise AssertionError("a name has an address")

    async def _dial(self, address: Address) -> socket.socket:
        # By the address and not by the name: what leads to the node's own API never goes there as a stranger.
        inside = self._inward(*address.address)
        if inside is not None:
            return inside
        outside = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            outside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A host that vanished is noticed here: the function's own probes end at this relay.
            outside.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                outside.setsockopt(socket.IPPROTO_TCP, option, value)
            await self._loop.sock_connect(outside, address.address)
        except BaseException:
            outside.close()
            raise
        return outside

    def _leave(self, began: float) -> None:
        rest = began + _LEAST_STAY - self._loop.time()
        if rest > 0:
            self._loop.call_later(rest, self._left)
        else:
            self._left()

    def _left(self) -> None:
        self._taken -= 1
        self._watch()


class _Complaints:
    """Lines for the function's log: one a second about one target at most, and how many were left out."""

    def __init__(self, log: Callable[[str], None], clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}  # when the last line came, and how many have been left out since

    def say(self, about: str, text: str) -> None:
        now = self._clock.monotonic()
        last, left_out = self._said.get(about, (-math.inf, 0))
        if now - last < _QUIET:
            self._said[about] = last, left_out + 1
            return
        self._said[about] = now, 0
        self._log(f"network: {about}: {text}" + (f"; {left_out} more before" if left_out else ""))

    def close(self) -> None:
        for about, (_, left_out) in self._said.items():
            if left_out:
                self._log(f"network: {about}: {left_out} more")


def _prepare(listener: socket.socket) -> None:
    """Raises ValueError, OSError."""
    is_tcp = listener.family in (socket.AF_INET, socket.AF_INET6) and listener.type == socket.SOCK_STREAM
    if not is_tcp or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError(f"{listener} does not listen")
    listener.setblocking(False)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER)  # what it accepts inherits them
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BUFFER)


def _literal(target: Target) -> tuple[Address, ...]:
    """The address that the target is, if it is no name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, target.host)
        except OSError:
            continue
        return (Address(family, (target.host, target.port)),)
    return ()


def _reason(error: OSError) -> str:
    # The loops put the address, and what they called, into the text of an error that has a number.
    return os.strerror(error.errno) if error.errno else str(error)

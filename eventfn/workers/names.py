"""The addresses of host names, looked up for all relays together.

getaddrinfo waits in threads that the whole node shares; libuv has four. So a name is looked up by one at a time however
many connections want it, two names at most at a time, and what came of it, be it nothing, is kept for a few seconds.

Where a name leads is said by whoever answers for it, not by the operator who has listed it. So no name leads to what
only a machine's own link has, a cloud's credentials above all: who wants that lists the address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from eventfn.clock import Clock
from eventfn.sandbox.allow_list import Target

_KEPT = 5.0  # seconds
_AT_ONCE = 2
_CREDENTIALS = ipaddress.ip_address("fd00:ec2::254")  # of a machine at AWS, over IPv6: of no link, and as telling


class Address(NamedTuple):
    family: int
    address: tuple[str, int]


class Unresolved(OSError):
    """The name leads nowhere now; the text says why."""


LookUp = Callable[[Target], Awaitable[tuple[Address, ...]]]


class _Answer(NamedTuple):
    addresses: tuple[Address, ...]
    failure: str
    until: float  # on the clock


async def _getaddrinfo(target: Target) -> tuple[Address, ...]:
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(*target, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return tuple(Address(family, (str(where[0]), target.port)) for family, _, _, _, where in infos)


class Names:
    """`look_up` gives a name's addresses in the order in which they should be tried, or raises OSError."""

    def __init__(self, clock: Clock, look_up: LookUp = _getaddrinfo) -> None:
        self._clock = clock
        self._look_up = look_up
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._asked: dict[Target, asyncio.Task[_Answer]] = {}

    async def addresses(self, target: Target) -> tuple[Address, ...]:
        """At least one. Raises Unresolved. Safe to cancel."""
        asked = self._asked.get(target)
        if asked is None or (asked.done() and asked.result().until <= self._clock.monotonic()):
            asked = self._asked[target] = self._loop.create_task(self._ask(target))
        answer = await asyncio.shield(asked)  # others may wait for it too, and a second thread must not
        if not answer.addresses:
            raise Unresolved(answer.failure)
        return answer.addresses

    def close(self) -> None:
        for asked in self._asked.values():
            asked.cancel()

    async def _ask(self, target: Target) -> _Answer:
        found: tuple[Address, ...] = ()
        failure = "the name has no address"
        async with self._turn:
            try:
                found = await self._look_up(target)
                if found and not (found := tuple(filter(_may_be_named, found))):
                    failure = "the name leads to an address of this machine's own link: list the address itself"
            except (OSError, UnicodeError) as error:  # UnicodeError: the codec for names in other scripts
                failure = getattr(error, "strerror", None) or str(error)
        return _Answer(found, failure, self._clock.monotonic() + _KEPT)


def _may_be_named(address: Address) -> bool:
    found = ipaddress.ip_address(address.address[0])
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found
    return not (found.is_link_local or found.is_unspecified or found.is_multicast or found == _CREDENTIALS)

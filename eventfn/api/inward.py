"""Connections of functions to the node's own API: they go through no network, so that nobody else can have one.

A relay (workers/relay.py) asks here before it connects to an address. Where that is the admin listener's, it gets one
end of a pair of sockets, and the listener the other, with the name of the function whose environment it is. So a
request on it is known to be a function's whatever it says, and whoever closed his end before it was read.

Not here: what such a request may do (identity.FunctionIdentities, app).
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence

Take = Callable[[str, socket.socket], None]  # the function's name, and the listener's end


class Inward:
    """`opened`, then `serve`; what is connected in between waits, as in a listening socket. `close` at any time."""

    def __init__(self) -> None:
        self._listening: Sequence[tuple[str, int]] = ()
        self._waiting: list[tuple[str, socket.socket]] = []
        self._take: Take | None = None
        self._closed = False

    def opened(self, addresses: Sequence[tuple[str, int]]) -> None:
        """IP addresses and ports that the admin listener listens on."""
        self._listening = addresses

    def serve(self, take: Take) -> None:
        self._take = take
        waiting, self._waiting = self._waiting, []
        for function, theirs in waiting:
            take(function, theirs)

    def close(self) -> None:
        """The addresses are the node's to its end: whoever connects to them from here on is refused."""
        self._closed, self._take = True, None
        waiting, self._waiting = self._waiting, []
        for _, theirs in waiting:
            theirs.close()

    def connect(self, function: str, host: str, port: int) -> socket.socket | None:
        """`host` is an IP address. None: it leads elsewhere. Raises OSError: it is closed, or no descriptor is left."""
        if not self._is_ours(host, port):
            return None
        if self._closed:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            each.setblocking(False)
        if self._take is None:
            self._waiting.append((function, theirs))
        else:
            self._take(function, theirs)
        return ours

    def _is_ours(self, host: str, port: int) -> bool:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None
        for listens_on, its_port in self._listening:
            if its_port != port:
                continue
            address = address or _canonical(host)
            listener = ipaddress.ip_address(listens_on)
            if listener.version != address.version:
                continue
            if _same(listener, address) or (listener.is_unspecified and _is_of_this_machine(address)):
                return True
        return False


def _canonical(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Where a connection to it arrives: the kernel takes no address for this machine, and an IPv4 address as IPv6."""
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return address


def _same(
    one: ipaddress.IPv4Address | ipaddress.IPv6Address, other: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> bool:
    return one.packed == other.packed  # whatever the zone


def _is_of_this_machine(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """The kernel lets nobody bind to another's."""
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as tried:
        try:
            tried.bind((str(address), 0))
        except OSError:
            return False
    return True

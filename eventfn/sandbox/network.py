"""An environment's own network: loopback, and the sockets on it that an allow-list consists of (allow_list.py).

Run by the environment's set-up code in its new network namespace, over which it still holds every capability: before
the function, and before seccomp forbids netlink. Numbers are the kernel's (linux/if.h, linux/rtnetlink.h,
linux/if_addr.h). Every OSError names the call and its arguments.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterable

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_IFREQ = struct.Struct("16sH22x")

_RTM_NEWADDR = 20
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_CREATE = 1, 4, 0x400
_IFA_LOCAL, _IFA_F_NODAD, _RT_SCOPE_HOST = 2, 2, 254
_LOOPBACK = 1  # the index of lo, the first interface of every network namespace
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ADDRESS = struct.Struct("=BBBBIHH")  # ifaddrmsg: family, prefix, flags, scope, index; rtattr: length, type
_ERROR = struct.Struct("=i")  # nlmsgerr, behind the header: 0, or an errno below 0

_BACKLOG = 128  # connections that wait for the supervisor to take them; the kernel holds the others back


def bring_up_loopback() -> None:
    """lo, which is down at first. The kernel then gives it 127.0.0.0/8, and ::1 where it has IPv6."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", _IFF_UP))
        except OSError as error:
            raise OSError(error.errno, f"ioctl(SIOCSIFFLAGS, 'lo', IFF_UP): {error.strerror}") from error


def add_addresses(addresses: Iterable[str]) -> None:
    """IPv4 and IPv6 addresses for lo, each for itself: what is sent to one of them stays in the sandbox."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as netlink:
        for address in addresses:
            try:
                netlink.send(_new_address(address))
                (code,) = _ERROR.unpack_from(netlink.recv(4096), _HEADER.size)
                if code != 0:
                    raise OSError(-code, os.strerror(-code))
            except OSError as error:
                raise OSError(error.errno, f"netlink(RTM_NEWADDR, 'lo', {address!r}): {error.strerror}") from error


def listen(doors: Iterable[tuple[str, int]]) -> list[socket.socket]:
    """A listening TCP socket for each IP address and port, in their order. They are for the supervisor alone: the
    function must hold none, since who shares a socket can make it block."""
    sockets: list[socket.socket] = []
    try:
        for address, port in doors:
            sockets.append(_listening(address, port))
    except BaseException:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def _listening(address: str, port: int) -> socket.socket:
    listener = socket.socket(_family(address), socket.SOCK_STREAM)
    try:
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"bind({address!r}, {port}), listen: {error.strerror}") from error
    return listener


def _new_address(address: str) -> bytes:
    family = _family(address)
    packed = socket.inet_pton(family, address)
    flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_CREATE
    return (
        _HEADER.pack(_HEADER.size + _ADDRESS.size + len(packed), _RTM_NEWADDR, flags, 0, 0)
        # No search for duplicates, which would leave the address unusable for a moment.
        + _ADDRESS.pack(family, 8 * len(packed), _IFA_F_NODAD, _RT_SCOPE_HOST, _LOOPBACK, 4 + len(packed), _IFA_LOCAL)
        + packed
    )


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET

"""The setting `network` of a function: what its entries mean, and what a list of them comes down to inside.

An allow-list is served on the sandbox's own loopback: each entry is a listening socket there, behind which the
supervisor relays to the real host (workers/relay.py). A host name gets a loopback address of its own and a line in
/etc/hosts, an IP address is itself. So a client in any language connects as it would anywhere, its TLS ends at the
real host, and nothing inside ever asks a name server.

PURE: nothing is resolved, connected to or listened on.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MOST_ENTRIES = 64
AWS = "aws"  # an entry that stands for the endpoints of [aws]: replaced by them before a plan is made

_ENTRY = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>\d{1,5})", re.ASCII)
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.ASCII)
# What the C library reads as an address in an old notation ("10.5", "0x7f.1"), which would lead elsewhere.
_NUMERIC = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)", re.ASCII)

_LOCALHOST = "127.0.0.1"
_HOSTS = f"{_LOCALHOST} localhost sandbox sandbox.localdomain\n::1 localhost\n"
_FIRST = ipaddress.IPv4Address("127.100.0.1")  # of the addresses for names: where no server of the function's own is


class Target(NamedTuple):
    """Where an entry leads: a host name in lower case, or an IP address as it is usually written."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Plan(NamedTuple):
    """An allow-list as the sandbox and the supervisor need it. Plain data: `listen[i]` is relayed to `targets[i]`."""

    addresses: tuple[str, ...]  # which loopback does not have by itself
    listen: tuple[tuple[str, int], ...]  # IP address and port, inside
    targets: tuple[Target, ...]  # outside
    hosts: str  # the text of /etc/hosts


class NotAnEntry(ValueError):
    """What somebody wrote does not name one host and one port. `hint` says what to write."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.hint = hint
        super().__init__(message)


def target(entry: str) -> Target:
    """`"db.internal:5432"`, `"10.0.0.5:6379"` or `"[::1]:9000"`. Raises NotAnEntry."""
    expected = f'expected "host:port", got "{entry}"'
    if "*" in entry:
        raise NotAnEntry(
            f'"{entry}" is a wildcard: every host has to be known before the function starts', "list each host by name"
        )
    found = _ENTRY.fullmatch(entry)
    if found is None:
        raise NotAnEntry(expected, _hint(entry))
    port = int(found["port"])
    if not 1 <= port <= 65535:
        raise NotAnEntry(f'expected a port of 1 to 65535, got "{entry}"')
    if found["v6"] is not None:
        return Target(_usable(found["v6"], entry, ipaddress.IPv6Address), port)
    host = found["host"].lower()
    if _NUMERIC.fullmatch(host):
        return Target(_usable(host, entry, ipaddress.IPv4Address), port)
    if not _NAME.fullmatch(host):
        raise NotAnEntry(
            f'"{found["host"]}" is neither a host name nor an IP address',
            'such as "db.internal:5432" or "10.0.0.5:6379"',
        )
    return Target(host, port)


def mistakes(entries: Sequence[str]) -> Iterator[tuple[int | None, str, str | None]]:
    """What is wrong with an allow-list: which entry (None: the list), a message, a hint."""
    if not entries:
        yield None, "is an empty list", 'write "none"'
    if len(entries) > MOST_ENTRIES:
        yield None, f"expected at most {MOST_ENTRIES} entries, got {len(entries)}", None
    seen: set[Target | str] = set()
    for at, entry in enumerate(entries):
        try:
            found = entry if entry == AWS else target(entry)
        except NotAnEntry as wrong:
            yield at, str(wrong), wrong.hint
            continue
        if found in seen:
            yield at, f"{found} is listed twice", None
        seen.add(found)


def plan(entries: Sequence[str]) -> Plan:
    """The same list makes the same plan. Raises NotAnEntry."""
    targets = tuple(map(target, entries))
    literal = {host for host, _ in targets if _is_address(host)}
    free = (address for at in itertools.count() if (address := str(_FIRST + at)) not in literal)
    inside: dict[str, str] = {"localhost": _LOCALHOST}
    for host, _ in targets:
        if host not in inside:
            inside[host] = host if host in literal else next(free)
    return Plan(
        addresses=tuple(host for host in inside if host in literal and not ipaddress.ip_address(host).is_loopback),
        listen=tuple((inside[host], port) for host, port in targets),
        targets=targets,
        hosts=_HOSTS + "".join(f"{inside[host]} {host}\n" for host in inside if host not in {*literal, "localhost"}),
    )


def unenforceable(network: str | Sequence[str], tier: str) -> str | None:
    """Why a function with this setting must not be started in the tier "full", "landlock" or "none"; None: it may.

    "none" and "egress" are enforced wherever seccomp is. In the tier "none" the operator has renounced every wall.
    """
    if network in ("none", "egress") or tier != "landlock":
        return None
    return (
        'network: a list of hosts, "aws" included, needs a network namespace, which the sandbox tier "landlock" has '
        'not: allow user namespaces on this machine, or set network = "egress" (everything can be reached) or "none"'
    )


def _hint(entry: str) -> str | None:
    if url := re.match(r"(?P<scheme>\w+)://(?P<host>[^/:@]+)(?::(?P<port>\d+))?(?:/|$)", entry):
        port = url["port"] or {"http": "80", "https": "443"}.get(url["scheme"], "PORT")
        return f'write "{url["host"]}:{port}"'
    if entry.count(":") > 1:
        return 'an IPv6 address stands in brackets: "[::1]:9000"'
    return f'with its port: "{entry}:443"' if _NAME.fullmatch(entry.lower()) else None


def _usable(text: str, entry: str, kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]) -> str:
    """The address in its usual form, if a connection to one host can be made with it alone."""
    try:
        address = kind(text)
    except ValueError:
        raise NotAnEntry(f'"{text}" is not an IP address, and no host is called so') from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            raise NotAnEntry(f'"{entry}" is an IPv4 address', f'write "{address.ipv4_mapped}:PORT"')
        if address.is_link_local:
            raise NotAnEntry(f'"{entry}" means another host on every network card', "use another address of that host")
    if address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255":
        raise NotAnEntry(f'"{entry}" is not the address of one host')
    return str(address)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

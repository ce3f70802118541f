"""Attacks over the network, and on services that listen on this machine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.attacks.attack import Attack, OneOf
from tests.sandbox.attacks.stage import Stage

EGRESS: dict[str, Any] = {"network": "egress"}
_FAMILIES = """
# vsock, netlink, AF_ALG, packets, Bluetooth, XDP, CAN, TIPC, KCM
kinds = [(40, 1, 0), (16, 3, 0), (38, 5, 0), (17, 3, 768), (31, 3, 1), (44, 3, 0), (29, 3, 1), (30, 1, 0), (41, 2, 0)]
return sorted({attempt(lambda: socket.socket(*kind).close()) for kind in kinds})
"""
_RAW = """
kinds = [(2, 3, 1), (10, 3, 58), (2, 2, 1), (2, 1, 262), (2, 1, 132), (2, 3, 255)]  # raw, ping, MPTCP, SCTP
return sorted({attempt(lambda: socket.socket(*kind).close()) for kind in kinds})
"""

SHUT_OFF = [
    Attack(
        "a service on loopback",
        "network",
        "hosts = ('127.0.0.1', '127.0.0.53', '0.0.0.0')\n"
        "return [attempt(said_by, (host, machine.port), socket.AF_INET) for host in hosts]",
        ["ECONNREFUSED"] * 3,
        ["EAFNOSUPPORT"] * 3,
    ),
    Attack(
        "a service on loopback over IPv6",
        "network",
        "return [attempt(said_by, (host, machine.port), socket.AF_INET6) for host in ('::1', '::ffff:127.0.0.1')]",
        ["ECONNREFUSED"] * 2,
        ["EAFNOSUPPORT"] * 2,
    ),
    Attack(
        "the cloud's metadata and the internet",
        "network",
        "return [attempt(said_by, (host, 80), socket.AF_INET) for host in ('169.254.169.254', '8.8.8.8', '10.0.0.1')]",
        ["ENETUNREACH"] * 3,
        ["EAFNOSUPPORT"] * 3,
    ),
    Attack(
        "datagrams to a name server",
        "network",
        "return attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'secret', ('8.8.8.8', 53)))",
        "ENETUNREACH",
        "EAFNOSUPPORT",
    ),
    Attack(
        "abstract unix sockets of the machine",
        "network",
        "return attempt(said_by, chr(0) + machine.abstract)",
        "ECONNREFUSED",
        "EAFNOSUPPORT",
    ),
    Attack(
        "unix sockets at a path",
        "network",
        """
        paths = (*machine.sockets, '/var/run/docker.sock', '/run/dbus/system_bus_socket')
        return sorted({attempt(said_by, path) for path in paths})
        """,
        ["ENOENT"],
        ["EAFNOSUPPORT"],
    ),
    Attack(
        "unix sockets by a pair that is sent on",
        "network",
        """
        found = []
        for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
            def send(kind=kind):
                one, other = socket.socketpair(socket.AF_UNIX, kind)
                with one, other:
                    one.connect(machine.sockets[0])
            found.append(attempt(send))
        return found
        """,
        ["ENOENT", OneOf("EISCONN", "ENOENT"), OneOf("EISCONN", "ENOENT")],
        ["EAFNOSUPPORT", OneOf("EPROTOTYPE", "EISCONN"), "EISCONN"],
    ),
    Attack("families of sockets that no namespace holds", "system calls", _FAMILIES, ["EAFNOSUPPORT"]),
    Attack("raw packets and other protocols", "system calls", _RAW, ["EPROTONOSUPPORT"], ["EAFNOSUPPORT"]),
    Attack(
        "programs for the kernel by a socket",
        "system calls",
        """
        one, other = socket.socketpair()
        return [attempt(one.setsockopt, socket.SOL_SOCKET, option, bytes(16)) for option in (26, 50, 51, 52)]
        """,
        ["ENOPROTOOPT"] * 4,
    ),
    Attack(
        "listing the machine's interfaces",
        "network",
        "return [attempt(socket.if_nameindex), 'Iface' in read('/proc/self/net/route').splitlines()[-1]]",
        ["EAFNOSUPPORT", True],
        ["EAFNOSUPPORT", OneOf(True, False)],  # what there is to see is seen: docs/security.md
    ),
]

ON_THE_MACHINES = [
    Attack(
        "abstract unix sockets, with egress",
        "network",
        SHUT_OFF[4].code,
        OneOf("EPERM", "EAFNOSUPPORT"),
        "EAFNOSUPPORT",
        settings=EGRESS,
    ),
    Attack(
        "unix sockets at a path, with egress",
        "network",
        SHUT_OFF[5].code,
        OneOf(["ENOENT"], ["EAFNOSUPPORT"]),
        ["EAFNOSUPPORT"],
        settings=EGRESS,
    ),
    Attack("families of sockets, with egress", "system calls", _FAMILIES, ["EAFNOSUPPORT"], settings=EGRESS),
    Attack("raw packets, with egress", "system calls", _RAW, ["EPROTONOSUPPORT"], settings=EGRESS),
    Attack(
        "the interfaces of the machine, with egress",
        "privileges",
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            down = attempt(fcntl.ioctl, any_socket, 0x8914, struct.pack('16sH22x', b'lo', 0))
            sniffed = attempt(any_socket.setsockopt, socket.SOL_SOCKET, 25, b'lo')
        return [down, sniffed in ('done', 'EPERM')]
        """,
        ["EPERM", True],
        settings=EGRESS,
    ),
    Attack(
        "ports that belong to the system, with egress",
        "privileges",
        "return attempt(socket.create_server, ('127.0.0.1', 1))",
        OneOf("EACCES"),
        settings=EGRESS,
    ),
]


@pytest.mark.parametrize("attack", SHUT_OFF, ids=lambda attack: attack.name)
def test_without_a_network_nothing_is_reached(stage: Stage, attack: Attack) -> None:
    stage.stands_up_to(attack)


@pytest.mark.parametrize("attack", ON_THE_MACHINES, ids=lambda attack: attack.name)
def test_on_the_machines_network_this_is_still_shut(stage: Stage, attack: Attack) -> None:
    stage.stands_up_to(attack)


def test_egress_is_the_machines_own_network_with_its_loopback(stage: Stage) -> None:
    """By design, and said so: who gives it to a function gives it the services of this machine."""
    reached = "return attempt(said_by, ('127.0.0.1', machine.port), socket.AF_INET)"
    stage.stands_up_to(Attack("egress", "network", reached, "the machine's", settings=EGRESS), reaches=["loopback"])


def test_an_allow_list_opens_one_door(stage: Stage) -> None:
    door = f"127.0.0.1:{stage.machine['port']}"
    code = """
    hosts = [('127.0.0.1', machine.port), ('127.0.0.1', machine.port - 1), ('127.0.0.2', machine.port)]
    return [attempt(said_by, host, socket.AF_INET) for host in hosts] + [attempt(said_by, chr(0) + machine.abstract)]
    """
    attack = Attack("list", "network", code, ["the machine's", *["ECONNREFUSED"] * 3], settings={"network": [door]})
    if stage.tier == "full":
        stage.stands_up_to(attack, reaches=["loopback"])
        return
    stage.deploy("list", code, **attack.settings)
    assert "needs a network namespace" in stage.invoke("list", stage.machine)
    stage.ask("retire", name="list")
    stage.is_unharmed()

"""Loopback, addresses and listening sockets of an environment, in real network namespaces."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from eventfn.sandbox import allow_list
from tests.netns import WHO, Failed, Inside


@pytest.fixture(params=WHO)
def inside(request: pytest.FixtureRequest) -> Iterator[Inside]:
    process = Inside(request.param)
    yield process
    process.end()


def test_nothing_can_be_reached_before_loopback_is_up_and_nothing_but_loopback_afterwards(inside: Inside) -> None:
    reach = """
    answer = []
    for address in ("127.0.0.1", "10.0.0.5"):
        with socket.socket() as client:
            answer.append(errno.errorcode[client.connect_ex((address, 9))])
    """
    assert inside.run(reach) == ["ENETUNREACH", "ENETUNREACH"]
    inside.run("network.bring_up_loopback()")
    assert inside.run(reach) == ["ECONNREFUSED", "ENETUNREACH"]
    inside.run("network.bring_up_loopback()")  # again, which changes nothing
    assert inside.run("answer = socket.if_nameindex()") == [[1, "lo"]]


def test_every_entry_of_a_plan_is_listened_on(inside: Inside) -> None:
    plan = allow_list.plan(
        [
            *("db.internal:5432", "api.github.com:443", "10.0.0.5:6379", "[2001:db8::5]:80", "[::1]:9000"),
            *("localhost:25", "127.0.0.9:1", "db.internal:5433", "10.0.0.6:6379"),
        ]
    )
    listeners = inside.sockets(
        """
        network.bring_up_loopback()
        network.add_addresses(addresses)
        sent += network.listen(doors)
        """,
        addresses=plan.addresses,
        doors=plan.listen,
    )
    assert tuple(listener.getsockname()[:2] for listener in listeners) == plan.listen
    for (address, port), listener in zip(plan.listen, listeners, strict=True):
        inside.run("client = socket.create_connection((address, port))", address=address, port=port)
        accepted, _ = listener.accept()
        inside.run("client.sendall(b'hello')")
        assert accepted.recv(10) == b"hello"
        accepted.close()
        listener.close()


def test_as_many_as_a_list_may_have(inside: Inside) -> None:
    entries = [f"10.0.{at}.5:443" for at in range(allow_list.MOST_ENTRIES)]
    plan = allow_list.plan(entries)
    listeners = inside.sockets(
        "network.bring_up_loopback(); network.add_addresses(addresses); sent += network.listen(doors)",
        addresses=plan.addresses,
        doors=plan.listen,
    )
    assert [listener.getsockname() for listener in listeners] == list(plan.listen)
    for listener in listeners:
        listener.close()


def test_errors_name_the_call_and_its_arguments(inside: Inside) -> None:
    inside.run("network.bring_up_loopback(); network.add_addresses(['10.0.0.5'])")
    with pytest.raises(Failed, match=r"netlink\(RTM_NEWADDR, 'lo', '10\.0\.0\.5'\): File exists") as failed:
        inside.run("network.add_addresses(['10.0.0.4', '10.0.0.5'])")
    assert failed.value.errno == errno.EEXIST
    with pytest.raises(Failed, match=r"bind\('10\.0\.0\.6', 1\), listen: Cannot assign requested address"):
        inside.run("network.listen([('127.0.0.1', 1), ('10.0.0.6', 1)])")
    # The first of the two was closed again.
    inside.run("network.listen([('127.0.0.1', 1)])")


def test_without_capabilities_loopback_stays_as_it_is(inside: Inside) -> None:
    """What a function may still try, if seccomp let it."""
    inside.run("network.bring_up_loopback()")
    # capset(2) with nothing in any set.
    inside.run("checked(libc.capset(struct.pack('=II', 0x2008_0522, 0), bytes(24)), 'capset')")
    for code in (
        "network.add_addresses(['10.0.0.5'])",
        "network.listen([('127.0.0.1', 1)])",
        "network.bring_up_loopback()",
    ):
        with pytest.raises(Failed) as failed:
            inside.run(code)
        assert failed.value.errno in (errno.EPERM, errno.EACCES), code


def test_names_lead_to_their_doors_by_the_hosts_file_alone(inside: Inside) -> None:
    """The C library's resolver, with no name server to ask."""
    plan = allow_list.plan(["db.internal:5432", "api.github.com:443", "localhost:25"])
    code = """
    NEW_MOUNTS, REC, SLAVE, BIND = 0x2_0000, 0x4000, 0x8_0000, 0x1000
    checked(libc.unshare(NEW_MOUNTS), "unshare(NEWNS)")
    checked(libc.mount(b"none", b"/", None, ctypes.c_ulong(REC | SLAVE), None), "mount /")
    checked(libc.mount(b"none", b"/mnt", b"tmpfs", ctypes.c_ulong(0), None), "mount /mnt")
    for name, text in (("hosts", hosts), ("resolv.conf", "")):
        with open(f"/mnt/{name}", "w") as file:
            file.write(text)
        path = os.path.realpath(f"/etc/{name}").encode()
        checked(libc.mount(f"/mnt/{name}".encode(), path, None, ctypes.c_ulong(BIND), None), f"bind {name}")
    network.bring_up_loopback()
    answer = {
        name: sorted({info[4][0] for info in socket.getaddrinfo(name, 443)})
        for name in ("db.internal", "API.GitHub.com", "localhost")
    }
    try:
        socket.getaddrinfo("example.com", 443)
    except socket.gaierror as error:
        answer["example.com"] = error.errno in (socket.EAI_NONAME, socket.EAI_AGAIN)
    """
    assert inside.run(code, hosts=plan.hosts) == {
        "db.internal": ["127.100.0.1"],
        "API.GitHub.com": ["127.100.0.2"],
        "localhost": ["127.0.0.1", "::1"],
        "example.com": True,
    }

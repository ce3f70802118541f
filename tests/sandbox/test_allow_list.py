"""What may be written in an allow-list, and what it comes down to inside a sandbox."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.sandbox import allow_list
from eventfn.sandbox.allow_list import NotAnEntry, Plan, Target


@pytest.mark.parametrize(
    ("entry", "host", "port", "shown"),
    [
        ("db.internal:5432", "db.internal", 5432, "db.internal:5432"),
        ("API.GitHub.com:443", "api.github.com", 443, "api.github.com:443"),
        ("db:1", "db", 1, "db:1"),
        ("a_b-c:65535", "a_b-c", 65535, "a_b-c:65535"),
        ("10.0.0.5:6379", "10.0.0.5", 6379, "10.0.0.5:6379"),
        ("169.254.169.254:80", "169.254.169.254", 80, "169.254.169.254:80"),
        ("[::1]:9000", "::1", 9000, "[::1]:9000"),
        ("[2001:0DB8::0005]:80", "2001:db8::5", 80, "[2001:db8::5]:80"),
        ("localhost:25", "localhost", 25, "localhost:25"),
        ("3com.com:80", "3com.com", 80, "3com.com:80"),
        (f"{'a' * 63}.b:80", f"{'a' * 63}.b", 80, f"{'a' * 63}.b:80"),
    ],
)
def test_an_entry(entry: str, host: str, port: int, shown: str) -> None:
    assert allow_list.target(entry) == Target(host, port)
    assert str(allow_list.target(entry)) == shown
    assert allow_list.target(shown) == Target(host, port)


NEITHER = 'such as "db.internal:5432" or "10.0.0.5:6379"'


@pytest.mark.parametrize(
    ("entry", "message", "hint"),
    [
        ("", 'expected "host:port", got ""', None),
        ("db", 'expected "host:port", got "db"', 'with its port: "db:443"'),
        ("db:", 'expected "host:port", got "db:"', None),
        ("db:http", 'expected "host:port", got "db:http"', None),
        ("db:+80", 'expected "host:port", got "db:+80"', None),
        ("db:٨٠", 'expected "host:port", got "db:٨٠"', None),
        ("db:80\n", 'expected "host:port", got "db:80\n"', None),
        ("db:0", 'expected a port of 1 to 65535, got "db:0"', None),
        ("db:65536", 'expected a port of 1 to 65535, got "db:65536"', None),
        (":80", '"" is neither a host name nor an IP address', NEITHER),
        ("a b:80", '"a b" is neither a host name nor an IP address', NEITHER),
        ("a..b:80", '"a..b" is neither a host name nor an IP address', NEITHER),
        ("a.b.:80", '"a.b." is neither a host name nor an IP address', NEITHER),
        ("bücher.example:80", '"bücher.example" is neither a host name nor an IP address', NEITHER),
        ("10.0.0.0/8:80", '"10.0.0.0/8" is neither a host name nor an IP address', NEITHER),
        (f"{'a' * 64}.b:80", f'"{"a" * 64}.b" is neither a host name nor an IP address', NEITHER),
        (f"{'a.' * 127}b:80", f'"{"a." * 127}b" is neither a host name nor an IP address', NEITHER),
        (
            "*.github.com:443",
            '"*.github.com:443" is a wildcard: every host has to be known before the function starts',
            "list each host by name",
        ),
        ("*", '"*" is a wildcard: every host has to be known before the function starts', "list each host by name"),
        ("https://a.b", 'expected "host:port", got "https://a.b"', 'write "a.b:443"'),
        ("https://a.b:8443/x", 'expected "host:port", got "https://a.b:8443/x"', 'write "a.b:8443"'),
        ("redis://a.b", 'expected "host:port", got "redis://a.b"', 'write "a.b:PORT"'),
        ("::1:9000", 'expected "host:port", got "::1:9000"', 'an IPv6 address stands in brackets: "[::1]:9000"'),
        ("[::1]", 'expected "host:port", got "[::1]"', 'an IPv6 address stands in brackets: "[::1]:9000"'),
        ("[::g]:1", '"::g" is not an IP address, and no host is called so', None),
        ("[db]:1", '"db" is not an IP address, and no host is called so', None),
        # What getaddrinfo would read as 10.0.0.5, 127.0.0.1 ...
        ("10.5:1", '"10.5" is not an IP address, and no host is called so', None),
        ("0x7f.1:1", '"0x7f.1" is not an IP address, and no host is called so', None),
        ("2130706433:1", '"2130706433" is not an IP address, and no host is called so', None),
        ("010.0.0.5:1", '"010.0.0.5" is not an IP address, and no host is called so', None),
        ("1.2.3.4.5:1", '"1.2.3.4.5" is not an IP address, and no host is called so', None),
        ("0.0.0.0:1", '"0.0.0.0:1" is not the address of one host', None),
        ("255.255.255.255:1", '"255.255.255.255:1" is not the address of one host', None),
        ("224.0.0.1:1", '"224.0.0.1:1" is not the address of one host', None),
        ("[::]:1", '"[::]:1" is not the address of one host', None),
        ("[ff02::1]:1", '"[ff02::1]:1" is not the address of one host', None),
        ("[::ffff:10.0.0.5]:1", '"[::ffff:10.0.0.5]:1" is an IPv4 address', 'write "10.0.0.5:PORT"'),
        (
            "[fe80::1%eth0]:1",
            '"[fe80::1%eth0]:1" means another host on every network card',
            "use another address of that host",
        ),
    ],
)
def test_what_is_no_entry(entry: str, message: str, hint: str | None) -> None:
    with pytest.raises(NotAnEntry) as refused:
        allow_list.target(entry)
    assert (str(refused.value), refused.value.hint) == (message, hint)
    assert list(allow_list.mistakes([entry])) == [(0, message, hint)]


def test_mistakes_of_a_list_come_all_at_once() -> None:
    assert list(allow_list.mistakes(["a:1", "b", "A:1", "a:2"])) == [
        (1, 'expected "host:port", got "b"', 'with its port: "b:443"'),
        (2, "a:1 is listed twice", None),
    ]
    assert list(allow_list.mistakes([])) == [(None, "is an empty list", 'write "none"')]
    assert list(allow_list.mistakes([f"a:{port}" for port in range(1, 65)])) == []
    assert list(allow_list.mistakes([f"a:{port}" for port in range(1, 66)])) == [
        (None, "expected at most 64 entries, got 65", None)
    ]


def test_names_get_addresses_of_their_own_and_addresses_are_themselves() -> None:
    entries = ["db.internal:5432", "api.github.com:443", "10.0.0.5:6379", "[2001:db8::5]:9000", "DB.internal:5433"]
    assert allow_list.plan(entries) == Plan(
        addresses=("10.0.0.5", "2001:db8::5"),
        listen=(
            ("127.100.0.1", 5432),
            ("127.100.0.2", 443),
            ("10.0.0.5", 6379),
            ("2001:db8::5", 9000),
            ("127.100.0.1", 5433),
        ),
        targets=(
            Target("db.internal", 5432),
            Target("api.github.com", 443),
            Target("10.0.0.5", 6379),
            Target("2001:db8::5", 9000),
            Target("db.internal", 5433),
        ),
        hosts="127.0.0.1 localhost sandbox sandbox.localdomain\n::1 localhost\n"
        "127.100.0.1 db.internal\n127.100.0.2 api.github.com\n",
    )


def test_the_machines_own_loopback_is_the_sandboxs_own_inside() -> None:
    entries = ["localhost:1", "127.0.0.1:2", "127.100.0.1:3", "[::1]:4", "db:5"]
    assert allow_list.plan(entries) == Plan(
        addresses=(),
        listen=(("127.0.0.1", 1), ("127.0.0.1", 2), ("127.100.0.1", 3), ("::1", 4), ("127.100.0.2", 5)),
        targets=(
            Target("localhost", 1),
            Target("127.0.0.1", 2),
            Target("127.100.0.1", 3),
            Target("::1", 4),
            Target("db", 5),
        ),
        hosts="127.0.0.1 localhost sandbox sandbox.localdomain\n::1 localhost\n127.100.0.2 db\n",
    )


HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.ip_addresses(v=4, network="127.100.0.0/29").map(str),
    st.sampled_from(["db", "localhost"]),
    st.from_regex(r"[a-z][a-z0-9-]{0,10}(\.[a-z][a-z0-9-]{0,5}){0,3}", fullmatch=True),
)


@given(st.lists(st.builds("{}:{}".format, HOSTS, st.integers(0, 70_000)), max_size=70))
def test_a_list_without_mistakes_has_a_plan_without_clashes(entries: list[str]) -> None:
    if any(allow_list.mistakes(entries)):
        return
    plan = allow_list.plan(entries)
    assert len(plan.listen) == len(plan.targets) == len(entries)
    inside: dict[str, str] = {}
    for (address, port), target in zip(plan.listen, plan.targets, strict=True):
        assert port == target.port
        assert inside.setdefault(target.host, address) == address
    # Two hosts share an address only where localhost is written in two ways.
    other = {host: address for host, address in inside.items() if host != "localhost"}
    assert len(set(other.values())) == len(other)
    for line in plan.hosts.splitlines()[2:]:
        address, name = line.split()
        assert inside[name] == address
        assert ipaddress.ip_address(address).is_loopback
    assert not any(ipaddress.ip_address(address).is_loopback for address in plan.addresses)
    assert allow_list.plan(entries) == plan


def test_which_tier_holds_what() -> None:
    for tier in ("full", "landlock", "none"):
        assert allow_list.unenforceable("none", tier) is None
        assert allow_list.unenforceable("egress", tier) is None
    assert allow_list.unenforceable(("db:1",), "full") is None
    assert allow_list.unenforceable(("db:1",), "none") is None
    assert allow_list.unenforceable("aws", "full") is None
    assert allow_list.unenforceable("aws", "landlock") == allow_list.unenforceable(("db:1",), "landlock")
    assert allow_list.unenforceable(("db:1",), "landlock") == (
        'network: a list of hosts, "aws" included, needs a network namespace, which the sandbox tier "landlock" has '
        'not: allow user namespaces on this machine, or set network = "egress" (everything can be reached) or "none"'
    )

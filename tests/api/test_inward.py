"""Which addresses lead to the node itself, and what becomes of a connection to one."""

from __future__ import annotations

import socket

import pytest

from eventfn.api.inward import Inward

PORT = 9001


def listening(host: str) -> Inward:
    inward = Inward()
    inward.opened([(host, PORT)])
    return inward


@pytest.mark.parametrize(
    ("host", "address", "leads_here"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "::ffff:0.0.0.0", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "::1", False),
        ("127.0.0.1", "192.0.2.1", False),
        ("::1", "::1", True),
        ("::1", "::", True),
        ("::1", "127.0.0.1", False),
        ("0.0.0.0", "127.0.0.1", True),
        ("0.0.0.0", "127.1.2.3", True),
        ("0.0.0.0", "192.0.2.1", False),
        ("0.0.0.0", "::1", False),
        ("::", "::1", True),
        ("::", "2001:db8::1", False),
    ],
)
def test_which_addresses_are_its_own(host: str, address: str, leads_here: bool) -> None:
    inward = listening(host)
    made = inward.connect("hello", address, PORT)
    assert (made is not None) is leads_here
    if made is not None:
        made.close()
    assert inward.connect("hello", address, PORT + 1) is None
    inward.close()


def test_who_connects_before_it_serves_is_taken_when_it_does() -> None:
    taken: list[tuple[str, socket.socket]] = []
    inward = listening("127.0.0.1")
    first = inward.connect("hello", "127.0.0.1", PORT)
    assert first is not None
    first.send(b"before")
    first.close()
    inward.serve(lambda function, connection: taken.append((function, connection)))
    second = inward.connect("other", "127.0.0.1", PORT)
    assert second is not None
    second.close()
    assert [function for function, _ in taken] == ["hello", "other"]
    assert taken[0][1].recv(99) == b"before"
    for _, connection in taken:
        connection.close()


def test_once_it_is_closed_everybody_is_refused() -> None:
    inward = listening("127.0.0.1")
    waiting = inward.connect("hello", "127.0.0.1", PORT)
    assert waiting is not None
    inward.close()
    assert waiting.recv(1) == b""
    waiting.close()
    with pytest.raises(ConnectionRefusedError):
        inward.connect("hello", "127.0.0.1", PORT)

"""What is refused, and how: each rule whole, byte by byte, and pipelined behind a good request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GOOD = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /hello HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

REFUSED = {
    "bare line feeds": (b"GET /hello HTTP/1.1\nHost: a\n\n", 400),
    "a bare line feed in a header": (b"GET /hello HTTP/1.1\r\nHost: a\r\nA: b\nC: d\r\n\r\n", 400),
    "a bare carriage return": (b"GET /hello HTTP/1.1\r\nHost: a\r\nA: b\rC: d\r\n\r\n", 400),
    "a folded header": (b"GET /hello HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", 400),
    "a header before any": (b"GET /hello HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "a space before the colon": (b"GET /hello HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "no colon": (b"GET /hello HTTP/1.1\r\nHost: a\r\nA\r\n\r\n", 400),
    "no name": (b"GET /hello HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
    "a name that is no token": (b"GET /hello HTTP/1.1\r\nHost: a\r\nA\xc3: b\r\n\r\n", 400),
    "NUL in a header": (b"GET /hello HTTP/1.1\r\nHost: a\r\nA: b\x00\r\n\r\n", 400),
    "a control character in a header": (b"GET /hello HTTP/1.1\r\nHost: a\r\nA: b\x01\r\n\r\n", 400),
    "DEL in a header": (b"GET /hello HTTP/1.1\r\nHost: a\r\nA: b\x7f\r\n\r\n", 400),
    "no Host": (b"GET /hello HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET /hello HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "a Host with a path": (b"GET /hello HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "a list of Hosts": (b"GET /hello HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
    "Content-Length, then Transfer-Encoding": (
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "Transfer-Encoding, then Content-Length": (
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two different Content-Lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    "two equal Content-Lengths": (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
    "a list of Content-Lengths": (POST + b"Content-Length: 1, 1\r\n\r\na", 400),
    "a signed Content-Length": (POST + b"Content-Length: +1\r\n\r\na", 400),
    "a negative Content-Length": (POST + b"Content-Length: -1\r\n\r\na", 400),
    "a hexadecimal Content-Length": (POST + b"Content-Length: 0x1\r\n\r\na", 400),
    "an empty Content-Length": (POST + b"Content-Length:\r\n\r\n", 400),
    "a Content-Length of 30 digits": (POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400),
    "gzip under chunked": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "gzip alone": (POST + b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n", 501),
    "not quite chunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "chunked and identity": (
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunked twice": (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "a vertical tab before chunked": (POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in HTTP/1.0": (
        b"POST /hello HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a hexadecimal prefix in a chunk size": (CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", 400),
    "a negative chunk size": (CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", 400),
    "a chunk size over 64 bits": (CHUNKED + b"f" * 18 + b"\r\nhello\r\n0\r\n\r\n", 400),
    "a space behind a chunk size": (CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", 400),
    "a bare line feed behind a chunk size": (CHUNKED + b"5\nhello\r\n0\r\n\r\n", 400),
    "a chunk longer than it says": (CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n", 400),
    "a control character in a chunk extension": (CHUNKED + b"5;a=\x01\r\nhello\r\n0\r\n\r\n", 400),
    "a method in lower case": (b"get /hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a method that nobody knows": (b"FROB /hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a method that is not ours": (b"PROPFIND /hello HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "HTTP/0.9": (b"GET /hello\r\n\r\n", 505),
    "HTTP/1.2": (b"GET /hello HTTP/1.2\r\nHost: a\r\n\r\n", 400),
    "HTTP/2.0": (b"GET /hello HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "RTSP": (b"SETUP /hello RTSP/1.0\r\nHost: a\r\n\r\n", 501),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a control character in the target": (b"GET /a\x0cb HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a byte over 127 in the target": (b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a fragment": (b"GET /hello#a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "the asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "another scheme": (b"GET ftp://a/hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an absolute target without a host": (b"GET http:///hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an absolute target with a user": (b"GET http://u@a/hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "another expectation": (POST + b"Content-Length: 1\r\nExpect: tea\r\n\r\na", 417),
    "a target over the limit": (b"GET /" + b"a" * 200 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "headers over the limit": (b"GET /hello HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 300 + b"\r\n\r\n", 431),
    "many headers over the limit": (b"GET /hello HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 50 + b"\r\n", 431),
    "headers that never end": (b"GET /hello HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 1000, 431),
    "a Content-Length over the limit": (POST + b"Content-Length: 65\r\n\r\n", 413),
    "a Content-Length over the limit, expected": (
        POST + b"Content-Length: 65\r\nExpect: 100-continue\r\n\r\n",
        413,
    ),
    "chunks over the limit": (CHUNKED + b"40\r\n" + b"a" * 64 + b"\r\n1\r\na\r\n0\r\n\r\n", 413),
    "framing in a trailer": (CHUNKED + b"0\r\nContent-Length: 3\r\n\r\n", 400),
}


LIMITS = {"max_request_line": 128, "max_header_bytes": 256, "max_body": 64}


@pytest.mark.parametrize("size", [None, 1, 7])
@pytest.mark.parametrize("case", REFUSED)
def test_refuses(wire: Callable[..., Any], case: str, size: int | None) -> None:
    data, status = REFUSED[case]
    fed = wire(**LIMITS)
    fed.feed(data, size)
    (answer,) = fed.answers()
    assert answer.status == status
    assert answer.headers["connection"] == "close"
    assert fed.transport.ended
    assert fed.caller.events == []


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("case", REFUSED)
def test_refuses_behind_a_good_request(wire: Callable[..., Any], case: str, later: bool, size: int | None) -> None:
    data, status = REFUSED[case]
    fed = wire(**LIMITS)
    fed.caller.later = later
    fed.feed(GOOD + data + GOOD, size)
    if later:
        assert fed.answers() == []
        fed.caller.answer()
    assert [answer.status for answer in fed.answers()] == [200, status]
    assert fed.transport.ended
    assert len(fed.caller.events) == 1


ACCEPTED = {
    "a plain GET": GOOD,
    "empty lines before it": b"\r\n\r\n" + GOOD,
    "HTTP/1.0 without a Host": b"GET /hello HTTP/1.0\r\n\r\n",
    "an absolute target": b"GET http://b.example/hello HTTP/1.1\r\nHost: a\r\n\r\n",
    "a body": POST + b"Content-Length: 5\r\n\r\nhello",
    "spaces around a value": POST + b"Content-Length:   5  \r\n\r\nhello",
    "chunks": CHUNKED + b"2\r\nhe\r\n3;ext=1\r\nllo\r\n0\r\n\r\n",
    "Chunked, in its own way": POST + b"tRANSFER-eNCODING: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"5\r\nhello\r\n0\r\nHost: b\r\nB:\r\n\r\n",
    "Upgrade": b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "Upgrade with a body": POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello",
    "Upgrade with chunks": POST
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "headers at the limit": b"GET /hello HTTP/1.1\r\nHost: a\r\nA: " + b"b" * (256 - 9 - 5) + b"\r\n\r\n",
    "a body at the limit": POST + b"Content-Length: 64\r\n\r\n" + b"a" * 64,
}


WITH_BODY = {"a body", "spaces around a value", "chunks", "Chunked, in its own way", "trailers", "Upgrade with a body"}
HOSTS = {"HTTP/1.0 without a Host": None, "an absolute target": "b.example"}


@pytest.mark.parametrize("size", [None, 1, 7])
@pytest.mark.parametrize("case", ACCEPTED)
def test_accepts_and_goes_on(wire: Callable[..., Any], case: str, size: int | None) -> None:
    fed = wire(**LIMITS)
    fed.feed(ACCEPTED[case] + GOOD, size)
    closes = "1.0" in case
    assert [answer.status for answer in fed.answers()] == ([200] if closes else [200, 200])
    assert fed.transport.ended is closes
    first = fed.caller.events[0]
    if case in WITH_BODY:
        assert (first["body"], first["isBase64Encoded"]) == ("aGVsbG8=", True)
    assert first["headers"].get("host") == HOSTS.get(case, "a")


@pytest.mark.parametrize("case", [*REFUSED, *ACCEPTED])
def test_a_repeated_head_changes_nothing(wire: Callable[..., Any], case: str) -> None:
    """What a connection remembers of the last head must not change what is made of the next data."""
    data = REFUSED[case][0] if case in REFUSED else ACCEPTED[case]
    remembering, plain = wire(**LIMITS), wire(**LIMITS)
    for part in (GOOD, GOOD, data, data, GOOD):
        remembering.feed(part)
        plain.feed(part, 1)
    seen = [(answer.status, answer.body) for answer in remembering.answers()]
    assert seen == [(answer.status, answer.body) for answer in plain.answers()]
    assert [ungiven(event) for event in remembering.caller.events] == [ungiven(event) for event in plain.caller.events]


def ungiven(event: dict[str, Any]) -> dict[str, Any]:
    """The event without the request's own id."""
    context = {key: value for key, value in event["requestContext"].items() if key != "requestId"}
    return {**event, "requestContext": context}


def test_repeated_heads_with_other_bodies(wire: Callable[..., Any]) -> None:
    fed = wire()
    head = POST + b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\n"
    for body in (b"hello", b"world", b"abc", b"de", b"again"):
        fed.feed((b"" if body == b"de" else head) + body)
    assert [event["body"] for event in fed.caller.events] == ["hello", "world", "abcde", "again"]
    assert len({event["requestContext"]["requestId"] for event in fed.caller.events}) == 4


def test_what_only_looks_like_a_repeated_head(wire: Callable[..., Any]) -> None:
    fed = wire()
    fed.feed(GOOD + b"GE")
    fed.feed(GOOD[2:])
    fed.feed(GOOD[2:])
    assert [answer.status for answer in fed.answers()] == [200, 200, 400]


def test_nothing_runs_behind_the_last_answer(wire: Callable[..., Any]) -> None:
    fed = wire()
    fed.node.trigger.server.draining = True
    fed.feed(GOOD + GOOD)
    assert [answer.headers["connection"] for answer in fed.answers()] == ["close"]
    assert len(fed.caller.events) == 1


def test_a_trailer_that_never_ends(wire: Callable[..., Any]) -> None:
    fed = wire(**LIMITS)
    fed.feed(CHUNKED + b"0\r\nA: ")
    while not fed.transport.ended:
        fed.feed(b"b" * 10)
    assert [answer.status for answer in fed.answers()] == [413]


def test_thousands_of_pipelined_upgrades(wire: Callable[..., Any]) -> None:
    fed = wire()
    upgrade = b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    fed.feed(upgrade * 3000)
    assert len(fed.answers()) == 3000


def test_thousands_of_requests_behind_a_slow_one_that_end_at_once(wire: Callable[..., Any]) -> None:
    fed = wire()
    fed.caller.later = True
    fed.feed(GOOD * 3000)
    assert not fed.transport.reading
    fed.caller.later = False
    fed.caller.answer()
    assert len(fed.answers()) == 3000
    assert fed.transport.reading


PIECES = [
    b"GET ", b"POST ", b"HEAD ", b"/hello", b"/items/1", b"*", b"http://a/", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n",
    b"\r", b"\r\n\r\n", b"Host: a\r\n", b"Host:", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b": ", b" ",
    b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\n", b"Upgrade: x\r\n",
    b"Expect: 100-continue\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"hello", b"\x00", b"\xff", GOOD, CHUNKED,
    POST + b"Content-Length: 5\r\n\r\nhello", POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n",
]  # fmt: skip


@given(
    pieces=st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=20)), max_size=30),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20),
    later=st.booleans(),
)
# The fixture is a class: each example makes its own connection.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_anything_gets_valid_answers_or_a_close(
    wire: Callable[..., Any], pieces: list[bytes], cuts: list[int], later: bool
) -> None:
    fed = wire(**LIMITS)
    fed.caller.later = later
    data = b"".join(pieces)
    at = turn = 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        fed.feed(data[at : at + size])
        at, turn = at + size, turn + 1
        if turn % 3 == 0:
            fed.caller.answer_all()
    fed.caller.answer_all()
    statuses = [answer.status for answer in fed.answers() if answer.status != 100]
    assert statuses.count(200) == len(fed.caller.events)
    assert not {500, 503} & set(statuses)
    refused = [status for status in statuses if status in (400, 413, 414, 417, 431, 501, 505)]
    assert len(refused) <= 1
    assert not refused or fed.transport.ended

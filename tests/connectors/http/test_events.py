from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.workers.child.events import HttpEvents
from eventfn_http.events import PeerText, RouteText, common_log_time, event, event_apart, http_date, is_text
from eventfn_http.head import read_head

ROUTE = RouteText("POST /items/{id}", "anonymous")
PEER = PeerText("192.0.2.7", "8080")


def made(
    target: str = "/items/1",
    headers: list[tuple[bytes, bytes]] | None = None,
    body: bytes = b"",
    parameters: dict[str, str] | None = None,
) -> dict[str, Any]:
    lines = [(b"Host", b"Api.Example:8080"), *(headers or [])]
    head = read_head(b"POST", target.encode(), "1.1", lines)
    time, now_ms = "12/Mar/2020:19:03:58 +0000", 1583348638390
    encoded = event(ROUTE, PEER, head, parameters or {}, body, "0-1-2", time, now_ms)
    decoded: dict[str, Any] = json.loads(encoded)
    # In two parts, and put together again in an environment, it is the same: keys in the same order too.
    payload, apart = event_apart(ROUTE, PEER, head, parameters or {}, body, time, now_ms)
    whole = HttpEvents().event(payload, str(apart.body, "utf-8"), "0-1-2", apart.time, apart.time_epoch)
    assert json.dumps(whole) == json.dumps(decoded)
    return decoded


def test_the_whole_event() -> None:
    lines = [
        (b"User-Agent", b"curl/8"),
        (b"Content-Type", b"application/json"),
        (b"Cookie", b"a=1; b=2"),
        (b"X-Many", b"1"),
        (b"x-many", b"2"),
    ]
    assert made("/items/a%20b?p=1&p=2&q=%C3%A4+x&r", lines, b'{"x": "\xc3\xa4"}', {"id": "a b"}) == {
        "version": "2.0",
        "routeKey": "POST /items/{id}",
        "rawPath": "/items/a%20b",
        "rawQueryString": "p=1&p=2&q=%C3%A4+x&r",
        "cookies": ["a=1", "b=2"],
        "headers": {
            "host": "Api.Example:8080",
            "user-agent": "curl/8",
            "content-type": "application/json",
            "x-many": "1,2",
            "x-forwarded-for": "192.0.2.7",
            "x-forwarded-port": "8080",
            "x-forwarded-proto": "http",
        },
        "queryStringParameters": {"p": "1,2", "q": "ä x", "r": ""},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "eventfn",
            "domainName": "Api.Example",
            "domainPrefix": "Api",
            "http": {
                "method": "POST",
                "path": "/items/a%20b",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.7",
                "userAgent": "curl/8",
            },
            "requestId": "0-1-2",
            "routeKey": "POST /items/{id}",
            "stage": "$default",
            "time": "12/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1583348638390,
        },
        "pathParameters": {"id": "a b"},
        "body": '{"x": "ä"}',
        "isBase64Encoded": False,
    }


def test_what_is_not_there_is_absent() -> None:
    event = made()
    assert not {"cookies", "queryStringParameters", "pathParameters", "body"} & set(event)
    assert (event["isBase64Encoded"], event["rawQueryString"]) == (False, "")
    assert event["requestContext"]["http"]["userAgent"] == ""
    assert "queryStringParameters" not in made("/items/1?&")


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        ("application/json", True),
        ("text/plain; charset=utf-8", True),
        ("application/soap+XML", True),
        ("application/vnd.api+json", True),
        ("application/javascript", True),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data; boundary=x", False),
        ("application/octet-stream", False),
        ("image/png", False),
        ("", False),
    ],
)
def test_which_bodies_are_text(content_type: str, text: bool) -> None:
    assert is_text(content_type) is text
    event = made(headers=[(b"Content-Type", content_type.encode())] if content_type else [], body=b'say "hi"')
    expected = ('say "hi"', False) if text else ("c2F5ICJoaSI=", True)
    assert (event["body"], event["isBase64Encoded"]) == expected


def test_text_that_is_no_utf8_travels_as_base64() -> None:
    event = made(headers=[(b"Content-Type", b"text/plain; charset=latin-1")], body=b"\xe4")
    assert (event["body"], event["isBase64Encoded"]) == ("5A==", True)


def test_a_proxy_is_believed_and_appended_to() -> None:
    event = made(headers=[(b"X-Forwarded-For", b"198.51.100.1"), (b"X-Forwarded-Proto", b"https")])
    headers = event["headers"]
    assert headers["x-forwarded-for"] == "198.51.100.1, 192.0.2.7"
    assert (headers["x-forwarded-proto"], headers["x-forwarded-port"]) == ("https", "8080")
    assert event["requestContext"]["http"]["sourceIp"] == "192.0.2.7"


def test_several_cookie_headers_are_one_list() -> None:
    assert made(headers=[(b"Cookie", b"a=1;b=2"), (b"cookie", b" c=3;")])["cookies"] == ["a=1", "b=2", "c=3"]


@pytest.mark.parametrize(
    ("raw", "value"),
    [(b"\xc3\xa4", "ä"), (b"\xe4", "ä"), (b'say "hi"\\', 'say "hi"\\'), (b" \t padded \t", "padded")],
)
def test_header_values(raw: bytes, value: str) -> None:
    assert made(headers=[(b"X", raw)])["headers"]["x"] == value


@given(
    pairs=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_query_parameters_are_decoded_and_joined(pairs: list[tuple[str, str]]) -> None:
    expected: dict[str, list[str]] = {}
    for name, value in pairs:
        expected.setdefault(name, []).append(value)
    query = "&".join(f"{quote_plus(name)}={quote(value, safe='')}" for name, value in pairs)
    event = made(f"/items/1?{query}")
    assert event["queryStringParameters"] == {name: ",".join(values) for name, values in expected.items()}
    assert event["rawQueryString"] == query


@given(body=st.binary(min_size=1), content_type=st.sampled_from([b"text/plain", b"application/octet-stream"]))
def test_a_body_comes_back_as_it_was(body: bytes, content_type: bytes) -> None:
    event = made(headers=[(b"Content-Type", content_type)], body=body)
    encoded = event["body"]
    assert (base64.b64decode(encoded) if event["isBase64Encoded"] else encoded.encode()) == body


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)))
def test_dates(at: datetime) -> None:
    at = at.replace(microsecond=0, tzinfo=UTC)
    seconds = int(at.timestamp())
    assert http_date(seconds).decode() == format_datetime(at, usegmt=True)
    assert datetime.strptime(common_log_time(seconds), "%d/%b/%Y:%H:%M:%S %z") == at

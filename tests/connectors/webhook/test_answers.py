from __future__ import annotations

import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.destination import WRITTEN, Delivery, Rejected, RetryAfter
from eventfn_webhook.answers import delivery, pause

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (200, {}, b"ok", WRITTEN),
        (202, {}, b"", WRITTEN),
        (204, {}, b"", WRITTEN),
        (301, {"location": "http://10.0.0.1/"}, b"", "answered 301 to http://10.0.0.1/: redirects are not followed"),
        (307, {}, b"", "answered 307 to nowhere"),
        (400, {}, b"no\n such   order", "answered 400: no such order"),
        (401, {}, b"", "answered 401"),
        (404, {}, b"\xff", "answered 404: \ufffd"),
        (410, {}, b"gone", "answered 410: gone"),
        (408, {}, b"", RetryAfter("answered 408")),
        (425, {}, b"", RetryAfter("answered 425")),
        (429, {"retry-after": "7"}, b"slow down", RetryAfter("answered 429: slow down", after=7)),
        (429, {}, b"", RetryAfter("answered 429")),
        (500, {}, b"", RetryAfter("answered 500")),
        (503, {"retry-after": "120"}, b"", RetryAfter("answered 503", after=120)),
        (503, {"retry-after": "999999"}, b"", RetryAfter("answered 503", after=3600)),
        (599, {"retry-after": "soon"}, b"", RetryAfter("answered 599")),
    ],
)
def test_what_an_answer_means(status: int, headers: dict[str, str], body: bytes, expected: Delivery | str) -> None:
    answer = delivery(status, headers.get("location"), headers.get("retry-after"), body, NOW)
    if isinstance(expected, str):
        assert isinstance(answer, Rejected)
        assert answer.reason.startswith(expected)
    else:
        assert answer == expected


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0),
        (" 5 ", 5),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("9" * 400, 3600),
        ("²", None),
        (email.utils.formatdate(NOW + 90, usegmt=True), 90),
        (email.utils.formatdate(NOW - 90, usegmt=True), 0),
        ("Wed, 32 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_how_long_to_wait(header: str | None, seconds: float | None) -> None:
    assert pause(header, NOW) == seconds


@given(st.text())
def test_no_header_breaks_it(header: str) -> None:
    seconds = pause(header, NOW)
    assert seconds is None or 0 <= seconds <= 3600


@given(status=st.integers(200, 599), body=st.binary(max_size=600))
def test_every_status_has_a_meaning(status: int, body: bytes) -> None:
    assert isinstance(delivery(status, None, None, body, NOW), (type(WRITTEN), RetryAfter, Rejected))

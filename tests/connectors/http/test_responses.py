from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.event import Outcome, OutcomeKind
from eventfn_http.responses import INTERNAL_SERVER_ERROR, prelude, respond

JSON = b"content-type: application/json\r\n"


def returned(value: Any) -> tuple[int, bytes, bytes]:
    response = respond(Outcome(OutcomeKind.SUCCESS, json.dumps(value).encode()))
    return response.status, response.lines, bytes(response.body)


@pytest.mark.parametrize(
    ("value", "status", "lines", "body"),
    [
        # an object with statusCode
        ({"statusCode": 200}, 200, JSON, b""),
        ({"statusCode": "201"}, 201, JSON, b""),
        ({"statusCode": 200, "body": None}, 200, JSON, b""),
        ({"statusCode": 200, "body": 'say "hä"'}, 200, JSON, 'say "hä"'.encode()),
        ({"statusCode": 200, "body": {"a": [1, 2]}}, 200, JSON, b'{"a":[1,2]}'),
        ({"statusCode": 200, "body": 1.5}, 200, JSON, b"1.5"),
        ({"statusCode": 200, "body": True}, 200, JSON, b"true"),
        ({"statusCode": 200, "body": "aGk=", "isBase64Encoded": True}, 200, JSON, b"hi"),
        ({"statusCode": 200, "body": "aGk=", "isBase64Encoded": False}, 200, JSON, b"aGk="),
        ({"statusCode": 200, "headers": None, "cookies": None}, 200, JSON, b""),
        ({"statusCode": 200, "headers": {"Content-Type": "text/html"}}, 200, b"Content-Type: text/html\r\n", b""),
        ({"statusCode": 200, "headers": {"x": 1, "y": True, "z": None}}, 200, JSON + b"x: 1\r\ny: true\r\n", b""),
        ({"statusCode": 200, "headers": {"x": "ä\t!"}}, 200, JSON + "x: ä\t!\r\n".encode(), b""),
        (
            {"statusCode": 302, "headers": {"location": "/"}, "cookies": ["a=1; Secure", "b=2"]},
            302,
            JSON + b"location: /\r\nset-cookie: a=1; Secure\r\nset-cookie: b=2\r\n",
            b"",
        ),
        ({"statusCode": 200, "multiValueHeaders": {"a": ["b"]}, "other": 1}, 200, JSON, b""),
        # how it is framed is not the handler's to say
        (
            {"statusCode": 200, "headers": {"Content-Length": "9", "transfer-encoding": "chunked", "Connection": "x"}},
            200,
            JSON,
            b"",
        ),
        # anything else
        ({"message": "hello", "n": [1, 2]}, 200, JSON, b'{"message":"hello","n":[1,2]}'),
        ({"body": 1, "headers": 2, "cookies": 3, "isBase64Encoded": 4}, 200, JSON, None),
        ({}, 200, JSON, b"{}"),
        ('say "hä"', 200, JSON, 'say "hä"'.encode()),
        ("", 200, JSON, b""),
        ([1, {"a": 2}], 200, JSON, b'[1,{"a":2}]'),
        (12, 200, JSON, b"12"),
        (False, 200, JSON, b"false"),
        (None, 200, JSON, b"null"),
    ],
)
def test_the_mapping(value: Any, status: int, lines: bytes, body: bytes | None) -> None:
    expected = json.dumps(value, separators=(",", ":")).encode() if body is None else body
    assert returned(value) == (status, lines, expected)


@pytest.mark.parametrize(
    "value",
    [
        {"statusCode": None},
        {"statusCode": 99},
        {"statusCode": 101},
        {"statusCode": 600},
        {"statusCode": "2 0"},
        {"statusCode": "two"},
        {"statusCode": True},
        {"statusCode": 200.5},
        {"statusCode": [200]},
        {"statusCode": 200, "headers": ["a"]},
        {"statusCode": 200, "headers": {"a": ["b"]}},
        {"statusCode": 200, "headers": {"a": "b\r\nc: d"}},
        {"statusCode": 200, "headers": {"a": "b\nc"}},
        {"statusCode": 200, "headers": {"a": "b\x00"}},
        {"statusCode": 200, "headers": {"a\r\nb": "c"}},
        {"statusCode": 200, "headers": {"a b": "c"}},
        {"statusCode": 200, "headers": {"a:": "c"}},
        {"statusCode": 200, "headers": {"": "c"}},
        {"statusCode": 200, "headers": {"a": "\ud800"}},
        {"statusCode": 200, "cookies": "a=1"},
        {"statusCode": 200, "cookies": ["a=1\r\nb: c"]},
        {"statusCode": 200, "body": "\ud800"},
        {"statusCode": 200, "body": "no base64!", "isBase64Encoded": True},
        {"statusCode": 200, "body": "ä", "isBase64Encoded": True},
        {"statusCode": 200, "body": {"a": 1}, "isBase64Encoded": True},
        {"statusCode": 200, "isBase64Encoded": "yes"},
    ],
)
def test_what_cannot_be_a_response(value: Any) -> None:
    assert respond(Outcome(OutcomeKind.SUCCESS, json.dumps(value).encode())) is INTERNAL_SERVER_ERROR


@pytest.mark.parametrize("payload", [b"", b" ", b"nonsense", b'{"statusCode":200', b'"\xff"', b"[1,", b'{"a":}'])
def test_payloads_that_are_no_json(payload: bytes) -> None:
    assert respond(Outcome(OutcomeKind.SUCCESS, payload)) is INTERNAL_SERVER_ERROR


def test_white_space_around_the_payload() -> None:
    assert respond(Outcome(OutcomeKind.SUCCESS, b' \n"a" ')).body == b"a"
    assert respond(Outcome(OutcomeKind.SUCCESS, b' {"statusCode": 201} ')).status == 201


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=10,
)


@given(value=json_values)
def test_what_has_no_status_code_is_relayed(value: Any) -> None:
    status, lines, body = returned(value)
    if not isinstance(value, str):
        assert json.loads(body) == value
    elif status == 200:
        assert body.decode() == value
    assert status == 200
    assert lines == JSON


@given(
    answer=st.fixed_dictionaries(
        {"statusCode": st.integers(0, 700) | json_values},
        optional={
            "headers": st.dictionaries(st.text(max_size=5), st.text(max_size=5) | json_values, max_size=3),
            "cookies": st.lists(st.text(max_size=5), max_size=2),
            "body": json_values,
            "isBase64Encoded": st.booleans(),
        },
    )
)
def test_no_answer_breaks_its_frame(answer: dict[str, Any]) -> None:
    status, lines, _ = returned(answer)
    assert 200 <= status <= 599
    assert lines.endswith(b"\r\n")
    for line in lines.removesuffix(b"\r\n").split(b"\r\n"):
        name, colon, value = line.partition(b": ")
        assert name
        assert colon
        assert not {b"\r", b"\n", b"\x00"} & {bytes([byte]) for byte in name + value}


_DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "payload",
    [
        _DEEP,
        b'{"a":' + _DEEP + b"}",
        b'{"statusCode":200,"a":' + _DEEP + b"}",
        b'{"statusCode":200,"body":' + _DEEP + b"}",
    ],
)
@pytest.mark.parametrize("body", [b"", b"apart"])
def test_what_is_nested_without_end_is_answered_all_the_same(payload: bytes, body: bytes) -> None:
    assert respond(Outcome(OutcomeKind.SUCCESS, payload, body=body)) == INTERNAL_SERVER_ERROR
    assert prelude(b'{"statusCode":200,"a":' + _DEEP + b"}") is None

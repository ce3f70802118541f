"""Entries as functions see them, and settings."""

from __future__ import annotations

import datetime
import tomllib
from typing import Any

import msgspec
import pytest

from eventfn.testing.lint import load_settings
from eventfn_redis import shape
from eventfn_redis.settings import Servers, Source


def shown(*fields: bytes, **options: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"body_field": "body", "receives": 1} | options
    found: dict[str, Any] = msgspec.json.decode(shape.record("1700000000000-3", "orders", fields, **told))
    return found


def test_a_record_is_near_sqs() -> None:
    assert shown(b"body", b'{"item": 7}', b"city", b"Wien", receives=2) == {
        "messageId": "1700000000000-3",
        "body": '{"item": 7}',
        "isBase64Encoded": False,
        "attributes": {"ApproximateReceiveCount": "2", "SentTimestamp": "1700000000000"},
        "fields": {"city": "Wien"},
        "binaryFields": {},
        "eventSource": "eventfn:redis",
        "stream": "orders",
    }


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((b"body", b""), {"body": "", "isBase64Encoded": False}),
        ((b"body", "Zoë \u2028 東京".encode()), {"body": "Zoë \u2028 東京", "isBase64Encoded": False}),
        ((b"body", b"\xff\x00"), {"body": "/wA=", "isBase64Encoded": True}),
        ((b"city", b"Wien"), {"body": None, "isBase64Encoded": False, "fields": {"city": "Wien"}}),
        ((b"data", b"x", b"body", b"y"), {"body": "y", "fields": {"data": "x"}}),
        ((b"raw", b"\xff"), {"fields": {}, "binaryFields": {"raw": "/w=="}}),
        ((b"na\xffme", b"x"), {"fields": {"na\\xffme": "x"}}),
        ((b"twice", b"1", b"twice", b"2"), {"fields": {"twice": "2"}}),
    ],
)
def test_fields(fields: tuple[bytes, ...], expected: dict[str, Any]) -> None:
    found = shown(*fields)
    assert {key: found[key] for key in expected} == expected


def test_the_body_may_be_another_field() -> None:
    found = shown(b"data", b"x", b"body", b"y", body_field="data")
    assert (found["body"], found["fields"]) == ("x", {"body": "y"})


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "start"),
    [
        ({}, "0"),
        ({"starting_position": "LATEST"}, "$"),
        (
            {
                "starting_position": "AT_TIMESTAMP",
                "starting_position_timestamp": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
            },
            "1767225599999-18446744073709551615",
        ),
    ],
)
def test_where_a_new_group_begins(given: dict[str, Any], start: str) -> None:
    assert Source(stream="orders", **given).start == start


def test_a_url_is_taken_apart() -> None:
    server = Servers(url="rediss://cache.example.com/3")
    assert (server.host, server.port, server.database, server.tls) == ("cache.example.com", 6379, 3, True)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"url": "http://cache"}, "url: expected"),
        ({"url": "redis://"}, "url: expected"),
        ({"url": "redis://cache:port"}, "url: expected"),
        ({"url": "redis://cache/orders"}, "url: expected"),
        ({"url": "redis://cache/0?ssl=1"}, "nothing after it"),
        ({"url": "redis://eventfn:secret@cache"}, "`username` and `password`"),
        ({"ca_file": "ca.pem"}, "rediss"),
        ({"url": "rediss://cache", "certificate_file": "c.pem"}, "key_file"),
    ],
)
def test_a_wrong_server_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refusal:
        Servers(**given)
    assert "secret@" not in str(refusal.value)


def test_a_time_to_begin_at_has_a_zone() -> None:
    toml = 'stream = "A"\nstarting_position = "AT_TIMESTAMP"\nstarting_position_timestamp = 2026-01-31T12:00:00'
    assert load_settings(Source, tomllib.loads(toml + "Z"), {}).starting_position_timestamp is not None
    with pytest.raises(AssertionError, match="expected its zone too"):
        load_settings(Source, tomllib.loads(toml), {})

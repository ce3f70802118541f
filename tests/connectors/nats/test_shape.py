"""Messages as functions see them, and settings."""

from __future__ import annotations

import tomllib
from typing import Any

import msgspec
import pytest

from eventfn.testing.lint import load_settings
from eventfn_nats import shape
from eventfn_nats.publishing import headers_of, size
from eventfn_nats.settings import Clusters, Source, is_subject

REPLY = "$JS.ACK.ORDERS.shop.2.42.57.1700000000123456789.7"
TOLD = shape.Delivery("ORDERS", "shop", 2, 42, 57, 1_700_000_000_123)


@pytest.mark.parametrize(
    "reply",
    [
        REPLY,
        "$JS.ACK._.account.ORDERS.shop.2.42.57.1700000000123456789.7.token",
        "$JS.ACK.hub.account.ORDERS.shop.2.42.57.1700000000123456789.7",
    ],
)
def test_the_reply_subject_says_which_delivery_it_is(reply: str) -> None:
    assert shape.delivery(reply) == TOLD


@pytest.mark.parametrize("reply", ["", "_INBOX.abc", "$JS.ACK.ORDERS.shop.2"])
def test_other_reply_subjects_are_refused(reply: str) -> None:
    with pytest.raises(ValueError, match="no message of a stream"):
        shape.delivery(reply)


def test_a_record_is_near_sqs() -> None:
    assert msgspec.json.decode(shape.record("orders.new", {"Nats-Msg-Id": "7"}, b'{"item": 7}', TOLD)) == {
        "messageId": "42",
        "body": '{"item": 7}',
        "isBase64Encoded": False,
        "attributes": {
            "ApproximateReceiveCount": "2",
            "SentTimestamp": "1700000000123",
            "SequenceNumber": "42",
            "ConsumerSequenceNumber": "57",
        },
        "headers": {"Nats-Msg-Id": "7"},
        "subject": "orders.new",
        "eventSource": "eventfn:nats",
        "stream": "ORDERS",
        "consumer": "shop",
    }


@pytest.mark.parametrize(
    ("data", "body", "is_base64"),
    [
        (b"", "", False),
        ("Zoë \u2028 東京".encode(), "Zoë \u2028 東京", False),
        (b"\xff\x00", "/wA=", True),
    ],
)
def test_bodies(data: bytes, body: str, is_base64: bool) -> None:
    found = msgspec.json.decode(shape.record("orders.new", None, data, TOLD))
    assert (found["body"], found["isBase64Encoded"], found["headers"]) == (body, is_base64, {})


def test_a_header_is_one_line_whatever_its_value() -> None:
    headers = headers_of("7", {"ErrorMessage": "no\r\nNats-Msg-Id: 8\r\n\r\nbody"})
    assert headers == {"Nats-Msg-Id": "7", "ErrorMessage": "no Nats-Msg-Id: 8 body"}
    assert headers_of("7", {"Nats-Msg-Id": "8", "Nats-Expected-Last-Sequence": "3"}) == {"Nats-Msg-Id": "7"}
    assert size(b"12345", {"a": "ä"}) == len(b"NATS/1.0\r\na: \xc3\xa4\r\n\r\n") + 5


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "good"), [("a", True), ("a.b", True), ("", False), ("a..b", False), ("a.*", False), ("a b", False)]
)
def test_what_can_be_published_to(subject: str, good: bool) -> None:
    assert is_subject(subject) is good


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"servers": ()}, "at least one"),
        ({"servers": ("http://nats",)}, "servers: expected"),
        ({"servers": ("nats://",)}, "servers: expected"),
        ({"servers": ("nats://nats:port",)}, "servers: expected"),
        ({"servers": ("nats://eventfn:secret@nats",)}, "`user` and `password`"),
        ({"user": "eventfn"}, "go together"),
        ({"token": "secret", "credentials_file": "a.creds"}, "one way"),
        ({"key_file": "key.pem"}, "go together"),
    ],
)
def test_a_wrong_server_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refusal:
        Clusters(**given)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "tls"),
    [({}, False), ({"servers": ("tls://nats",)}, True), ({"ca_file": "ca.pem"}, True)],
)
def test_when_it_is_tls(given: dict[str, Any], tls: bool) -> None:
    assert Clusters(**given).tls is tls


def test_a_time_to_begin_at_has_a_zone() -> None:
    toml = 'stream = "A"\nstarting_position = "AT_TIMESTAMP"\nstarting_position_timestamp = 2026-01-31T12:00:00'
    assert load_settings(Source, tomllib.loads(toml + "Z"), {}).starting_position_timestamp is not None
    with pytest.raises(AssertionError, match="expected its zone too"):
        load_settings(Source, tomllib.loads(toml), {})

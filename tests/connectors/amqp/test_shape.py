"""A message of RabbitMQ as Lambda shows it, by table."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from aiormq import spec
from hypothesis import given
from hypothesis import strategies as st

from eventfn_amqp import shape
from eventfn_amqp.connection import Brokers
from eventfn_amqp.deliveries import Outstanding


def test_a_message_with_everything_is_as_in_lambdas_documentation() -> None:
    properties = spec.Basic.Properties(
        content_type="text/plain",
        delivery_mode=1,
        priority=34,
        expiration="60000",
        timestamp=datetime(1970, 1, 1, 0, 33, 41, tzinfo=UTC),
        user_id="AIDACKCEVSQ6C2EXAMPLE",
    )
    headers = {"header1": "value1", "header2": "ü", "numberInHeader": 10}
    record = msgspec.json.decode(shape.record(properties, headers, False, b'{"timeout":0}'))
    assert record == {
        "basicProperties": {
            "contentType": "text/plain",
            "contentEncoding": None,
            "headers": {
                "header1": {"bytes": [118, 97, 108, 117, 101, 49]},
                "header2": {"bytes": [-61, -68]},
                "numberInHeader": 10,
            },
            "deliveryMode": 1,
            "priority": 34,
            "correlationId": None,
            "replyTo": None,
            "expiration": "60000",
            "messageId": None,
            "timestamp": "Jan 1, 1970, 12:33:41 AM",
            "type": None,
            "userId": "AIDACKCEVSQ6C2EXAMPLE",
            "appId": None,
            "clusterId": None,
            "bodySize": 13,
        },
        "redelivered": False,
        "data": base64.b64encode(b'{"timeout":0}').decode(),
    }
    assert next(iter(record["basicProperties"])) == "contentType"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, True),
        (None, None),
        (1.5, 1.5),
        (Decimal("2.5"), 2.5),
        (bytearray(b"\xff"), {"bytes": [-1]}),
        ([1, "a"], [1, {"bytes": [97]}]),
        ({"inner": {"deep": "a"}}, {"inner": {"deep": {"bytes": [97]}}}),
        (datetime(2026, 12, 31, 23, 5, 9, tzinfo=UTC), "Dec 31, 2026, 11:05:09 PM"),
    ],
)
def test_what_a_header_may_hold(value: Any, shown: Any) -> None:
    record = msgspec.json.decode(shape.record(spec.Basic.Properties(), {"name": value}, True, b""))
    assert record["basicProperties"]["headers"] == {"name": shown}
    assert record["redelivered"] is True


@pytest.mark.parametrize(
    ("hour", "shown"), [(0, "12:00:00 AM"), (11, "11:00:00 AM"), (12, "12:00:00 PM"), (13, "1:00:00 PM")]
)
def test_the_twelve_hours_of_a_date(hour: int, shown: str) -> None:
    assert shape.java_date(datetime(2026, 5, 4, hour, tzinfo=UTC)) == f"May 4, 2026, {shown}"


def test_an_event_names_the_queue_with_its_virtual_host() -> None:
    event = msgspec.json.decode(shape.event("orders::/", "arn:b", [b'{"data":""}', b'{"data":"AA=="}']))
    assert event == {
        "eventSource": "aws:rmq",
        "eventSourceArn": "arn:b",
        "rmqMessagesByQueue": {"orders::/": [{"data": ""}, {"data": "AA=="}]},
    }
    assert shape.queue_key("orders", "/") == "orders::/"
    assert shape.queue_key("orders", "shop") == "orders::/shop"


@pytest.mark.parametrize(
    ("url", "virtual_host"),
    [
        ("amqp://h", "/"),
        ("amqp://h/", "/"),
        ("amqp://h/%2F", "/"),
        ("amqp://h/shop", "shop"),
        ("amqps://u:p@h:1/a%2Fb", "a/b"),
    ],
)
def test_the_virtual_host_of_a_url(url: str, virtual_host: str) -> None:
    assert Brokers(url=url).virtual_host == virtual_host


@pytest.mark.parametrize("url", ["", "h", "http://h", "amqp://", "amqp://h:99999", "amqp://user:hidden@:1/"])
def test_a_bad_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"^url: expected amqp://") as refused:
        Brokers(url=url)
    assert "hidden" not in str(refused.value)


def test_certificate_and_key_go_together() -> None:
    with pytest.raises(ValueError, match=r"^cert_file: "):
        Brokers(url="amqps://h", cert_file="a.pem")


@given(st.lists(st.lists(st.integers(1, 30), max_size=8), max_size=12))
def test_an_ack_covers_what_is_done_and_nothing_else(rounds: list[list[int]]) -> None:
    outstanding = Outstanding()
    ours = set(range(1, 31))
    for tag in sorted(ours):
        outstanding.add(tag)
    for wanted in rounds:
        done = set(wanted) & ours
        for ack in outstanding.acknowledge(done):
            covered = {tag for tag in ours if tag <= ack.tag} if ack.multiple else {ack.tag}
            assert covered <= done
            ours -= covered
            done -= covered
        assert not done
        assert len(outstanding) == len(ours)

"""A record as a function gets it, by table."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import pytest

from eventfn.event import Record
from eventfn.rules.filters import compile_criteria
from eventfn.testing import trigger_context
from eventfn_kafka import KafkaTrigger, shape
from eventfn_kafka.settings import Clusters, KafkaSettings, group_of


class Consumed(msgspec.Struct):
    offset: int = 15
    timestamp: int = 1545084650987
    timestamp_type: int = 0
    key: bytes | None = b"k"
    value: bytes | None = b'{"total": 7}'
    headers: Sequence[tuple[str, bytes | None]] = ()


def shaped(consumed: Any, event_format: Literal["lambda", "plain"] = "lambda", topic: str = "my.topic-1") -> Record:
    (record,) = shape.shaping(event_format, topic, 3)([consumed])
    return record


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


USUAL = {
    "topic": "my.topic-1",
    "partition": 3,
    "offset": 15,
    "timestamp": 1545084650987,
    "timestampType": "CREATE_TIME",
}


@pytest.mark.parametrize(
    ("consumed", "more"),
    [
        (Consumed(), {"key": "aw==", "value": in_base64(b'{"total": 7}'), "headers": []}),
        (Consumed(key=None), {"value": in_base64(b'{"total": 7}'), "headers": []}),
        (Consumed(value=None), {"key": "aw==", "headers": []}),  # a tombstone
        (Consumed(key=b"", value=b""), {"key": "", "value": "", "headers": []}),
        (Consumed(value=b"\xff\x00"), {"key": "aw==", "value": "/wA=", "headers": []}),
        (
            Consumed(headers=(("a", b"\x00\x7f\x80\xff"), ("a", b""), ('q"', None))),
            {"key": "aw==", "value": "eyJ0b3RhbCI6IDd9", "headers": [{"a": [0, 127, -128, -1]}, {"a": []}, {'q"': []}]},
        ),
    ],
)  # fmt: skip
def test_the_shape_of_lambda(consumed: Consumed, more: dict[str, Any]) -> None:
    payload = shaped(consumed).payload
    assert json.loads(payload) == USUAL | more
    assert list(json.loads(payload)) == [*USUAL, *more], "the order of keys is Lambda's"


@pytest.mark.parametrize(
    ("consumed", "more"),
    [
        (Consumed(), {"key": "k", "value": '{"total": 7}', "headers": []}),
        (Consumed(key=None, value=None), {"headers": []}),
        (Consumed(value='"ü"\n'.encode()), {"key": "k", "value": '"ü"\n', "headers": []}),
        (
            Consumed(key=b"\xff", value=b"\xfe"),
            {"key": "/w==", "keyEncoding": "base64", "value": "/g==", "valueEncoding": "base64", "headers": []},
        ),
        (
            Consumed(headers=(("a", b"1"), ("a", b"\xff"), ("b", None))),
            {
                "key": "k",
                "value": '{"total": 7}',
                "headers": [
                    {"name": "a", "value": "1"},
                    {"name": "a", "value": "/w==", "valueEncoding": "base64"},
                    {"name": "b"},
                ],
            },
        ),
    ],
)
def test_the_plain_shape(consumed: Consumed, more: dict[str, Any]) -> None:
    assert json.loads(shaped(consumed, "plain").payload) == USUAL | more


def test_a_broker_may_have_set_the_time() -> None:
    record = shaped(Consumed(timestamp_type=1))
    assert json.loads(record.payload)["timestampType"] == "LOG_APPEND_TIME"


def test_what_the_host_is_told_of_a_record() -> None:
    record = shaped(Consumed(key=b"\xff\x00"))
    assert (record.id, record.group, record.arrived_ms) == ("my.topic-1-3-15", "\xff\x00", 1545084650987)
    assert shape.offset_of(record) == 15
    assert shaped(Consumed(key=None)).group is None
    assert shaped(Consumed(timestamp=-1)).arrived_ms == 0


def test_an_event_of_lambda_is_by_topic_and_partition() -> None:
    # "a-1", partition 0, and "a", partition 1, begin alike.
    first = shape.shaping("lambda", "a-1", 0)([Consumed(1), Consumed(2)])
    second = shape.shaping("lambda", "a", 1)([Consumed(3)])
    event = json.loads(shape.event("lambda", "b1:1,b2:2", (*first, *second, *first[:1])))
    assert (event["eventSource"], event["bootstrapServers"]) == ("SelfManagedKafka", "b1:1,b2:2")
    assert {shard: [record["offset"] for record in some] for shard, some in event["records"].items()} == {
        "a-1-0": [1, 2, 1],
        "a-1": [3],
    }


def test_an_event_of_msk_names_its_cluster() -> None:
    arn = "arn:aws:kafka:us-east-1:000000000000:cluster/shop/0c1e-5"
    assert json.loads(shape.event("lambda", "b:1", (), arn)) == {
        "eventSource": "aws:kafka",
        "eventSourceArn": arn,
        "bootstrapServers": "b:1",
        "records": {},
    }


def test_a_plain_event_is_a_list() -> None:
    records = shape.shaping("plain", "a", 0)([Consumed(1), Consumed(2)])
    assert [record["offset"] for record in json.loads(shape.event("plain", "b:1", records))["Records"]] == [1, 2]


def test_the_words_for_a_batch_that_failed() -> None:
    records = shape.shaping("lambda", "a", 0)([Consumed(1, 0), Consumed(2, 1545084650987)])
    info = shape.batch_info("a-0", "b:1", records)
    assert (info.key, info.exhausted) == ("KafkaBatchInfo", "RetriesExhausted")
    assert info.info == {
        "batchSize": 2,
        "bootstrapServers": "b:1",
        "payloadSize": sum(len(record.payload) for record in records),
        "recordsInfo": {
            "a-0": {
                "firstRecordOffset": "1",
                "lastRecordOffset": "2",
                "firstRecordTimestamp": "1970-01-01T00:00:00.000Z",
                "lastRecordTimestamp": "2018-12-17T22:10:50.987Z",
            }
        },
    }
    assert shape.batch_info("a-0", "b:1", records, "arn:msk").info == {**info.info, "eventSourceArn": "arn:msk"}


@pytest.mark.parametrize("event_format", ["lambda", "plain"])
@pytest.mark.parametrize(
    ("pattern", "value", "passes"),
    [
        ({"value": {"total": [{"numeric": [">", 5]}]}}, b'{"total": 7}', True),
        ({"value": {"total": [{"numeric": [">", 5]}]}}, b'{"total": 3}', False),
        ({"value": ["paid"]}, b"paid", True),
        ({"value": ["paid"]}, b"open", False),
        ({"key": ["k"]}, b"anything", True),
        ({"key": ["other"]}, b"anything", False),
        ({"partition": [3], "value": {"total": [7]}}, b"no JSON", True),  # of the other kind: only the rest decides
        ({"partition": [4], "value": {"total": [7]}}, b"no JSON", False),
        ({"value": [{"exists": False}]}, None, True),
    ],
)
def test_a_filter_sees_what_is_in_a_value(
    tmp_path: Any, event_format: Literal["lambda", "plain"], pattern: Any, value: bytes | None, passes: bool
) -> None:
    from eventfn.bus.stream import HostAssignments

    settings = KafkaSettings(topics=("a",), event_format=event_format)
    trigger = KafkaTrigger(settings, Clusters(), trigger_context(tmp_path, assignments=HostAssignments()))
    criteria = compile_criteria([pattern], trigger.data_key, trigger.filtering)
    assert criteria.matches(shaped(Consumed(value=value), event_format).payload) is passes


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("bootstrap_servers", {"bootstrap_servers": ()}),
        ("bootstrap_servers", {"bootstrap_servers": ("localhost",)}),
        ("bootstrap_servers", {"bootstrap_servers": ("a:1,b:2",)}),
        ("ca_file", {"ca_file": "ca.pem"}),
        ("key_file", {"tls": True, "key_file": "client.key"}),
        ("key_password", {"tls": True, "key_password": "secret"}),
        ("username", {"sasl_mechanism": "PLAIN", "password": "secret"}),
        ("password", {"sasl_mechanism": "PLAIN", "username": "alice"}),
        ("username", {"username": "alice", "password": "secret"}),
    ],
)
def test_a_cluster_that_cannot_be_meant(key: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{key}: ") as refused:
        Clusters(**settings)
    assert "secret" not in str(refused.value)


def test_a_group_stays_the_same_when_another_setting_changes() -> None:
    assert group_of(KafkaSettings(topics=("a",)), "orders") == "eventfn-orders"
    assert group_of(KafkaSettings(topics=("a", "b"), event_format="plain"), "orders") == "eventfn-orders"
    assert group_of(KafkaSettings(topics=("a",), group_id="mine"), "orders") == "mine"

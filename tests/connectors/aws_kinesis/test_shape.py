from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.event import Record
from eventfn.trigger import Shard
from eventfn_aws.kinesis.shape import Place, Shape, role_arn, stream_arn
from eventfn_aws.kinesis.stream import is_stream, parameter, region_of
from eventfn_aws.shards.batch_info import batch_info, with_milliseconds, with_seconds
from eventfn_aws.shards.tree import one_after_the_other, tree

ARN = "arn:aws:kinesis:us-east-2:123456789012:stream/lambda-stream"
SHAPE = Shape(Place("shardId-000000000006", ARN, "us-east-2", role_arn("123456789012")))
SEQUENCE = "49590338271490256608559692538361571095921575989136588898"


def test_a_record_is_word_for_word_that_of_lambdas_documentation() -> None:
    record = SHAPE.record("1", SEQUENCE, b"Hello, this is a test.", 1_545_084_650_987)
    assert record == (
        b'{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"1",'
        b'"sequenceNumber":"49590338271490256608559692538361571095921575989136588898",'
        b'"data":"SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==","approximateArrivalTimestamp":1545084650.987},'
        b'"eventSource":"aws:kinesis","eventVersion":"1.0",'
        b'"eventID":"shardId-000000000006:49590338271490256608559692538361571095921575989136588898",'
        b'"eventName":"aws:kinesis:record","invokeIdentityArn":"arn:aws:iam::123456789012:role/eventfn",'
        b'"awsRegion":"us-east-2","eventSourceARN":"arn:aws:kinesis:us-east-2:123456789012:stream/lambda-stream"}'
    )


@given(st.text(), st.binary(), st.integers(0, 4_102_444_800_000))
def test_any_key_and_any_data_survive(key: str, data: bytes, arrived_ms: int) -> None:
    shown = msgspec.json.decode(SHAPE.record(key, SEQUENCE, data, arrived_ms))["kinesis"]
    assert (shown["partitionKey"], base64.b64decode(shown["data"])) == (key, data)
    assert round(shown["approximateArrivalTimestamp"] * 1000) == arrived_ms


@pytest.mark.parametrize(
    ("named", "asked", "region"),
    [
        ("orders", {"StreamName": "orders"}, None),
        (ARN, {"StreamARN": ARN}, "us-east-2"),
        (stream_arn("a.b-c_d", "cn-north-1", "000000000000"), {"StreamARN"}, "cn-north-1"),
    ],
)
def test_a_stream_is_named_by_its_name_or_its_arn(named: str, asked: object, region: str | None) -> None:
    assert is_stream(named)
    assert region_of(named) == region
    assert parameter(named) == asked or set(parameter(named)) == asked


@pytest.mark.parametrize("named", ["", "two words", "arn:aws:sqs:us-east-1:123456789012:orders", "x" * 129, "a/b"])
def test_what_names_no_stream(named: str) -> None:
    assert not is_stream(named)


def test_what_is_said_of_a_failed_batch() -> None:
    records = [Record(id=str(number), payload=b"", arrived_ms=1_573_692_285_021 + number) for number in range(3)]
    assert batch_info("shardId-000000000006", records, ARN, with_milliseconds) == {
        "shardId": "shardId-000000000006",
        "startSequenceNumber": "0",
        "endSequenceNumber": "2",
        "approximateArrivalOfFirstRecord": "2019-11-14T00:44:45.021Z",
        "approximateArrivalOfLastRecord": "2019-11-14T00:44:45.023Z",
        "batchSize": 3,
        "streamArn": ARN,
    }


@pytest.mark.parametrize(
    ("ms", "exact", "rough"),
    [
        (0, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00Z"),
        (999, "1970-01-01T00:00:00.999Z", "1970-01-01T00:00:00Z"),
        (1_573_691_885_007, "2019-11-14T00:38:05.007Z", "2019-11-14T00:38:05Z"),
    ],
)
def test_times_of_arrival(ms: int, exact: str, rough: str) -> None:
    assert (with_milliseconds(ms), with_seconds(ms)) == (exact, rough)


# --- the tree of shards -----------------------------------------------------------------------------------------------


def listed(**parents: tuple[str, ...]) -> list[dict[str, str]]:
    keys = ("ParentShardId", "AdjacentParentShardId")
    return [{"ShardId": shard, **dict(zip(keys, of, strict=False))} for shard, of in parents.items()]


def test_parents_of_splits_and_merges() -> None:
    assert tree(listed(a=(), b=("a",), c=("a",), d=("b", "c"))) == [
        Shard("a"),
        Shard("b", ("a",)),
        Shard("c", ("a",)),
        Shard("d", ("b", "c")),
    ]


def test_nothing_waits_for_a_parent_that_has_left_the_stream() -> None:
    assert tree(listed(c=("a",), d=("b", "c"))) == [Shard("c"), Shard("d", ("c",))]
    assert tree([{"ShardId": "c", "ParentShardId": None}]) == [Shard("c")]


def test_the_streams_of_a_table_follow_each_other() -> None:
    first = tree(listed(a=(), b=("a",), c=("a",)))
    second = tree(listed(d=(), e=(), f=("d",)))
    assert one_after_the_other([first, second]) == [
        Shard("a"),
        Shard("b", ("a",)),
        Shard("c", ("a",)),
        Shard("d", ("b", "c")),
        Shard("e", ("b", "c")),
        Shard("f", ("d",)),
    ]
    assert one_after_the_other([first, [], second]) == one_after_the_other([first, second])

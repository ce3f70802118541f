from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest

from eventfn_aws.dynamodb import shape, tables

ARN = "arn:aws:dynamodb:us-west-2:123456789012:table/ExampleTableWithStream/stream/2015-06-27T00:48:05.899"
CREATED = 1_479_499_740_123


def found(**more: Any) -> dict[str, Any]:
    """A record as the service's client has it."""
    change = {
        "ApproximateCreationDateTime": datetime.datetime.fromtimestamp(CREATED / 1000, datetime.UTC),
        "Keys": {"Id": {"N": "101"}},
        "NewImage": {"Message": {"S": "New item!"}, "Id": {"N": "101"}},
        "SequenceNumber": "4421584500000000017450439091",
        "SizeBytes": 26,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    record = {
        "eventID": "c4ca4238a0b923820dcc509a6f75849b",
        "eventName": "INSERT",
        "eventVersion": "1.0",
        "eventSource": "aws:dynamodb",
        "awsRegion": "elsewhere",
        "dynamodb": change | more.pop("dynamodb", {}),
    }
    return record | more


def shown(**more: Any) -> Any:
    return msgspec.json.decode(shape.record(found(**more), CREATED, "us-west-2", ARN))


def test_a_record_is_word_for_word_that_of_lambdas_documentation() -> None:
    assert shape.record(found(), CREATED, "us-west-2", ARN) == (
        b'{"eventID":"c4ca4238a0b923820dcc509a6f75849b","eventName":"INSERT","eventVersion":"1.1",'
        b'"eventSource":"aws:dynamodb","awsRegion":"us-west-2","dynamodb":{"ApproximateCreationDateTime":1479499740.0,'
        b'"Keys":{"Id":{"N":"101"}},"NewImage":{"Message":{"S":"New item!"},"Id":{"N":"101"}},'
        b'"SequenceNumber":"4421584500000000017450439091","SizeBytes":26,"StreamViewType":"NEW_AND_OLD_IMAGES"},'
        b'"eventSourceARN":"arn:aws:dynamodb:us-west-2:123456789012:table/ExampleTableWithStream/stream/'
        b'2015-06-27T00:48:05.899"}'
    )


def test_values_of_every_type() -> None:
    image = {
        "binary": {"B": b"\x00\xff"},
        "binaries": {"BS": [b"a", b"b"]},
        "map": {"M": {"list": {"L": [{"B": b"deep"}, {"NULL": True}, {"BOOL": False}]}}},
        "numbers": {"NS": ["1", "2.50"]},
        "strings": {"SS": ["a"]},
    }
    assert shown(dynamodb={"NewImage": image})["dynamodb"]["NewImage"] == {
        "binary": {"B": "AP8="},
        "binaries": {"BS": ["YQ==", "Yg=="]},
        "map": {"M": {"list": {"L": [{"B": "ZGVlcA=="}, {"NULL": True}, {"BOOL": False}]}}},
        "numbers": {"NS": ["1", "2.50"]},
        "strings": {"SS": ["a"]},
    }


@pytest.mark.parametrize("images", [(), ("NewImage",), ("OldImage",), ("NewImage", "OldImage")])
def test_the_images_that_there_are(images: tuple[str, ...]) -> None:
    record = found()
    del record["dynamodb"]["NewImage"]
    record["dynamodb"] |= {image: {"Id": {"N": "1"}} for image in images}
    change = msgspec.json.decode(shape.record(record, CREATED, "us-west-2", ARN))["dynamodb"]
    assert [key for key in change if key.endswith("Image")] == list(images)


def test_what_expired_says_who_removed_it() -> None:
    who = {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}
    record = shown(eventName="REMOVE", userIdentity=who)
    assert record["userIdentity"] == {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    assert "userIdentity" not in shown()


def test_an_item_is_named_by_its_keys_in_any_order() -> None:
    one = found(dynamodb={"Keys": {"a": {"S": "1"}, "b": {"B": b"\x00"}}})
    same = found(dynamodb={"Keys": {"b": {"B": b"\x00"}, "a": {"S": "1"}}})
    other = found(dynamodb={"Keys": {"a": {"S": "1"}, "b": {"B": b"\x01"}}})
    assert shape.item_key(one) == shape.item_key(same) != shape.item_key(other)


def test_how_tables_and_streams_are_named() -> None:
    table = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders"
    assert tables.is_table("orders")
    assert tables.is_table(table)
    assert not tables.is_table(f"{table}/stream/2015-06-27T00:48:05.899")
    assert not tables.is_table("no")
    assert tables.is_stream(ARN)
    assert not tables.is_stream(table)
    assert [tables.table_name(text) for text in ("orders", table, ARN)] == [
        "orders",
        "orders",
        "ExampleTableWithStream",
    ]
    assert [tables.region_of(text) for text in ("orders", table, ARN)] == [None, "eu-west-1", "us-west-2"]
    assert tables.label(ARN) == "2015-06-27T00:48:05.899"

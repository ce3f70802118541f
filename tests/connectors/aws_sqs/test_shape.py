"""Shapes and names, by table."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from eventfn.event import Record
from eventfn_aws.sqs import shape
from eventfn_aws.sqs.names import QueueName

ARN = "arn:aws:sqs:eu-west-1:123456789012:jobs"
MESSAGE: dict[str, Any] = {
    "MessageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
    "ReceiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
    "Body": "Test message.",
    "MD5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
    "Attributes": {  # in another order than Lambda's
        "SenderId": "AIDAIENQZJOLO23YVJ4VO",
        "ApproximateFirstReceiveTimestamp": "1545082649185",
        "ApproximateReceiveCount": "2",
        "SentTimestamp": "1545082649183",
    },
}


def record(**changed: Any) -> Record:
    return shape.record(MESSAGE | changed, ARN, "eu-west-1", token=None)


def shaped(**changed: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(record(**changed).payload)
    return decoded


def test_a_message_has_lambdas_shape() -> None:
    assert list(shaped().items()) == [
        ("messageId", MESSAGE["MessageId"]),
        ("receiptHandle", MESSAGE["ReceiptHandle"]),
        ("body", "Test message."),
        (
            "attributes",
            {
                "ApproximateReceiveCount": "2",
                "SentTimestamp": "1545082649183",
                "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                "ApproximateFirstReceiveTimestamp": "1545082649185",
            },
        ),
        ("messageAttributes", {}),
        ("md5OfBody", "e4e68fb7bd0e697a0ae8f1bb342846b3"),
        ("eventSource", "aws:sqs"),
        ("eventSourceARN", ARN),
        ("awsRegion", "eu-west-1"),
    ]
    assert list(shaped()["attributes"]) == [
        "ApproximateReceiveCount",
        "SentTimestamp",
        "SenderId",
        "ApproximateFirstReceiveTimestamp",
    ]


def test_the_host_is_told_what_it_must_know() -> None:
    plain = record()
    assert (plain.id, plain.group, plain.arrived_ms, plain.receives) == (MESSAGE["MessageId"], None, 1545082649183, 2)


def test_a_fifo_message_says_its_group() -> None:
    said = {"MessageDeduplicationId": "d", "SequenceNumber": "18849496460467696128", "MessageGroupId": "g"}
    message = {"Attributes": MESSAGE["Attributes"] | {"DeadLetterQueueSourceArn": ARN} | said}
    assert record(**message).group == "g"
    assert list(shaped(**message)["attributes"])[4:] == [
        "SequenceNumber",
        "MessageGroupId",
        "MessageDeduplicationId",
        "DeadLetterQueueSourceArn",
    ]


def test_attributes_are_typed_and_binary_ones_are_base64() -> None:
    attributes = {
        "City": {"DataType": "String", "StringValue": "Wien"},
        "Count": {"DataType": "Number.int", "StringValue": "3"},
        "Raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    decoded = shaped(MessageAttributes=attributes, MD5OfMessageAttributes="00484c68...")
    assert list(decoded)[4:7] == ["messageAttributes", "md5OfMessageAttributes", "md5OfBody"]
    assert decoded["md5OfMessageAttributes"] == "00484c68..."
    assert decoded["messageAttributes"] == {
        "City": {"stringValue": "Wien", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
        "Count": {"stringValue": "3", "stringListValues": [], "binaryListValues": [], "dataType": "Number.int"},
        "Raw": {"binaryValue": "AP8=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
    }


def test_a_dead_letter_is_the_message_and_the_reason() -> None:
    attributes = {
        "City": {"DataType": "String", "StringValue": "Wien"},
        "Raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    dead = shape.dead_letter(record(MessageAttributes=attributes), "too big")
    assert dead == {
        "MessageBody": "Test message.",
        "MessageAttributes": attributes | {"eventfn.reason": {"DataType": "String", "StringValue": "too big"}},
    }


def test_a_dead_letter_without_an_attribute_to_spare_has_no_reason() -> None:
    attributes = {f"a{at}": {"DataType": "String", "StringValue": "x"} for at in range(10)}
    assert shape.dead_letter(record(MessageAttributes=attributes), "too big")["MessageAttributes"] == attributes


def test_a_dead_letter_of_a_fifo_queue_stays_in_its_group() -> None:
    dead = shape.dead_letter(record(Attributes=MESSAGE["Attributes"] | {"MessageGroupId": "g"}), "too big")
    assert (dead["MessageGroupId"], dead["MessageDeduplicationId"]) == ("g", MESSAGE["MessageId"])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("jobs", QueueName("jobs")),
        ("jobs.fifo", QueueName("jobs.fifo")),
        (ARN, QueueName("jobs", "123456789012", "eu-west-1")),
        (
            "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs",
            QueueName("jobs", "123456789012", "eu-west-1", "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"),
        ),
        (
            "https://eu-west-1.queue.amazonaws.com/123456789012/jobs",
            QueueName("jobs", "123456789012", "eu-west-1", "https://eu-west-1.queue.amazonaws.com/123456789012/jobs"),
        ),
        (
            "http://127.0.0.1:9324/000000000000/jobs.fifo",
            QueueName(
                "jobs.fifo",
                "000000000000",
                None,
                "http://127.0.0.1:9324/000000000000/jobs.fifo",
                "http://127.0.0.1:9324",
            ),
        ),
    ],
)
def test_a_queue_is_named_in_three_ways(text: str, name: QueueName) -> None:
    assert QueueName.parse(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "two words",
        "jobs.fifo.fifo",
        ".fifo",
        "jobs.txt",
        "x" * 81,
        "a/b",
        "http://127.0.0.1:9324",
        "http://127.0.0.1:port/0/jobs",
        "http://user@127.0.0.1/0/jobs",
        "http://127.0.0.1/0/jobs?x=1",
        "arn:aws:sns:eu-west-1:123456789012:jobs",
        "arn:aws:sqs:eu-west-1:123456789012:",
        "arn:aws:sqs",
    ],
)
def test_nonsense_names_no_queue(text: str) -> None:
    with pytest.raises(ValueError, match="expected a queue's name, URL or ARN"):
        QueueName.parse(text)

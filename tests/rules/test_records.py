"""What leaves with a settled event: Lambda's shapes, to the key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eventfn.event import Outcome, OutcomeKind
from eventfn.functions.model import Function
from eventfn.rules.lifecycle import Accepted, after_running, before_running
from eventfn.rules.records import BUILT_IN_DEAD_LETTERS, BatchFailure, given_up, leaving
from eventfn.rules.streaming import EXHAUSTED, TOO_LARGE, TOO_OLD
from eventfn.trigger import BatchInfo

NOW = 1_573_755_366_568  # 2019-11-14T18:16:06.568Z
ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
EVENT = Accepted("9b1e", b'{"n": 1}', NOW - 5_000, 3, 3)
SUCCESS = Outcome(OutcomeKind.SUCCESS, b'{"ok":true}')
ERROR = Outcome(
    OutcomeKind.FUNCTION_ERROR, b'{"errorMessage":"no","errorType":"E"}', error_type="E", error_message="no" * 1000
)


def function(**declared: Any) -> Function:
    return Function(name="f", handler="f.h", code="/f", **declared)


def records(outcome: Outcome, declared: Function) -> dict[str, Any]:
    verdict = after_running(EVENT, outcome, declared, NOW)
    return dict(leaving(EVENT, verdict, outcome, declared, ARN, "$LATEST", NOW))


def test_success_record() -> None:
    record = records(SUCCESS, function(on_success="queue:done"))["queue:done"]

    assert json.loads(record.payload) == {
        "version": "1.0",
        "timestamp": "2019-11-14T18:16:06.568Z",
        "requestContext": {
            "requestId": "9b1e",
            "functionArn": f"{ARN}:$LATEST",
            "condition": "Success",
            "approximateInvokeCount": 3,
        },
        "requestPayload": {"n": 1},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": {"ok": True},
    }


def test_failure_record() -> None:
    record = records(ERROR, function(on_failure="queue:bad"))["queue:bad"]
    body = json.loads(record.payload)

    assert body["requestContext"]["condition"] == "RetriesExhausted"
    assert body["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    assert body["responsePayload"] == {"errorMessage": "no", "errorType": "E"}
    assert (record.attributes["eventfn.origin"], record.attributes["eventfn.shape"]) == ("fn:f", "record")


def test_a_dead_letter_is_the_event_itself() -> None:
    record = records(ERROR, function(dead_letter_queue="queue:dead"))["queue:dead"]

    assert record.payload == EVENT.payload
    assert record.attributes["RequestID"] == "9b1e"
    assert record.attributes["ErrorCode"] == "200"
    assert len(record.attributes["ErrorMessage"]) == 1024
    assert record.attributes["eventfn.shape"] == "event"


@pytest.mark.parametrize(
    ("declared", "outcome", "uris"),
    [
        pytest.param({}, SUCCESS, [], id="nobody asked"),
        pytest.param({"on_failure": "queue:bad"}, SUCCESS, [], id="only failures were asked for"),
        pytest.param({"on_success": "queue:done"}, SUCCESS, ["queue:done"], id="success"),
        pytest.param({"on_success": "queue:done"}, ERROR, [BUILT_IN_DEAD_LETTERS], id="never nowhere"),
        pytest.param({"on_failure": "a:", "dead_letter_queue": "b:"}, ERROR, ["a:", "b:"], id="both fire"),
    ],
)
def test_where_records_go(declared: dict[str, Any], outcome: Outcome, uris: list[str]) -> None:
    assert list(records(outcome, function(**declared))) == uris


def test_an_event_that_never_ran_says_so() -> None:
    waiting = Accepted("9b1e", b"{}", NOW, 1, 1)
    blocked = function(reserved_concurrency=0, on_failure="queue:bad")
    verdict = before_running(waiting, blocked, NOW)
    assert verdict is not None
    ((_, record),) = leaving(waiting, verdict, None, blocked, ARN, "$LATEST", NOW)
    body = json.loads(record.payload)

    assert body["requestContext"]["condition"] == "ZeroReservedConcurrency"
    assert body["requestContext"]["approximateInvokeCount"] == 0
    assert "responseContext" not in body
    assert "responsePayload" not in body


def test_a_record_keeps_its_id_over_every_settling() -> None:
    first, second = (records(ERROR, function(on_failure="queue:bad"))["queue:bad"].id for _ in range(2))

    assert first == second


# --- batches of a stream ----------------------------------------------------------------------------------------------

KINESIS = BatchInfo(
    "KinesisBatchInfo",
    {
        "shardId": "shardId-000000000001",
        "startSequenceNumber": "49601189658422359378836298521827638475320189012309704722",
        "endSequenceNumber": "49601189658422359378836298522902373528957594348623495186",
        "approximateArrivalOfFirstRecord": "2019-11-14T00:38:04.835Z",
        "approximateArrivalOfLastRecord": "2019-11-14T00:38:05.580Z",
        "batchSize": 500,
        "streamArn": "arn:aws:kinesis:us-east-1:000000000000:stream/orders",
    },
)
DYNAMODB = BatchInfo(
    "DDBStreamBatchInfo",
    {
        "shardId": "shardId-00000001573689847184-864758bb",
        "startSequenceNumber": "800000000003126276362",
        "endSequenceNumber": "800000000003126276362",
        "approximateArrivalOfFirstRecord": "2019-11-14T00:13:19Z",
        "approximateArrivalOfLastRecord": "2019-11-14T00:13:19Z",
        "batchSize": 1,
        "streamArn": "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/2019-11-14T00:09:53.549",
    },
)
KAFKA = BatchInfo(
    "KafkaBatchInfo",
    {
        "batchSize": 1,
        "eventSourceArn": "arn:aws:kafka:us-east-1:000000000000:cluster/c",
        "bootstrapServers": "a:9092",
        "payloadSize": 7,
        "recordsInfo": {"orders-0": {"batchSize": 1, "payloadSize": 7}},
    },
    exhausted="RetriesExhausted",
)
BATCH = b'{"Records":[{"n": 1}]}'


def failed(**changed: Any) -> BatchFailure:
    values = {
        "id": "e4b1",
        "function_arn": ARN,
        "condition": EXHAUSTED,
        "invokes": 2,
        "outcome": ERROR,
        "info": KINESIS,
        "event": BATCH,
    }
    return BatchFailure(**{**values, **changed})


@pytest.mark.parametrize(
    ("info", "condition"),
    [(KINESIS, EXHAUSTED), (DYNAMODB, EXHAUSTED), (KAFKA, KAFKA.exhausted)],
    ids=["Kinesis", "DynamoDB", "Kafka"],
)
def test_the_record_of_a_batch_that_is_given_up(info: BatchInfo, condition: str) -> None:
    record = given_up(failed(info=info, condition=condition), "sqs:failed", NOW)
    body = json.loads(record.payload)

    assert body == {
        "requestContext": {
            "requestId": "e4b1",
            "functionArn": ARN,
            "condition": condition,
            "approximateInvokeCount": 2,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2019-11-14T18:16:06.568Z",
        info.key: info.info,
    }
    assert list(body) == ["requestContext", "responseContext", "version", "timestamp", info.key]
    assert (record.id, record.attributes["RequestID"]) == ("e4b1", "e4b1")
    assert (record.attributes["eventfn.origin"], record.attributes["eventfn.shape"]) == ("fn:f", "batch")
    assert len(record.attributes["ErrorMessage"]) == 1024


@pytest.mark.parametrize(
    ("uri", "with_payload"),
    [
        ("sqs:failed", False),
        ("sns:failed", False),
        ("arn:aws:sqs:us-east-1:000000000000:failed", False),
        ("arn:aws:sns:us-east-1:000000000000:failed", False),
        ("arn:aws:s3:::bucket", True),
        ("s3://bucket/failed", True),
        ("queue:dead-letters", True),
        ("kafka:failed", True),
        ("file:failed", True),
        ("https://example.org/failed", True),
    ],
)
def test_where_the_records_themselves_go_along(uri: str, with_payload: bool) -> None:
    body = json.loads(given_up(failed(), uri, NOW).payload)

    assert body.get("payload") == (json.loads(BATCH) if with_payload else None)


@pytest.mark.parametrize(
    ("condition", "invokes", "outcome"),
    [
        pytest.param(TOO_OLD, 0, None, id="too old at once"),
        pytest.param(TOO_OLD, 3, ERROR, id="too old after three tries"),
        pytest.param(TOO_LARGE, 0, ERROR, id="too large, behind a batch that failed"),
        pytest.param(TOO_LARGE, 0, SUCCESS, id="too large, behind a batch that did not"),
    ],
)
def test_what_no_answer_was_the_reason_for_has_none(condition: str, invokes: int, outcome: Outcome | None) -> None:
    record = given_up(failed(condition=condition, invokes=invokes, outcome=outcome), "sqs:failed", NOW)
    body = json.loads(record.payload)

    assert "responseContext" not in body
    assert body["requestContext"]["condition"] == condition
    assert body["requestContext"]["approximateInvokeCount"] == invokes
    assert record.attributes["ErrorMessage"] == condition


def test_a_failure_that_was_only_reported_is_no_function_error() -> None:
    record = given_up(failed(outcome=SUCCESS), "sqs:failed", NOW)
    body = json.loads(record.payload)

    assert record.attributes["ErrorMessage"] == EXHAUSTED, "SQS takes no empty attribute"
    assert body["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": None}


@pytest.mark.parametrize(
    "answer",
    [
        b'1,"requestContext":{"functionArn":"forged","condition":"Success"}',
        b'{"a":1}}',
        b"NaN",
        b"\xff",
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_what_a_runtime_posts_that_is_no_json_says_nothing_of_the_record(answer: bytes) -> None:
    record = records(Outcome(OutcomeKind.SUCCESS, answer), function(on_success="queue:done"))["queue:done"]
    body = json.loads(record.payload)
    assert body["requestContext"]["functionArn"] == f"{ARN}:$LATEST"
    assert body["responsePayload"] == answer.decode(errors="replace")

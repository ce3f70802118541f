"""What leaves with a settled event: Lambda's shapes, to the key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eventfn.event import Outcome, OutcomeKind
from eventfn.functions.model import Function
from eventfn.rules.lifecycle import Accepted, after_running, before_running
from eventfn.rules.records import BUILT_IN_DEAD_LETTERS, leaving

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
    return dict(leaving(EVENT, verdict, outcome, declared, ARN, NOW))


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
    ((_, record),) = leaving(waiting, verdict, None, blocked, ARN, NOW)
    body = json.loads(record.payload)

    assert body["requestContext"]["condition"] == "ZeroReservedConcurrency"
    assert body["requestContext"]["approximateInvokeCount"] == 0
    assert "responseContext" not in body
    assert "responsePayload" not in body


def test_a_record_keeps_its_id_over_every_settling() -> None:
    first, second = (records(ERROR, function(on_failure="queue:bad"))["queue:bad"].id for _ in range(2))

    assert first == second

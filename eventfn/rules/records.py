"""The records that leave when an event is settled: for whom, and in which shape.

PURE. Shapes: Lambda's destination record and its dead letter queue message (contract: Asynchronous invocation).
"""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from eventfn.destination import ORIGIN, SHAPE, OutgoingRecord
from eventfn.event import Outcome
from eventfn.functions.model import Function
from eventfn.rules.lifecycle import Accepted, Verdict
from eventfn.rules.streaming import NO_EVENT, TOO_OLD
from eventfn.trigger import BatchInfo

BUILT_IN_DEAD_LETTERS = "queue:dead-letters"  # for functions that declare neither on_failure nor dead_letter_queue
MAX_ERROR_MESSAGE = 1024  # bytes of the ErrorMessage attribute


class _RequestContext(msgspec.Struct, rename="camel"):
    request_id: str
    function_arn: str
    condition: str
    approximate_invoke_count: int


class _ResponseContext(msgspec.Struct, rename="camel", omit_defaults=True):
    status_code: int | None = None
    executed_version: str | None = None
    function_error: str | None = None


class _DestinationRecord(msgspec.Struct, rename="camel"):
    version: str
    timestamp: str
    request_context: _RequestContext
    request_payload: msgspec.Raw
    response_context: _ResponseContext | msgspec.UnsetType = msgspec.UNSET
    response_payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_encode = msgspec.json.Encoder().encode


def leaving(
    event: Accepted,
    verdict: Verdict,
    outcome: Outcome | None,
    function: Function | None,
    arn: str,
    version: str,
    now: int,
) -> list[tuple[str, OutgoingRecord]]:
    """(destination URI, record) for each record that leaves with this verdict; [] while the event stays.

    `arn` has the qualifier that the event came in with, if any, and `version` is what ran. `outcome` is the last
    attempt's, None when this claim did not run. The ids are the same whenever the same event is settled the same way,
    so an idempotent destination sees each record once.
    """
    on_success = function.on_success if function and verdict.success else None
    if verdict.condition is None or (verdict.success and on_success is None):
        return []
    reference = _reference(arn)
    qualified = arn if ":" in reference else f"{arn}:$LATEST"
    record = _destination_record(event, verdict, outcome, qualified, version, now)
    attributes = {ORIGIN: f"fn:{reference}", SHAPE: "record", "RequestID": event.request_id}
    if on_success is not None:
        return [(on_success, OutgoingRecord(f"{event.request_id}-on-success", record, attributes))]

    attributes |= {"ErrorCode": "200" if outcome else "500", "ErrorMessage": _error_message(verdict, outcome)}
    on_failure = function.on_failure if function else None
    dead_letter_queue = function.dead_letter_queue if function else None
    if on_failure is None and dead_letter_queue is None:
        on_failure = BUILT_IN_DEAD_LETTERS
    records: list[tuple[str, OutgoingRecord]] = []
    if on_failure is not None:
        records.append((on_failure, OutgoingRecord(f"{event.request_id}-on-failure", record, attributes)))
    if dead_letter_queue is not None:
        attributes = attributes | {SHAPE: "event"}
        dead_letter = OutgoingRecord(f"{event.request_id}-dead-letter", event.payload, attributes)
        records.append((dead_letter_queue, dead_letter))
    return records


def _reference(arn: str) -> str:
    """ "name" or "name:qualifier", of a function's ARN, or of what is one already."""
    return arn.partition(":function:")[2] or arn


def _destination_record(
    event: Accepted, verdict: Verdict, outcome: Outcome | None, arn: str, version: str, now: int
) -> bytes:
    record = _DestinationRecord(
        version="1.0",
        timestamp=iso(now),
        request_context=_RequestContext(
            request_id=event.request_id,
            function_arn=arn,
            condition=verdict.condition or "",
            # The claim that only found the event too old, or blocked, ran nothing.
            approximate_invoke_count=event.attempts if outcome else event.attempts - 1,
        ),
        request_payload=msgspec.Raw(event.payload),
    )
    if outcome is not None:
        record.response_context = _ResponseContext(200, version, None if outcome.ok else "Unhandled")
        record.response_payload = _json(outcome.payload or b"null")
    return _encode(record)


def _json(answer: bytes) -> msgspec.Raw:
    """An answer as a part of a record. A runtime may post anything: what is no JSON is told as a text, and so says
    nothing of the record itself."""
    try:
        answer.decode()
        msgspec.json.decode(answer, type=msgspec.Raw)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return msgspec.Raw(_encode(answer.decode(errors="replace")))
    return msgspec.Raw(answer)


class BatchFailure(msgspec.Struct, frozen=True):
    """A batch of a shard that is given up: what its on-failure record is made of."""

    id: str  # the same however often it is made
    function_arn: str
    condition: str
    invokes: int
    outcome: Outcome | None  # of the last invocation, or why there was none; None: it was too old to be invoked with
    info: BatchInfo
    event: bytes  # what the function was, or would have been, invoked with


# Lambda leaves the records out where the other side is an SQS queue or an SNS topic: too small for a batch.
_TOO_SMALL = ("sqs:", "sns:", "arn:aws:sqs:", "arn:aws:sns:")


def given_up(failure: BatchFailure, uri: str, now: int) -> OutgoingRecord:
    """The record for the destination `uri`. Elsewhere than in SQS and SNS the events themselves go with it, under
    "payload": what was given up must not be gone when its stream forgets it."""
    # An outcome that is not why it is given up is another batch's, or an earlier one's.
    outcome = failure.outcome if failure.invokes > 0 and failure.condition not in (TOO_OLD, NO_EVENT) else None
    record: dict[str, Any] = {
        "requestContext": _RequestContext(failure.id, failure.function_arn, failure.condition, failure.invokes),
    }
    if outcome is not None:
        error = None if outcome.ok else "Unhandled"
        record["responseContext"] = {"statusCode": 200, "executedVersion": "$LATEST", "functionError": error}
    record |= {"version": "1.0", "timestamp": iso(now), failure.info.key: failure.info.info}
    if not uri.startswith(_TOO_SMALL):
        record["payload"] = msgspec.Raw(failure.event)
    attributes = {
        ORIGIN: f"fn:{_reference(failure.function_arn)}",
        SHAPE: "batch",
        "RequestID": failure.id,
        "ErrorCode": "200",
    }
    why = failure.outcome if failure.condition == NO_EVENT else outcome
    text = (why.error_message or why.error_type) if why is not None else None
    attributes["ErrorMessage"] = _cut(text or failure.condition)  # SQS takes no empty one
    return OutgoingRecord(failure.id, _encode(record), attributes)


def _error_message(verdict: Verdict, outcome: Outcome | None) -> str:
    text = (outcome.error_message or outcome.error_type or "") if outcome else verdict.on.value
    return _cut(text)


def _cut(text: str) -> str:
    return text.encode()[:MAX_ERROR_MESSAGE].decode(errors="ignore")


def iso(ms: int) -> str:
    """2019-11-14T18:16:05.568Z"""
    moment = datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"

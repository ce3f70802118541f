"""Which entries of PutEvents become events, row by row."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from eventfn_bus.entries import BadEntry, BadRequest, entries_of, event_of
from eventfn_bus.events import Home
from eventfn_bus.events import event_of as event_of_message

HOME = Home("eu-central-1", "123456789012")
BUSES = ("default", "orders")
NOW = 1_447_277_394_999
GOOD = {"Source": "shop", "DetailType": "OrderPlaced", "Detail": '{"id": 1}'}


def put(**entry: Any) -> tuple[str, dict[str, Any]]:
    given = {key: value for key, value in (GOOD | entry).items() if value is not None}
    (read,) = entries_of(msgspec.json.encode({"Entries": [given]}))
    bus, event = event_of(read, "id-1", NOW, BUSES, HOME)
    return bus, msgspec.json.decode(msgspec.json.encode(event))


def test_an_entry_becomes_an_event() -> None:
    assert put() == (
        "default",
        {
            "version": "0",
            "id": "id-1",
            "detail-type": "OrderPlaced",
            "source": "shop",
            "account": "123456789012",
            "time": "2015-11-11T21:29:54Z",
            "region": "eu-central-1",
            "resources": [],
            "detail": {"id": 1},
        },
    )


@pytest.mark.parametrize(
    ("given", "bus"),
    [
        (None, "default"),
        ("orders", "orders"),
        ("arn:aws:events:eu-central-1:123456789012:event-bus/orders", "orders"),
    ],
)
def test_its_bus(given: str | None, bus: str) -> None:
    assert put(EventBusName=given)[0] == bus


def test_its_detail_stays_as_it_was_written() -> None:
    (read,) = entries_of(
        msgspec.json.encode({"Entries": [GOOD | {"Detail": '{ "n": 1.10, "n": 12345678901234567890 }'}]})
    )
    _, event = event_of(read, "id-1", NOW, BUSES, HOME)
    assert b'"detail":{ "n": 1.10, "n": 12345678901234567890 }' in msgspec.json.encode(event)


@pytest.mark.parametrize("time", [0, 0.25, 1_447_277_394, 1_447_277_394.25])
def test_its_time_and_resources(time: float) -> None:
    _, event = put(Time=time, Resources=["arn:a", "b"], TraceHeader="Root=1")
    assert event["time"] == ("1970-01-01T00:00:00Z" if time < 1 else "2015-11-11T21:29:54Z")
    assert event["resources"] == ["arn:a", "b"]


@pytest.mark.parametrize(
    ("entry", "code", "message"),
    [
        (
            {"Source": None},
            "InvalidArgument",
            "Parameter Source is not valid. Reason: Source is a required argument.",
        ),
        (
            {"Source": ""},
            "InvalidArgument",
            "Parameter Source is not valid. Reason: Source is a required argument.",
        ),
        (
            {"DetailType": None},
            "InvalidArgument",
            "Parameter DetailType is not valid. Reason: DetailType is a required argument.",
        ),
        (
            {"Detail": None},
            "InvalidArgument",
            "Parameter Detail is not valid. Reason: Detail is a required argument.",
        ),
        ({"Detail": "{broken"}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": "[1]"}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": '"text"'}, "MalformedDetail", "Detail is malformed."),
        ({"Detail": "[" * 100_000}, "MalformedDetail", "Detail is malformed."),
        ({"Source": "aws.ec2"}, "NotAuthorizedForSourceException", "Not authorized for the source."),
        ({"EventBusName": "nowhere"}, "ResourceNotFoundException", "Event bus nowhere does not exist."),
        ({"Time": -1}, "InvalidArgument", "Parameter Time is not valid. Reason: Time is out of range."),
        ({"Time": 1e300}, "InvalidArgument", "Parameter Time is not valid. Reason: Time is out of range."),
    ],
)
def test_an_entry_that_is_refused(entry: dict[str, Any], code: str, message: str) -> None:
    with pytest.raises(BadEntry) as refused:
        put(**entry)
    assert (refused.value.code, str(refused.value)) == (code, message)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"{", "SerializationException", "truncated"),
        (b'{"Entries": 5}', "SerializationException", "array"),
        (b'{"Entries": [{"Source": 5}]}', "SerializationException", "str"),
        (b"{}", "ValidationException", "Value null at 'entries'"),
        (b'{"Entries": []}', "ValidationException", "length greater than or equal to 1"),
        (msgspec.json.encode({"Entries": [GOOD] * 11}), "ValidationException", "length less than or equal to 10"),
        (
            msgspec.json.encode({"Entries": [GOOD | {"Detail": '{"a": "%s"}' % ("x" * 131_072)}] * 2}),
            "ValidationException",
            "Total size of the entries in the request is over the limit.",
        ),
    ],
)
def test_a_request_that_is_refused(body: bytes, code: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message) as refused:
        entries_of(body)
    assert refused.value.code == code


# --- what else becomes an event ---------------------------------------------------------------------------------------

ARN = "arn:aws:lambda:eu-central-1:123456789012:function:shop:$LATEST"
ENVELOPE = put()[1]


def of(value: Any, record_id: str = "r-1") -> dict[str, Any]:
    return event_of_message(msgspec.json.encode(value), record_id, NOW, "orders", HOME)[0]


@pytest.mark.parametrize(
    ("condition", "detail_type"),
    [
        ("Success", "Lambda Function Invocation Result - Success"),
        ("RetriesExhausted", "Lambda Function Invocation Result - Failure"),
        ("EventAgeExceeded", "Lambda Function Invocation Result - Failure"),
    ],
)
def test_a_functions_record_becomes_an_event(condition: str, detail_type: str) -> None:
    record = {"version": "1.0", "requestContext": {"functionArn": ARN, "condition": condition}, "requestPayload": 1}
    event = of(record)
    assert event == {
        "version": "0",
        "id": event["id"],
        "detail-type": detail_type,
        "source": "lambda",
        "account": "123456789012",
        "time": "2015-11-11T21:29:54Z",
        "region": "eu-central-1",
        "resources": ["arn:aws:events:eu-central-1:123456789012:event-bus/orders", ARN],
        "detail": record,
    }
    assert of(record)["id"] == event["id"] != of(record, "r-2")["id"]


def test_an_event_is_taken_as_it_is() -> None:
    payload = msgspec.json.format(msgspec.json.encode(ENVELOPE), indent=2)
    assert event_of_message(payload, "r-1", 0, "orders", HOME) == (ENVELOPE, payload)


def test_an_entry_of_put_events_is_taken_as_one() -> None:
    event = of(GOOD | {"Resources": ["arn:a"], "EventBusName": "elsewhere"})
    assert event == ENVELOPE | {"id": event["id"], "resources": ["arn:a"]}
    broken = GOOD | {"Detail": "no JSON"}
    assert of(broken)["detail"] == broken


def test_any_other_object_is_a_detail() -> None:
    event = of({"free": "form", "id": "x"})
    assert (event["source"], event["detail-type"], event["detail"]) == (
        "eventfn",
        "Record",
        {"free": "form", "id": "x"},
    )


@pytest.mark.parametrize("value", [None, 5, "text", [1]])
def test_what_is_no_object_is_no_event(value: Any) -> None:
    with pytest.raises(ValueError, match="it is not a JSON object"):
        of(value)

"""From path, query, headers and body to an operation's input."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from eventfn.api.errors import ApiError
from eventfn.api.inputs import of_message, of_target
from eventfn.api.service_model import service_model

MODEL = service_model()


def parsed(
    operation: str,
    body: bytes = b"",
    labels: dict[str, str] | None = None,
    query: dict[str, list[str]] | None = None,
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    found = MODEL.operations[operation]
    known = {label: "x" for label in ("FunctionName", "Name", "Resource", "LayerName") if f"{{{label}}}" in found.path}
    target = of_target(MODEL, found, {**known, **(labels or {})}, query or {})
    return {**target, **of_message(MODEL, found, headers or {}, body)}


def test_each_place_is_read_in_its_type() -> None:
    code = base64.b64encode(b"\x00zip").decode()
    body = f'{{"ZipFile": "{code}", "Publish": true, "S3Key": null, "Unknown": [1], "RevisionId": "r"}}'
    given = parsed("UpdateFunctionCode", body.encode(), {"FunctionName": "f:1"})
    assert given == {"FunctionName": "f:1", "ZipFile": b"\x00zip", "Publish": True, "RevisionId": "r"}
    given = parsed("ListFunctions", query={"MaxItems": ["7"], "Marker": ["a", "b"], "other": ["x"]})
    assert given == {"MaxItems": 7, "Marker": "b"}
    given = parsed("UntagResource", query={"tagKeys": ["a", "b"]})
    assert given == {"Resource": "x", "TagKeys": ["a", "b"]}
    given = parsed("Invoke", b"\xff raw", headers={"X-Amz-Log-Type": "Tail"})
    assert given == {"FunctionName": "x", "Payload": b"\xff raw", "LogType": "Tail"}
    given = parsed("GetLayerVersion", labels={"VersionNumber": "3"})
    assert given == {"LayerName": "x", "VersionNumber": 3}


@pytest.mark.parametrize("text", ["1763726400", "1763726400.0", '"2025-11-21T12:00:00Z"', '"2025-11-21T12:00:00"'])
def test_times_are_seconds_of_the_epoch(text: str) -> None:
    body = f'{{"StartingPositionTimestamp": {text}}}'.encode()
    assert parsed("CreateEventSourceMapping", body) == {"StartingPositionTimestamp": 1763726400.0}


def test_structures_lists_and_maps_are_read_to_their_end() -> None:
    body = b"""{"Environment": {"Variables": {"A": "1"}, "More": 1}, "Layers": ["a", null],
        "FileSystemConfigs": [{"Arn": "x", "LocalMountPath": null}], "Timeout": 3.0}"""
    assert parsed("UpdateFunctionConfiguration", body) == {
        "FunctionName": "x",
        "Environment": {"Variables": {"A": "1"}},
        "Layers": ["a", None],
        "FileSystemConfigs": [{"Arn": "x"}],
        "Timeout": 3,
    }


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"{", "InvalidRequestContentException", "Could not parse request body into json: "),
        (b'{"a": "\xff"}', "InvalidRequestContentException", "Could not parse request body into json: "),
        (b'{"Tags":' * 5_000, "InvalidRequestContentException", "Could not parse request body into json: "),
        (b"[]", "SerializationException", "Unexpected field type"),
        (b"null", "SerializationException", "Unexpected field type"),
        (b'{"Handler": 1}', "SerializationException", "NUMBER_VALUE can not be converted to a String"),
        (b'{"Handler": true}', "SerializationException", "TRUE_VALUE can not be converted to a String"),
        (b'{"Timeout": "3"}', "SerializationException", "STRING_VALUE can not be converted to an Integer"),
        (b'{"Timeout": 1.5}', "SerializationException", "NUMBER_VALUE can not be converted to an Integer"),
        (b'{"Timeout": 2147483648}', "SerializationException", "NUMBER_VALUE can not be converted to an Integer"),
        (b'{"Timeout": false}', "SerializationException", "FALSE_VALUE can not be converted to an Integer"),
        (b'{"Timeout": []}', "SerializationException", "Start of structure or map found where not expected."),
        (b'{"Environment": "A=1"}', "SerializationException", "Unexpected field type"),
        (b'{"Layers": {}}', "SerializationException", "Start of structure or map found where not expected."),
        (b'{"Layers": [1]}', "SerializationException", "NUMBER_VALUE can not be converted to a String"),
        (b'{"Publish": 1}', "SerializationException", "NUMBER_VALUE can not be converted to a Boolean"),
        (b'{"Code": {"ZipFile": "%"}}', "SerializationException", "STRING_VALUE can not be converted to a Blob"),
    ],
)
def test_what_is_not_of_its_type_is_refused(body: bytes, code: str, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        parsed("CreateFunction", body)
    assert (caught.value.status, caught.value.code) == (400, code)
    told = caught.value.body.get("Message") or caught.value.body.get("message")
    assert str(told).startswith(message)


@pytest.mark.parametrize("text", ["x", "", "1.5", "١", "-", "99999999999999999999", "2147483648"])
def test_a_number_in_a_query_is_one(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        parsed("ListFunctions", query={"MaxItems": [text]})
    assert caught.value.code == "SerializationException"

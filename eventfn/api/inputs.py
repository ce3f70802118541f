"""From a request's path, query, headers and body to an operation's input, with the service model's types.

PURE: text and bytes in, a dict out. Not here: what a value may be (validation), which operation it is (router).
Source of the texts of errors: recorded answers of services of the same protocol (rest-json).
"""

from __future__ import annotations

import base64
import binascii
import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from eventfn.api.errors import invalid_content, serialization
from eventfn.api.service_model import Operation, ServiceModel, Shape

_BITS = {"integer": 31, "long": 63}
_A_TYPE = {
    "integer": "an Integer",
    "long": "a Long",
    "double": "a Double",
    "boolean": "a Boolean",
    "string": "a String",
    "timestamp": "a Timestamp",
    "blob": "a Blob",
}


def of_target(
    model: ServiceModel, operation: Operation, labels: Mapping[str, str], query: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What the path and the query say of the input. What the model does not have is dropped, here and below, as Lambda
    does. Raises ApiError for what is not of the member's type."""
    given: dict[str, Any] = {}
    for name, member in model.shapes[operation.input].members.items():
        kind, key = model.shapes[member.shape], member.location_name or name
        if member.location == "uri":
            given[name] = _from_text(kind, labels[key])
        elif member.location == "querystring" and key in query:
            given[name] = _from_query(model, kind, query[key])
    return given


def of_message(model: ServiceModel, operation: Operation, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """What the headers and the body say. A member that was not sent, or sent as null, is not in it. Raises ApiError for
    what is no JSON or not of the member's type."""
    shape = model.shapes[operation.input]
    given: dict[str, Any] = {}
    if shape.payload is not None:
        kind = model.shapes[shape.members[shape.payload].shape]
        if kind.type == "blob":
            given[shape.payload] = body
        elif body:
            given[shape.payload] = _from_json(model, kind, _object(body))
    elif body and any(member.location is None for member in shape.members.values()):
        fields = _object(body)
        for name, member in shape.members.items():
            if member.location is None and fields.get(name) is not None:
                given[name] = _from_json(model, model.shapes[member.shape], fields[name])
    for name, member in shape.members.items():
        if member.location == "header" and (text := headers.get(member.location_name or name)) is not None:
            given[name] = _from_text(model.shapes[member.shape], text)
    return given


def _from_query(model: ServiceModel, shape: Shape, texts: Sequence[str]) -> Any:
    if shape.type != "list":
        return _from_text(shape, texts[-1])
    assert shape.member is not None
    return [_from_text(model.shapes[shape.member.shape], text) for text in texts]


def _object(body: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_content(f"Could not parse request body into json: {error}") from error
    if not isinstance(decoded, dict):
        raise serialization("Unexpected field type")
    return cast("dict[str, Any]", decoded)


def _from_json(model: ServiceModel, shape: Shape, value: Any) -> Any:
    """`value`, as decoded from JSON, as the type of `shape`; what is null within stays None in lists and maps."""
    match shape.type:
        case "structure" if isinstance(value, dict):
            fields = cast("dict[str, Any]", value)
            return {
                name: _from_json(model, model.shapes[member.shape], fields[name])
                for name, member in shape.members.items()
                if fields.get(name) is not None
            }
        case "list" if isinstance(value, list):
            assert shape.member is not None
            item, items = model.shapes[shape.member.shape], cast(Any, value)
            return [None if inner is None else _from_json(model, item, inner) for inner in items]
        case "map" if isinstance(value, dict):
            assert shape.value is not None
            item, fields = model.shapes[shape.value.shape], cast("dict[str, Any]", value)
            return {key: None if inner is None else _from_json(model, item, inner) for key, inner in fields.items()}
        case "string" if isinstance(value, str):
            return value
        case "boolean" if isinstance(value, bool):
            return value
        case "integer" | "long" if _is_whole(value) and abs(int(value)) >> _BITS[shape.type] == 0:
            return int(value)
        case "double" if _is_number(value):
            return _finite(value)
        case "timestamp" if _is_number(value):
            return _finite(value)
        case "timestamp" if isinstance(value, str):
            return _instant(value)
        case "blob" if isinstance(value, str):
            return _blob(value)
        case _:
            raise _unexpected(shape, value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and (isinstance(value, int) or value.is_integer())


def _unexpected(shape: Shape, value: Any) -> Exception:
    if isinstance(value, dict | list):
        return serialization("Start of structure or map found where not expected.")
    if shape.type in ("structure", "list", "map"):
        return serialization("Unexpected field type")
    is_a = "STRING_VALUE" if isinstance(value, str) else "NUMBER_VALUE"
    if isinstance(value, bool):
        is_a = "TRUE_VALUE" if value else "FALSE_VALUE"
    return serialization(f"{is_a} can not be converted to {_A_TYPE[shape.type]}")


def _from_text(shape: Shape, text: str) -> Any:
    """A value of a path, a query or a header."""
    match shape.type:
        case "boolean" if text.lower() in ("true", "false"):
            return text.lower() == "true"
        case "integer" | "long":
            digits = text.removeprefix("-")
            if digits.isascii() and digits.isdigit() and len(digits) < 20 and abs(int(text)) >> _BITS[shape.type] == 0:
                return int(text)
        case "timestamp":
            return _instant(text)
        case "string":
            return text
        case _:
            pass
    raise _unexpected(shape, text)


def _finite(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise serialization("NUMBER_VALUE can not be converted to a Double")
    return number


def _instant(text: str) -> float:
    """Epoch seconds of a number or of ISO 8601; without a zone it is UTC."""
    try:
        return _finite(float(text))
    except ValueError:
        pass
    try:
        instant = datetime.datetime.fromisoformat(text)
        return (instant if instant.tzinfo else instant.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise serialization("STRING_VALUE can not be converted to a Timestamp") from error


def _blob(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise serialization("STRING_VALUE can not be converted to a Blob") from error

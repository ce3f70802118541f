"""Lambda's API as data: operations, their places on the wire, and the shapes of what they take, with constraints.

Source: Lambda's public service model 2015-03-31 without its texts, service_model.json, which
`python -m tests.api.derive_service_model` writes. Belongs here: reading it. Not here: applying it (router, inputs,
validation).
"""

from __future__ import annotations

import functools
import importlib.resources
from typing import Literal

import msgspec


class Member(msgspec.Struct, frozen=True, rename="camel"):
    """One member of a structure. `location_name` is its name there; in a body it is the member's own."""

    shape: str
    location: Literal["uri", "querystring", "header", "statusCode"] | None = None
    location_name: str | None = None


class Fault(msgspec.Struct, frozen=True, rename="camel"):
    """What makes a structure an exception."""

    http_status_code: int
    sender_fault: bool = False


class Shape(msgspec.Struct, frozen=True, rename="camel"):
    """A type. `min` and `max` are of a string's characters, a list's or map's items, a blob's bytes, or a number."""

    type: Literal["structure", "string", "list", "map", "integer", "long", "double", "boolean", "blob", "timestamp"]
    members: dict[str, Member] = {}  # of a structure
    required: tuple[str, ...] = ()
    payload: str | None = None  # the member that is the whole body
    member: Member | None = None  # of a list
    key: Member | None = None  # of a map
    value: Member | None = None
    min: float | None = None
    max: float | None = None
    pattern: str | None = None
    enum: tuple[str, ...] = ()
    sensitive: bool = False  # an error does not repeat it
    error: Fault | None = None


class Operation(msgspec.Struct, frozen=True):
    """`path` is the template: literal segments, {labels}, and the query that it must have ("?List=ALL")."""

    name: str
    method: str
    path: str
    status: int
    input: str
    output: str | None = None
    deprecated: bool = False


class ServiceModel(msgspec.Struct, frozen=True):
    operations: dict[str, Operation]
    shapes: dict[str, Shape]

    def input_of(self, operation: str) -> Shape:
        return self.shapes[self.operations[operation].input]


@functools.cache
def service_model() -> ServiceModel:
    text = importlib.resources.files("eventfn.api").joinpath("service_model.json").read_bytes()
    return msgspec.json.decode(text, type=ServiceModel)

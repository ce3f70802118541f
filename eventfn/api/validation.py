"""What the service model allows in an input, in the words in which Lambda refuses the rest.

PURE: a table of constraints in, texts out. Recorded phrases: Lambda's own answers. Not here: types (inputs), what
needs more than the input to decide (each resource).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, cast

from eventfn.api.errors import validation
from eventfn.api.service_model import Member, Operation, ServiceModel, Shape

# A bad runtime has an error of its own, with another code and other words: the function's.
_ELSEWHERE = frozenset({("CreateFunctionRequest", "Runtime"), ("UpdateFunctionConfigurationRequest", "Runtime")})

# Where recorded answers have another order than the model.
_ORDER = {"RecursiveLoop": ("Terminate", "Allow")}

_NOT_NULL = "Member must not be null"

# Java's classes of characters, which the patterns are written for.
_SEPARATORS = "\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def validate(model: ServiceModel, operation: Operation, given: Mapping[str, Any], right: Container[str] = ()) -> None:
    """Raises ApiError (ValidationException) with everything that is wrong, what stands in the query first. Members in
    `right` are known to be."""
    shape = model.shapes[operation.input]
    found = {
        name: broken
        for name in shape.members
        if (name in given or name in shape.required)
        and name not in right
        and (broken := list(_member(model, operation.input, shape, name, given, "")))
    }
    if found:
        query = [name for name in found if shape.members[name].location == "querystring"]
        in_order = [*query, *(name for name in found if name not in query)]
        raise validation([violation for name in in_order for violation in found[name]])


def unbound(model: ServiceModel, operation: Operation) -> Iterator[str]:
    """The members of its input that may have any value of their type."""
    for name, member in model.shapes[operation.input].members.items():
        shape = model.shapes[member.shape]
        scalar = shape.type not in ("structure", "list", "map")
        if scalar and not any(_constraints(member.shape, shape)) and name not in model.shapes[operation.input].required:
            yield name


def _member(
    model: ServiceModel, owner: str, shape: Shape, name: str, given: Mapping[str, Any], path: str
) -> Iterator[str]:
    """The violations of one member of a structure and of all in it."""
    here = f"{path}{name[0].lower()}{name[1:]}"
    value, kind = given.get(name), shape.members[name].shape
    if value is None:
        if name in shape.required:
            yield _violation("null", here, _NOT_NULL)
    elif (owner, name) not in _ELSEWHERE:
        yield from _value(model, kind, value, here)


def _value(model: ServiceModel, kind: str, value: Any, path: str) -> Iterator[str]:
    shape = model.shapes[kind]
    for broken in _broken(kind, shape, value):
        yield _violation("" if shape.sensitive else _quoted(value), path, broken)
    match shape.type:
        case "structure":
            for name in shape.members:
                yield from _member(model, kind, shape, name, value, f"{path}.")
        case "list":
            assert shape.member is not None
            yield from _items(model, shape.member, value, path, value, "Member")
        case "map":
            assert shape.key is not None
            assert shape.value is not None
            yield from _items(model, shape.key, list(value), path, value, "Map keys")
            yield from _items(model, shape.value, list(value.values()), path, value, "Map value")
        case _:
            pass


def _items(
    model: ServiceModel, member: Member, values: Sequence[Any], path: str, whole: Any, subject: str
) -> Iterator[str]:
    """A scalar among others is refused with all of its constraints and the whole collection; a structure by its own
    members."""
    shape = model.shapes[member.shape]
    if shape.type in ("structure", "list", "map"):
        for place, value in enumerate(values, 1):
            if value is None:
                yield _violation("null", f"{path}.{place}.member", _NOT_NULL)
            else:
                yield from _value(model, member.shape, value, f"{path}.{place}.member")
    elif any(value is None or any(_broken(member.shape, shape, value)) for value in values):
        constraints = ", ".join([*_constraints(member.shape, shape), _NOT_NULL])
        told = "" if shape.sensitive else _quoted(whole)
        yield _violation(told, path, f"{subject} must satisfy constraint: [{constraints}]")


def _broken(kind: str, shape: Shape, value: Any) -> Iterator[str]:
    """The phrases of the constraints of `shape` itself that `value` breaks."""
    size = value if shape.type in ("integer", "long", "double") else None
    if size is None and shape.type in ("string", "list", "map", "blob"):
        size = len(value)
    if size is not None and shape.max is not None and size > shape.max:
        yield _most(shape)
        return  # nothing is matched against a pattern that may be any size
    if size is not None and shape.min is not None and size < shape.min:
        yield _least(shape)
    if shape.pattern is not None and not _compiled(shape.pattern).fullmatch(value):
        yield f"Member must satisfy regular expression pattern: {shape.pattern}"
    if shape.enum and value not in shape.enum:
        yield _one_of(kind, shape)


def _constraints(kind: str, shape: Shape) -> Iterator[str]:
    """All phrases of `shape` itself, in the order in which recorded answers have them."""
    if shape.max is not None:
        yield _most(shape)
    if shape.min is not None:
        yield _least(shape)
    if shape.pattern is not None:
        yield f"Member must satisfy regular expression pattern: {shape.pattern}"
    if shape.enum:
        yield _one_of(kind, shape)


def _most(shape: Shape) -> str:
    return f"Member must have {_measure(shape)} less than or equal to {_number(shape, shape.max)}"


def _least(shape: Shape) -> str:
    return f"Member must have {_measure(shape)} greater than or equal to {_number(shape, shape.min)}"


def _measure(shape: Shape) -> str:
    return "value" if shape.type in ("integer", "long", "double") else "length"


def _number(shape: Shape, bound: float | None) -> str:
    assert bound is not None
    return str(float(bound)) if shape.type == "double" else str(int(bound))


def _one_of(kind: str, shape: Shape) -> str:
    return f"Member must satisfy enum value set: [{', '.join(_ORDER.get(kind, shape.enum))}]"


def _violation(told: str, path: str, constraint: str) -> str:
    return f"Value {told}{' ' if told else ''}at '{path}' failed to satisfy constraint: {constraint}"


def _quoted(value: Any) -> str:
    return f"'{_shown(value)}'"


def _shown(value: Any) -> str:
    """As Java's toString does, which the recorded texts have."""
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value)
        return "{" + ", ".join(f"{key}={_shown(inner)}" for key, inner in entries.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_shown(inner) for inner in cast(Any, value)) + "]"
    if isinstance(value, bytes):
        return f"java.nio.HeapByteBuffer[pos=0 lim={len(value)} cap={len(value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    if r"\p{" not in pattern:
        return re.compile(pattern, re.ASCII)
    return re.compile(pattern.replace(r"\p{L}", r"\w").replace(r"\p{N}", r"\d").replace(r"\p{Z}", _SEPARATORS))

"""What a target gets of an event: all of it, a part (InputPath), something fixed (Input), or a text with places in it
(InputTransformer).

PURE. Compiled once; what comes out is always JSON. Source: Amazon EventBridge, "Input transformation", with its
examples. Where it leaves a question open: a variable whose path is not in the event is an empty text, values are
escaped where they stand inside of quotes, and an object or array there is its JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

import msgspec

from eventfn_bus.events import Event, iso

MAX_PATHS = 100
MAX_TEMPLATE = 8192  # characters

_PATH = re.compile(r"\$(?:\.[^.\[\]\s]+|\[(?:[0-9]{1,9}|\*)\])*")
_STEP = re.compile(r"\.([^.\[\]\s]+)|\[([0-9]+|\*)\]")
_VARIABLE = re.compile(r"[A-Za-z0-9_-]{1,256}")
_PLACE = re.compile(r"<([A-Za-z0-9_.-]{1,256})>")

_ABSENT: Any = msgspec.UNSET

_Step = str | int | None  # a key, an index, or all there are

_encode = msgspec.json.Encoder().encode


class Sight(msgspec.Struct, frozen=True):
    """All that a target may get something of."""

    event: Event
    json: bytes  # the event's
    received_ms: int
    rule_arn: str
    rule_name: str


Input = Callable[[Sight], bytes]


def whole(sight: Sight) -> bytes:
    return sight.json


def constant(value: Any) -> Input:
    encoded = _encode(value)
    return lambda sight: encoded


def part(path: str) -> Input:
    """null where the path is not in the event. Raises ValueError."""
    find = compile_path(path)

    def get(sight: Sight) -> bytes:
        found = find(sight.event)
        return b"null" if found is _ABSENT else _encode(found)

    return get


# --- paths ------------------------------------------------------------------------------------------------------------


def compile_path(path: str) -> Callable[[Any], Any]:
    """`$.detail.items[0].name`, `$.resources[*]`: what it finds in a decoded event, or UNSET. Raises ValueError."""
    if not _PATH.fullmatch(path):
        raise ValueError(f'expected a path such as "$.detail.instance-id" or "$.resources[0]", got {path!r}')
    steps = [_step(name, index) for name, index in _STEP.findall(path)]
    return lambda event: _walk(event, steps, 0)


def _step(name: str, index: str) -> _Step:
    if "*" in (name, index):
        return None
    return name or int(index)


def _walk(value: Any, steps: list[_Step], start: int) -> Any:
    for at in range(start, len(steps)):
        step = steps[at]
        if step is None:
            inside: list[Any] | None = value if _is_list(value) else list(value.values()) if _is_table(value) else None
            if inside is None:
                return _ABSENT
            found = [_walk(each, steps, at + 1) for each in inside]
            return [each for each in found if each is not _ABSENT]
        if isinstance(step, int):
            value = value[step] if _is_list(value) and step < len(value) else _ABSENT
        else:
            value = value.get(step, _ABSENT) if _is_table(value) else _ABSENT
    return value


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_table(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


# --- templates --------------------------------------------------------------------------------------------------------

_Variable = Callable[[Sight], Any]

_PREDEFINED: dict[str, _Variable] = {
    "aws.events.rule-arn": lambda sight: sight.rule_arn,
    "aws.events.rule-name": lambda sight: sight.rule_name,
    "aws.events.event.ingestion-time": lambda sight: iso(sight.received_ms),
    "aws.events.event": lambda sight: {key: value for key, value in sight.event.items() if key != "detail"},
    "aws.events.event.json": lambda sight: msgspec.Raw(sight.json),
}
_AS_JSON_ONLY = ("aws.events.event", "aws.events.event.json")


class _Place(msgspec.Struct, frozen=True):
    name: str
    get: _Variable
    quoted: bool


def template(text: str, paths: Mapping[str, str]) -> Input:
    """Raises ValueError with the key that is wrong: "input_paths_map: ..." or "input_template: ..."."""
    variables = _variables(paths)
    try:
        pieces = _pieces(text, variables)
        _check(pieces)
    except ValueError as error:
        raise ValueError(f"input_template: {error}") from error

    def fill(sight: Sight) -> bytes:
        return b"".join(piece if isinstance(piece, bytes) else _filled(piece, sight) for piece in pieces)

    return fill


def _variables(paths: Mapping[str, str]) -> dict[str, _Variable]:
    if len(paths) > MAX_PATHS:
        raise ValueError(f"input_paths_map: expected at most {MAX_PATHS} variables, got {len(paths)}")
    variables = dict(_PREDEFINED)
    for name, path in paths.items():
        if not _VARIABLE.fullmatch(name) or name.lower().startswith("aws"):
            raise ValueError(
                f"input_paths_map: expected a name of letters, digits, '-' and '_' that is not aws..., got {name!r}"
            )
        try:
            variables[name] = _at(compile_path(path))
        except ValueError as error:
            raise ValueError(f"input_paths_map: {name}: {error}") from error
    return variables


def _at(find: Callable[[Any], Any]) -> _Variable:
    return lambda sight: find(sight.event)


def _pieces(text: str, variables: Mapping[str, _Variable]) -> list[bytes | _Place]:
    """The template's own text and the places in it, in turn."""
    if not 1 <= len(text) <= MAX_TEMPLATE:
        raise ValueError(f"expected 1 to {MAX_TEMPLATE} characters, got {len(text)}")
    pieces: list[bytes | _Place] = []
    end, quoted = 0, False
    for place in _PLACE.finditer(text):
        before = text[end : place.start()]
        pieces.append(before.encode())
        quoted ^= _quotes(before) % 2 == 1
        if place[1] not in variables:
            raise ValueError(f"<{place[1]}> is no variable: define it in input_paths_map")
        if quoted and place[1] in _AS_JSON_ONLY:
            raise ValueError(f"<{place[1]}> is JSON and cannot stand inside of quotes")
        pieces.append(_Place(place[1], variables[place[1]], quoted))
        end = place.end()
    pieces.append(text[end:].encode())
    return pieces


def _quotes(text: str) -> int:
    """How many quotes begin or end a text: those that are not escaped."""
    return sum(1 for quote in re.findall(r'\\.|(")', text) if quote)


def _check(pieces: list[bytes | _Place]) -> None:
    """The template is JSON once its places are filled, and none of them is an object's key."""
    mark = "\N{REPLACEMENT CHARACTER}"  # behind a backslash it is no JSON, as a place there would be
    sample = b"".join(
        piece if isinstance(piece, bytes) else _encode(mark)[1:-1] if piece.quoted else b"null" for piece in pieces
    )
    try:
        found = msgspec.json.decode(sample)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(
            f"it is not JSON ({error}); a text needs quotes: input_template = '\"hello <name>\"'"
        ) from error
    stack = [found]
    while stack:
        value = stack.pop()
        if _is_table(value):
            if any(mark in key for key in value):
                raise ValueError("a variable cannot be the key of an object")
            stack += value.values()
        elif _is_list(value):
            stack += value


def _filled(place: _Place, sight: Sight) -> bytes:
    value = place.get(sight)
    if value is _ABSENT:
        value = ""
    if not place.quoted:
        return _encode(value)
    text = value if isinstance(value, str) else _encode(value).decode()
    return _encode(text)[1:-1]

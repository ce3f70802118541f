"""EventBridge's event patterns, compiled: what a bus routes by, and what Lambda's FilterCriteria are made of.

    {"detail": {"kind": ["order", {"prefix": "re"}], "total": [{"numeric": [">", 100]}]}}

A pattern is an object. Its keys are ANDed; a leaf is a list of matchers, ORed. Patterns are compiled once into nested
tests of a decoded value. Source of the grammar and of the reasons in errors: EventBridge's "Event pattern is not valid.
Reason: ...".

PURE, and part of the contract: a connector that routes by patterns imports this. What a filter sees of a record, and
where the record's data is: rules/filters.py.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
from typing import Any, TypeGuard

import msgspec

MAX_PATTERN_LENGTH = 4096  # characters of its JSON
MAX_COMBINATIONS = 1000  # of the branches of all "$or"
MAX_NUMBER = 5e9  # numeric compares within ±5e9 ...
DECIMALS = 6  # ... to six decimals

Test = Callable[[Any], bool]
AtRoot = Callable[[str, Any, Test], Test]

ABSENT: Any = msgspec.UNSET  # what a test is given for a key that is not there


class Pattern:
    """One compiled pattern."""

    def __init__(self, test: Test) -> None:
        self._test = test

    def matches(self, event: Any) -> bool:
        """Whether a decoded event matches."""
        return self._test(event)


def compile_pattern(pattern: Any, at_root: AtRoot | None = None) -> Pattern:
    """`at_root(key, pattern, test)` makes another test of what is the test of a key at the root of the event.

    Raises ValueError with EventBridge's reason.
    """
    if not _is_object(pattern):
        raise ValueError("Filter is not an object")
    if len(msgspec.json.encode(pattern)) > MAX_PATTERN_LENGTH:
        raise ValueError(f"a pattern has at most {MAX_PATTERN_LENGTH} characters")
    if _combinations(pattern) > MAX_COMBINATIONS:
        raise ValueError(f"the alternatives of $or make more than {MAX_COMBINATIONS} combinations")
    return Pattern(_object(pattern, at_root))


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_array(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# --- objects and keys -------------------------------------------------------------------------------------------------


def _object(pattern: dict[str, Any], at_root: AtRoot | None = None) -> Test:
    if not pattern:
        raise ValueError("Empty objects are not allowed")
    tests = [_either(value, at_root) if key == "$or" else _field(key, value, at_root) for key, value in pattern.items()]

    def test(value: Any) -> bool:
        # In an array of objects all keys must match within one element. What is no object has none of the keys,
        # which is all that {"exists": false} asks for.
        objects: list[Any] = [each for each in _flat(value) if _is_object(each)] or [{}]
        return any(all(matches(each) for matches in tests) for each in objects)

    return test


def _field(key: str, pattern: Any, at_root: AtRoot | None) -> Test:
    matches = _value(key, pattern)
    if at_root is not None:
        matches = at_root(key, pattern, matches)
    head, dot, rest = key.partition(".")
    if not dot:
        return lambda event: matches(event.get(key, ABSENT))
    nested = _field(head, {rest: pattern}, at_root)
    # A dotted key means nesting; an event that really has a key with a dot is taken at its word.
    return lambda event: matches(event[key]) if key in event else nested(event)


def _value(key: str, pattern: Any) -> Test:
    if _is_object(pattern):
        return _object(pattern)
    if _is_array(pattern):
        return _leaf(pattern)
    raise ValueError(f'"{key}" must be an object or an array')


def _either(branches: Any, at_root: AtRoot | None) -> Test:
    if not _is_or(branches):
        raise ValueError('"$or" must be an array of at least two objects')
    tests = [_object(branch, at_root) for branch in branches]
    return lambda event: any(matches(event) for matches in tests)


def _is_or(branches: Any) -> TypeGuard[list[dict[str, Any]]]:
    return _is_array(branches) and len(branches) >= 2 and all(_is_object(branch) for branch in branches)


def _combinations(pattern: dict[str, Any]) -> int:
    """How many patterns without $or this one stands for."""
    return math.prod(
        sum(_combinations(branch) for branch in value)
        if key == "$or" and _is_or(value)
        else _combinations(value)
        if _is_object(value)
        else 1
        for key, value in pattern.items()
    )


def _flat(value: Any) -> list[Any]:
    """The elements of nested arrays; a value that is no array is its own only element."""
    if not _is_array(value):
        return [value]
    found: list[Any] = []
    stack = [iter(value)]  # not recursive: an event may be nested deeper than Python's stack
    while stack:
        for each in stack[-1]:
            if _is_array(each):
                stack.append(iter(each))
                break
            found.append(each)
        else:
            stack.pop()
    return found


# --- leaves -----------------------------------------------------------------------------------------------------------


def _leaf(matchers: list[Any]) -> Test:
    """Matches if any scalar of the event's value matches any matcher. Objects are no scalars, so a field with an
    object, and one with an empty array, does not exist."""
    if not matchers:
        raise ValueError("Empty arrays are not allowed")
    exact = frozenset(_exact(each) for each in matchers if not _is_object(each))
    tests: list[Test] = []
    presence: set[bool] = set()
    for each in matchers:
        if not _is_object(each):
            continue
        name, operand = _only(each)
        if name == "exists":
            if not isinstance(operand, bool):
                raise ValueError("exists match pattern must be either true or false.")
            presence.add(operand)
        elif (matcher := _MATCHERS.get(name)) is None:
            raise ValueError(f"Unrecognized match type {name}")
        else:
            tests.append(matcher(operand))

    def test(value: Any) -> bool:
        scalars = [each for each in _flat(value) if each is not ABSENT and not _is_object(each)]
        if bool(scalars) in presence:
            return True
        return any(_exact(each) in exact or any(matches(each) for matches in tests) for each in scalars)

    return test


def _only(matcher: dict[str, Any]) -> tuple[str, Any]:
    if len(matcher) != 1:
        raise ValueError("Only one key allowed in match expression")
    return next(iter(matcher.items()))


def _exact(value: Any) -> tuple[str, Any]:
    """What two values are equal by: true is not 1, and 300 is 3.0e2."""
    if value is None or isinstance(value, (bool, str)):
        return type(value).__name__, value
    if isinstance(value, (int, float)):
        return "number", value
    raise ValueError("Match value must be String, number, true, false, or null")


def _on_text(matches: Callable[[str], bool]) -> Test:
    return lambda value: isinstance(value, str) and matches(value)


def _text(operand: Any, matcher: str) -> str:
    if not isinstance(operand, str):
        raise ValueError(f"{matcher} match pattern must be a string")
    return operand


def _prefix(operand: Any) -> Test:
    if _is_object(operand):
        start = _ignoring_case(operand, "prefix")
        return _on_text(lambda value: value.lower().startswith(start))
    start = _text(operand, "prefix")
    return _on_text(lambda value: value.startswith(start))


def _suffix(operand: Any) -> Test:
    if _is_object(operand):
        end = _ignoring_case(operand, "suffix")
        return _on_text(lambda value: value.lower().endswith(end))
    end = _text(operand, "suffix")
    return _on_text(lambda value: value.endswith(end))


def _ignoring_case(operand: dict[str, Any], outer: str) -> str:
    name, text = _only(operand)
    if name != "equals-ignore-case":
        raise ValueError(f"Unsupported {outer} match pattern: {name}")
    return _text(text, name).lower()


def _equals_ignore_case(operand: Any) -> Test:
    wanted = _text(operand, "equals-ignore-case").lower()
    return _on_text(lambda value: value.lower() == wanted)


def _cidr(operand: Any) -> Test:
    text = _text(operand, "cidr")
    if text.count("/") != 1:
        raise ValueError("Malformed CIDR, one '/' required")
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"Malformed CIDR: {error}") from error

    def matches(value: str) -> bool:
        try:
            return ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return _on_text(matches)


def _wildcard(operand: Any) -> Test:
    # Pieces are looked for from left to right, each as early as it can be: linear in the value, whatever the pattern,
    # so no pattern has to be refused as too complex.
    pieces = _pieces(_text(operand, "wildcard"))
    if len(pieces) == 1:
        return _on_text(lambda value: value == pieces[0])
    first, *middle, last = pieces

    def matches(value: str) -> bool:
        if not value.startswith(first):
            return False
        at = len(first)
        for piece in middle:
            found = value.find(piece, at)
            if found < 0:
                return False
            at = found + len(piece)
        return len(value) - len(last) >= at and value.endswith(last)

    return _on_text(matches)


def _pieces(pattern: str) -> list[str]:
    """The literal texts between the stars."""
    pieces = [""]
    at = 0
    while at < len(pattern):
        char, following = pattern[at], pattern[at + 1 : at + 2]
        if char == "*":
            if following == "*":
                raise ValueError(f"Consecutive wildcard characters at pos {at + 1}")
            pieces.append("")
        elif char == "\\":
            if following not in ("*", "\\"):
                raise ValueError(f"Invalid escape character at pos {at + 1}")
            pieces[-1] += following
            at += 1
        else:
            pieces[-1] += char
        at += 1
    return pieces


# --- anything-but and numeric -----------------------------------------------------------------------------------------


def _anything_but(operand: Any) -> Test:
    if _is_object(operand):
        name, inner = _only(operand)
        if name not in ("prefix", "suffix", "equals-ignore-case", "wildcard"):
            raise ValueError(f"Unsupported anything-but pattern: {name}")
        excluded = inner if _is_array(inner) else [inner]
        if not excluded:
            raise ValueError("Empty arrays are not allowed")
        tests = [_MATCHERS[name](_text(each, name)) for each in excluded]
        return lambda value: not any(matches(value) for matches in tests)
    excluded = operand if _is_array(operand) else [operand]
    if not excluded:
        raise ValueError("Empty arrays are not allowed")
    if not (all(isinstance(each, str) for each in excluded) or all(_is_number(each) for each in excluded)):
        raise ValueError("Value of anything-but must be a string, a number, or an array of one of them")
    values = frozenset(_exact(each) for each in excluded)
    return lambda value: _exact(value) not in values


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "=": lambda value, bound: value == bound,
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
}


def _numeric(operand: Any) -> Test:
    if not _is_array(operand):
        raise ValueError("Value of numeric must be an array.")
    if not operand:
        raise ValueError("Invalid member in numeric match: ]")
    if len(operand) not in (2, 4):
        raise ValueError("Too many elements in numeric expression" if len(operand) > 4 else "Value of numeric is odd")
    bounds: list[tuple[str, float]] = []
    for op, number in zip(operand[::2], operand[1::2], strict=True):
        if not isinstance(op, str) or op not in _COMPARISONS:
            raise ValueError(f"Unrecognized numeric range operator: {op}")
        if not _is_number(number):
            raise ValueError(f"Value of {'equals' if op == '=' else op} must be numeric")
        if abs(number) > MAX_NUMBER:
            raise ValueError("Value must be between -5.0E9 and 5.0E9, inclusive")
        bounds.append((op, round(number, DECIMALS)))
    if len(bounds) == 2:
        (low_op, low), (high_op, high) = bounds
        if low_op not in (">", ">="):
            raise ValueError(f"Too many terms in numeric range expression: {low_op} stands alone")
        if high_op not in ("<", "<="):
            raise ValueError(f"Bad numeric range operator: {high_op}")
        if low >= high:
            raise ValueError("Bottom must be less than top")
    tests = [(_COMPARISONS[op], bound) for op, bound in bounds]

    def test(value: Any) -> bool:
        if not _is_number(value) or abs(value) > MAX_NUMBER:
            return False
        rounded = round(value, DECIMALS)
        return all(compare(rounded, bound) for compare, bound in tests)

    return test


_MATCHERS: dict[str, Callable[[Any], Test]] = {
    "anything-but": _anything_but,
    "cidr": _cidr,
    "equals-ignore-case": _equals_ignore_case,
    "numeric": _numeric,
    "prefix": _prefix,
    "suffix": _suffix,
    "wildcard": _wildcard,
}

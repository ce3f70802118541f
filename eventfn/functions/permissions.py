"""What policies allow: IAM's evaluation of the statements of an identity's and of a resource's policy.

An explicit Deny wins, then an Allow, and what nobody allows is denied. What cannot be understood (an operator, a
number) never allows, and where it stands in a Deny it denies. Statements are dicts in IAM's own spelling.
Source: IAM's "Policy evaluation logic" and "JSON policy elements". Policy variables (${...}) are not read.

PURE.
"""

from __future__ import annotations

import datetime
import enum
import functools
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import msgspec

Statement: TypeAlias = Mapping[str, Any]


class Decision(enum.Enum):
    ALLOWED = "allowed"
    DENIED = "denied"  # by a statement
    SILENT = "silent"  # no statement says anything


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One use of one resource. `context`: condition keys in lower case, each with its values."""

    action: str  # "lambda:InvokeFunction"
    resource: str  # an ARN, or "*" for what has none
    principal: str | None = None  # the caller's ARN; None: nobody that is known
    account: str | None = None  # the caller's
    service: str | None = None  # "s3.amazonaws.com", where a service calls
    context: Mapping[str, Sequence[str]] = {}


class Unclear(Exception):
    """A statement that cannot be understood."""


def evaluate(statements: Iterable[Statement], asked: Asked, *, of_resource: bool = False) -> Decision:
    """`of_resource`: it is a resource's policy, whose statements say for whom they are."""
    decision = Decision.SILENT
    for statement in statements:
        denies = statement.get("Effect") == "Deny"
        try:
            applies = _applies(statement, asked, of_resource)
        except Unclear:
            applies = denies
        if applies and denies:
            return Decision.DENIED
        if applies and statement.get("Effect") == "Allow":
            decision = Decision.ALLOWED
    return decision


def _applies(statement: Statement, asked: Asked, of_resource: bool) -> bool:
    return (
        _one_side(statement, "Action", lambda pattern: _like(asked.action.lower(), pattern.lower()))
        and _one_side(statement, "Resource", lambda pattern: _like(asked.resource, pattern))
        and (not of_resource or _for_principal(statement, asked))
        and _conditions(statement.get("Condition") or {}, asked.context)
    )


def _one_side(statement: Statement, name: str, matches: Callable[[str], bool]) -> bool:
    """Action or NotAction, Resource or NotResource."""
    if name in statement:
        return any(matches(pattern) for pattern in _texts(statement[name]))
    if f"Not{name}" in statement:
        return not any(matches(pattern) for pattern in _texts(statement[f"Not{name}"]))
    raise Unclear(name)


# --- principals -------------------------------------------------------------------------------------------------------


def _for_principal(statement: Statement, asked: Asked) -> bool:
    if "Principal" in statement:
        return _names(statement["Principal"], asked)
    if "NotPrincipal" in statement:
        return not _names(statement["NotPrincipal"], asked)
    raise Unclear("Principal")


def _names(principal: Any, asked: Asked) -> bool:
    if isinstance(principal, str):
        return principal == "*"
    if not isinstance(principal, Mapping):
        raise Unclear("Principal")
    named = cast("Mapping[str, Any]", principal)
    return any(_is_caller(text, asked) for text in _texts(named.get("AWS", ()))) or (
        asked.service is not None and asked.service in _texts(named.get("Service", ()))
    )


def _is_caller(text: str, asked: Asked) -> bool:
    """An account stands for all who are in it, a role for its sessions."""
    if text == "*":
        return True
    if asked.principal is None:
        return False
    if re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:root", text):
        return text.split(":")[4] == asked.account
    return text in (asked.principal, asked.account, _role_of(asked.principal))


def _role_of(arn: str) -> str | None:
    session = re.fullmatch(r"arn:(aws[a-z-]*):sts::(\d{12}):assumed-role/([^/]+)/.+", arn)
    return session and f"arn:{session[1]}:iam::{session[2]}:role/{session[3]}"


# --- conditions -------------------------------------------------------------------------------------------------------


def _conditions(conditions: Any, context: Mapping[str, Sequence[str]]) -> bool:
    """All operators must hold, and in each all keys; of a key's values one must."""
    if not isinstance(conditions, Mapping):
        raise Unclear("Condition")
    return all(
        _holds(operator, context.get(key.lower()), _texts(values))
        for operator, keys in cast("Mapping[str, Mapping[str, Any]]", conditions).items()
        for key, values in keys.items()
    )


def _holds(operator: str, given: Sequence[str] | None, wanted: Sequence[str]) -> bool:
    each, _, bare = operator.rpartition(":")
    if bare == "Null":
        return any((value.lower() == "true") is (given is None) for value in wanted)
    name = bare.removesuffix("IfExists")
    if name not in _OPERATORS or each not in ("", "ForAnyValue", "ForAllValues"):
        raise Unclear(operator)
    test, negated = _OPERATORS[name]
    if given is None:
        return negated or name != bare or each == "ForAllValues"

    def matches(value: str) -> bool:
        return any(test(value, pattern) for pattern in wanted) is not negated

    return all(map(matches, given)) if each == "ForAllValues" or (negated and not each) else any(map(matches, given))


def _number(given: str, wanted: str, compare: Callable[[float, float], bool]) -> bool:
    try:
        return compare(float(given), float(wanted))
    except ValueError as error:
        raise Unclear(wanted) from error


def _instant(given: str, wanted: str, compare: Callable[[float, float], bool]) -> bool:
    return compare(_seconds(given), _seconds(wanted))


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        instant = datetime.datetime.fromisoformat(text)
        return (instant if instant.tzinfo else instant.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise Unclear(text) from error


def _in_network(given: str, wanted: str) -> bool:
    try:
        return ipaddress.ip_address(given) in ipaddress.ip_network(wanted, strict=False)
    except ValueError as error:
        raise Unclear(wanted) from error


def _arn_like(given: str, wanted: str) -> bool:
    """Each of the six parts for itself: no wildcard reaches over a colon, but in the last."""
    parts, patterns = given.split(":", 5), wanted.split(":", 5)
    return len(parts) == len(patterns) and all(map(_like, parts, patterns))


def _equal(given: str, wanted: str) -> bool:
    return given == wanted


def _same(given: str, wanted: str) -> bool:
    return given.lower() == wanted.lower()


def _like(given: str, wanted: str) -> bool:
    return _glob(wanted).fullmatch(given) is not None


@functools.lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    """ "*" is any text, "?" any character. What stands between two stars is looked for once, at its first place, so
    that no pattern takes longer than its length times the text's."""
    first, *rest = ("".join("." if each == "?" else re.escape(each) for each in part) for part in pattern.split("*"))
    if not rest:
        return re.compile(first, re.DOTALL)
    between = "".join(f"(?>.*?{part})" for part in rest[:-1])
    return re.compile(f"{first}{between}.*{rest[-1]}", re.DOTALL)


_Test: TypeAlias = Callable[[str, str], bool]
_COMPARE: dict[str, tuple[Callable[[float, float], bool], bool]] = {
    "Equals": (lambda given, wanted: given == wanted, False),
    "NotEquals": (lambda given, wanted: given == wanted, True),
    "LessThan": (lambda given, wanted: given < wanted, False),
    "LessThanEquals": (lambda given, wanted: given <= wanted, False),
    "GreaterThan": (lambda given, wanted: given > wanted, False),
    "GreaterThanEquals": (lambda given, wanted: given >= wanted, False),
}
# Name -> test, and whether it holds where the test does not.
_OPERATORS: dict[str, tuple[_Test, bool]] = {
    "StringEquals": (_equal, False),
    "StringNotEquals": (_equal, True),
    "StringEqualsIgnoreCase": (_same, False),
    "StringNotEqualsIgnoreCase": (_same, True),
    "StringLike": (_like, False),
    "StringNotLike": (_like, True),
    "Bool": (_same, False),
    "IpAddress": (_in_network, False),
    "NotIpAddress": (_in_network, True),
    "ArnEquals": (_arn_like, False),
    "ArnLike": (_arn_like, False),
    "ArnNotEquals": (_arn_like, True),
    "ArnNotLike": (_arn_like, True),
}
for _name, (_compare, _negated) in _COMPARE.items():
    _OPERATORS[f"Numeric{_name}"] = (functools.partial(_number, compare=_compare), _negated)
    _OPERATORS[f"Date{_name}"] = (functools.partial(_instant, compare=_compare), _negated)


def _texts(values: Any) -> Sequence[str]:
    """One or several; numbers and truths as IAM reads them, as text."""
    several: Sequence[Any] = cast("Sequence[Any]", values) if isinstance(values, list | tuple) else (values,)
    return [str(value).lower() if isinstance(value, bool) else str(value) for value in several]

"""CloudWatch Logs' filter patterns: which log events a reader wants.

    ERROR "not found"            every term, as it is spelled, anywhere in the message
    ?ERROR ?WARN                 any of them
    ERROR -timeout               and none of these
    { $.level = "ERR*" && ($.status >= 500 || $.user NOT EXISTS) }      fields of a message that is JSON

PURE. Source: "Filter pattern syntax" of the CloudWatch Logs user guide. Not here: patterns of columns, "[a, b = 1]",
and regular expressions, "%a%": these are refused, and not half understood.
"""

from __future__ import annotations

import fnmatch
import json
import operator
import re
from collections.abc import Callable
from typing import Any, NoReturn

Matches = Callable[[str], bool]

LONGEST = 1024  # characters, AWS's
_DEEPEST = 20  # parentheses

_TERM = re.compile(r'([?-]?)(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))')
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>"(?:[^"\\]|\\.)*")
      | (?P<selector>\$(?:\.\w[\w-]*|\.?\["[^"]*"\]|\[\d{1,6}\])+)
      | (?P<sign>&&|\|\||!=|<=|>=|[=<>()])
      | (?P<word>[^\s"()=!<>&|]+)
    )""",
    re.VERBOSE,
)
_STEP = re.compile(r'\.(\w[\w-]*)|\.?\["([^"]*)"\]|\[(\d+)\]')
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ABSENT = object()


class BadPattern(ValueError):
    """The text says what is wrong with it."""


def compiled(pattern: str) -> Matches:
    """Raises BadPattern."""
    text = pattern.strip()
    if len(text) > LONGEST:
        raise BadPattern(f"Invalid filter pattern: longer than {LONGEST} characters")
    if text.startswith("{"):
        return _json(text)
    if text.startswith("["):
        raise BadPattern("Invalid filter pattern: patterns of columns, [a, b], are not supported")
    return _terms(text)


# --- terms ------------------------------------------------------------------------------------------------------------


def _terms(text: str) -> Matches:
    wanted: dict[str, list[str]] = {"": [], "?": [], "-": []}
    at = 0
    while at < len(text):
        found = _TERM.match(text, at)
        if found is None:
            raise BadPattern(f"Invalid filter pattern: a quotation mark is missing in {text[at:]!r}")
        kind: str = found[1]
        quoted, plain = found[2], found[3]
        if plain is not None and len(plain) > 1 and plain[0] == plain[-1] == "%":
            raise BadPattern("Invalid filter pattern: regular expressions, %a%, are not supported")
        wanted[kind].append(str(plain) if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        at = found.end()
        while at < len(text) and text[at].isspace():
            at += 1
    every, some, none = wanted[""], wanted["?"], wanted["-"]

    def matches(message: str) -> bool:
        return (
            all(term in message for term in every)
            and (not some or any(term in message for term in some))
            and not any(term in message for term in none)
        )

    return matches


# --- JSON -------------------------------------------------------------------------------------------------------------

_Test = Callable[[Any], bool]


def _json(text: str) -> Matches:
    if not text.endswith("}"):
        raise BadPattern("Invalid filter pattern: a closing brace is missing")
    test = _Parser(text[1:-1]).whole()

    def matches(message: str) -> bool:
        if not message.lstrip().startswith(("{", "[")):
            return False
        try:
            return test(json.loads(message))
        except (ValueError, RecursionError):
            return False

    return matches


class _Parser:
    """A condition, "or" over "and" over comparisons, by recursive descent."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        at = 0
        text = text.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                raise BadPattern(f"Invalid filter pattern: not understood: {text[at:].strip()!r}")
            self._tokens.append((found.lastgroup, found[found.lastgroup]))
            at = found.end()
        self._at = 0
        self._depth = 0

    def whole(self) -> _Test:
        test = self._any_of()
        if self._at < len(self._tokens):
            self._fail("the end")
        return test

    def _any_of(self) -> _Test:
        tests = [self._all_of()]
        while self._took("||"):
            tests.append(self._all_of())
        return tests[0] if len(tests) == 1 else lambda event: any(test(event) for test in tests)

    def _all_of(self) -> _Test:
        tests = [self._one()]
        while self._took("&&"):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda event: all(test(event) for test in tests)

    def _one(self) -> _Test:
        if self._took("("):
            self._depth += 1
            if self._depth > _DEEPEST:
                raise BadPattern("Invalid filter pattern: too many parentheses")
            test = self._any_of()
            if not self._took(")"):
                self._fail("a closing parenthesis")
            self._depth -= 1
            return test
        kind, selector = self._next("a selector such as $.level")
        if kind != "selector":
            self._fail("a selector such as $.level", back=True)
        steps = [name or quoted or int(index) for name, quoted, index in _STEP.findall(selector)]
        if self._took("IS"):
            return self._is(steps)
        if self._took("NOT"):
            if not self._took("EXISTS"):
                self._fail("EXISTS")
            return lambda event: _at(event, steps) is _ABSENT
        _, sign = self._next("an operator")
        if sign in ("=", "!="):
            return self._equal(steps, negated=sign == "!=")
        if sign not in _COMPARE:
            self._fail("an operator", back=True)
        return self._compared(steps, _COMPARE[sign])

    def _is(self, steps: list[str | int]) -> _Test:
        words: dict[str, bool | None] = {"NULL": None, "TRUE": True, "FALSE": False}
        said = next((word for word in words if self._took(word)), None)
        if said is None:
            self._fail("NULL, TRUE or FALSE")
        value = words[said]
        return lambda event: _at(event, steps) is value

    def _equal(self, steps: list[str | int], *, negated: bool) -> _Test:
        kind, text = self._next("a value")
        if kind not in ("text", "word"):
            self._fail("a value", back=True)
        number = _number(text) if kind == "word" else None
        if number is not None:
            return lambda event: _is_number(found := _at(event, steps)) and (found == number) is not negated
        if kind == "text":
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        like = re.compile(fnmatch.translate(text.replace("[", "[[]").replace("?", "[?]"))).match

        def test(event: Any) -> bool:
            found = _at(event, steps)
            if isinstance(found, bool):
                found = str(found).lower()
            return isinstance(found, str | int | float) and bool(like(str(found))) is not negated

        return test

    def _compared(self, steps: list[str | int], holds: Callable[[Any, Any], bool]) -> _Test:
        number = _number(self._next("a number")[1])
        if number is None:
            self._fail("a number", back=True)
        return lambda event: _is_number(found := _at(event, steps)) and holds(found, number)

    def _took(self, token: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at] == (
            "word" if token.isalpha() else "sign",
            token,
        ):
            self._at += 1
            return True
        return False

    def _next(self, expected: str) -> tuple[str, str]:
        if self._at == len(self._tokens):
            self._fail(expected)
        self._at += 1
        return self._tokens[self._at - 1]

    def _fail(self, expected: str, *, back: bool = False) -> NoReturn:
        at = self._at - 1 if back else self._at
        found = repr(self._tokens[at][1]) if at < len(self._tokens) else "the end"
        raise BadPattern(f"Invalid filter pattern: expected {expected}, got {found}")


def _at(event: Any, steps: list[str | int]) -> Any:
    for step in steps:
        if not (_is_list(event) if isinstance(step, int) else _is_object(event)):
            return _ABSENT
        try:
            event = event[step]
        except LookupError:
            return _ABSENT
    return event


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[+-]?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,2})?", text, re.ASCII) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

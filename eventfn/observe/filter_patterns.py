"""CloudWatch Logs' filter patterns: which log events a reader wants.

    ERROR "not found"            every term, as it is spelled, anywhere in the message
    ?ERROR ?WARN                 any of them
    ERROR -timeout               and none of these
    { $.level = "ERR*" && ($.status >= 500 || $.user NOT EXISTS) }      fields of a message that is JSON

    [ip, ..., status = 4* || status = 500, bytes > 1000]                  words of a message, each in its place

PURE. Source: "Filter pattern syntax" of the CloudWatch Logs user guide. Not here: regular expressions, "%a%". They are
refused: one of a reader's, on lines of a function's, could hold up the node.
"""

from __future__ import annotations

import fnmatch
import json
import operator
import re
from collections.abc import Callable, Iterator
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
        return _columns(text)
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
        if plain is not None:
            _refuse_regular(plain)
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
        return self._comparison()

    def _comparison(self) -> _Test:
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
        like = _like(kind, text)

        def test(event: Any) -> bool:
            found = _at(event, steps)
            if isinstance(found, bool):
                found = str(found).lower()
            return isinstance(found, str | int | float) and like(str(found)) is not negated

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


def _like(kind: str, text: str) -> Matches:
    """ "*" is any text; all else stands for itself."""
    if kind == "text":
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    else:
        _refuse_regular(text)
    pattern = re.compile(fnmatch.translate(text.replace("[", "[[]").replace("?", "[?]")))
    return lambda found: pattern.match(found) is not None


def _refuse_regular(text: str) -> None:
    if len(text) > 1 and text[0] == text[-1] == "%":
        raise BadPattern("Invalid filter pattern: regular expressions, %a%, are not supported")


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


# --- columns ----------------------------------------------------------------------------------------------------------

_WORD = re.compile(r"\S+")
_CLOSING = {"[": "]", '"': '"'}  # what stands between them is one field of a message
_COLUMN = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,"])*')  # of a pattern
_ANY_NUMBER = "..."


def _columns(text: str) -> Matches:
    if not text.endswith("]"):
        raise BadPattern("Invalid filter pattern: a closing bracket is missing")
    columns, at, inner = [""], 0, text[1:-1]
    while at <= len(inner):
        found = _COLUMN.match(inner, at)
        assert found is not None, "it matches nothing, too"
        columns[-1] = found[0].strip()
        at = found.end() + 1
        if at <= len(inner):
            if inner[at - 1] != ",":
                raise BadPattern(f"Invalid filter pattern: a quotation mark is missing in {inner[at - 1 :]!r}")
            columns.append("")
    if columns.count(_ANY_NUMBER) > 1:
        raise BadPattern("Invalid filter pattern: only one column can be ...")
    before = columns.index(_ANY_NUMBER) if _ANY_NUMBER in columns else len(columns)
    tests = [_Column(column).whole() for column in columns if column != _ANY_NUMBER]
    exactly = len(tests) == len(columns)

    def matches(message: str) -> bool:
        fields = list(_fields(message))
        if len(fields) < len(tests) or (exactly and len(fields) > len(tests)):
            return False
        after = len(tests) - before
        held = fields[:before] + fields[len(fields) - after :]
        return all(test(field) for test, field in zip(tests, held, strict=True))

    return matches


def _fields(message: str) -> Iterator[str]:
    """In time that grows with the length: a function writes what it likes, so what is never closed is looked for once
    only."""
    closing, at = dict(_CLOSING), 0
    while at < len(message):
        first = message[at]
        if first.isspace():
            at += 1
            continue
        if (closed := closing.get(first)) is not None:
            if (end := message.find(closed, at + 1)) >= 0:
                yield message[at + 1 : end]
                at = end + 1
                continue
            del closing[first]
        word = _WORD.match(message, at)
        assert word is not None, "it begins with no space"
        yield word[0]
        at = word.end()


class _Column(_Parser):
    """A name alone, or what is said of it: conditions of one field, in which the name stands for the field."""

    def _comparison(self) -> _Test:
        if self._next("a column's name")[0] != "word":
            self._fail("a column's name", back=True)
        sign = next((sign for sign in ("=", "!=", *_COMPARE) if self._took(sign)), None)
        if sign is None:
            return lambda field: True
        kind, text = self._next("a value")
        if kind not in ("text", "word"):
            self._fail("a value", back=True)
        if sign in _COMPARE:
            number, holds = _number(text), _COMPARE[sign]
            if number is None:
                self._fail("a number", back=True)
            return lambda field: (found := _number(field)) is not None and holds(found, number)
        like, negated = _like(kind, text), sign == "!="
        return lambda field: like(field) is not negated

"""Which records a function wants: Lambda's FilterCriteria. What a pattern is: eventfn/patterns.py.

    {"body": {"kind": ["order", {"prefix": "re"}], "total": [{"numeric": [">", 100]}]}}

What belongs here: what patterns see of a record, which trigger.Filterable and trigger.Filtering say of each source. The
data in a record is text or JSON, and so is a pattern for it (a list of matchers, or an object).

PURE.
"""

from __future__ import annotations

import binascii
import functools
from collections.abc import Sequence
from typing import Any, TypeGuard

import msgspec

from eventfn import patterns
from eventfn.patterns import ABSENT, Pattern, Test
from eventfn.trigger import Filtering

MAX_PATTERNS = 10


class Criteria:
    """Up to ten patterns: a record passes if one of them matches, and always when there are none."""

    def __init__(self, compiled: Sequence[Pattern], sight: _Sight) -> None:
        self._patterns = tuple(compiled)
        self._sight = sight

    def matches(self, payload: bytes) -> bool:
        """Whether a record passes. Raises ValueError if it is not JSON: then nothing can be said about it."""
        if not self._patterns:
            return True
        try:
            record = msgspec.json.decode(payload)
        except RecursionError as error:
            raise ValueError("the record's JSON is nested too deeply") from error
        except msgspec.DecodeError as error:
            raise ValueError(f"the record is not JSON: {error}") from error
        seen = self._sight.of(record)
        return any(pattern.matches(seen) for pattern in self._patterns)


def compile_pattern(pattern: Any, data_key: str | None = None, filtering: Filtering | None = None) -> Pattern:
    """`data_key` and `filtering` are the source's: trigger.Filterable. Raises ValueError with EventBridge's reason."""
    return patterns.compile_pattern(pattern, _Sight(data_key, filtering).at_root)


def compile_criteria(given: Sequence[Any], data_key: str | None = None, filtering: Filtering | None = None) -> Criteria:
    """Raises ValueError with the reason, and the number of the pattern if there are several."""
    if len(given) > MAX_PATTERNS:
        raise ValueError(f"at most {MAX_PATTERNS} patterns, and there are {len(given)}")
    compiled: list[Pattern] = []
    for number, pattern in enumerate(given, 1):
        try:
            compiled.append(compile_pattern(pattern, data_key, filtering))
        except ValueError as error:
            raise ValueError(f"pattern {number}: {error}" if len(given) > 1 else str(error)) from error
    return Criteria(compiled, _Sight(data_key, filtering))


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


class _Sight:
    """What patterns see of the records of one source."""

    def __init__(self, data_key: str | None, filtering: Filtering | None) -> None:
        filtering = filtering or Filtering()
        self._root = filtering.root
        self._base64_keys = frozenset(filtering.base64_keys)
        self._data_keys = self._base64_keys | {data_key} if data_key is not None else self._base64_keys
        self._if_of_the_other_kind = filtering.mismatch == "ignore"

    def of(self, record: Any) -> Any:
        seen = record.get(self._root) if self._root is not None and _is_object(record) else record
        if _is_object(seen):
            for key in self._data_keys:
                if isinstance(text := seen.get(key), str):
                    seen[key] = _Data(text, key in self._base64_keys)
        return seen

    def at_root(self, key: str, pattern: Any, matches: Test) -> Test:
        """A pattern for the data that is an object sees its JSON, one that is a list sees its text."""
        if key not in self._data_keys:
            return matches
        as_json = isinstance(pattern, dict)
        other = self._if_of_the_other_kind
        if not as_json and not other and key in self._base64_keys:
            raise ValueError(f'"{key}" must be an object: the data of this source is filtered as JSON only')

        def test(value: Any) -> bool:
            if not isinstance(value, _Data):
                return matches(value)
            if (value.json is not ABSENT) is not as_json:
                return other
            return matches(value.json if as_json else value.text)

        return test


class _Data:
    """The data of a record: read only where a pattern is about it, and once for all patterns."""

    def __init__(self, written: str, is_base64: bool) -> None:
        self._written = written
        self._is_base64 = is_base64

    @functools.cached_property
    def json(self) -> Any:
        """ABSENT when it is no JSON object or array: a bare number or word is text to a poller, although it is JSON to
        a parser."""
        try:
            value: Any = msgspec.json.decode(self._content)
        except (msgspec.DecodeError, RecursionError):
            return ABSENT
        return ABSENT if value is None or isinstance(value, (str, int, float)) else value

    @functools.cached_property
    def text(self) -> str:
        content = self._content
        return content if isinstance(content, str) else content.decode(errors="replace")

    @functools.cached_property
    def _content(self) -> bytes | str:
        if not self._is_base64:
            return self._written
        try:
            return binascii.a2b_base64(self._written)
        except ValueError as error:
            raise ValueError(f"the record's data is not base64: {error}") from error

"""The pattern grammar, matcher by matcher."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.patterns import compile_pattern


def matches(pattern: dict[str, Any], event: Any) -> bool:
    return compile_pattern(pattern).matches(event)


LEAVES: list[tuple[Any, Any, bool]] = [
    # exact: case-sensitive, numbers by value, null only null
    ("x", "x", True),
    ("x", "X", False),
    ("", "", True),
    ("", None, False),
    (300, 300.0, True),
    (3.0e2, 300, True),
    (1, True, False),
    (True, 1, False),
    (True, True, True),
    (False, 0, False),
    (None, None, True),
    (None, "", False),
    ("1", 1, False),
    # prefix, suffix
    ({"prefix": "re"}, "resize", True),
    ({"prefix": "re"}, "Resize", False),
    ({"prefix": ""}, "anything", True),
    ({"prefix": ""}, 7, False),
    ({"prefix": {"equals-ignore-case": "RE"}}, "resize", True),
    ({"suffix": ".jpg"}, "a.jpg", True),
    ({"suffix": ".jpg"}, "a.png", False),
    ({"suffix": {"equals-ignore-case": ".JPG"}}, "a.jpg", True),
    # equals-ignore-case
    ({"equals-ignore-case": "Ada"}, "aDA", True),
    ({"equals-ignore-case": "1"}, 1, False),
    # anything-but: present, not excluded
    ({"anything-but": "x"}, "y", True),
    ({"anything-but": "x"}, "x", False),
    ({"anything-but": ["x", "y"]}, "y", False),
    ({"anything-but": 1}, 1.0, False),
    ({"anything-but": 1}, "1", True),
    ({"anything-but": "x"}, None, True),
    ({"anything-but": {"prefix": "re"}}, "resize", False),
    ({"anything-but": {"prefix": ["re", "ro"]}}, "rotate", False),
    ({"anything-but": {"prefix": "re"}}, 5, True),
    ({"anything-but": {"suffix": ".jpg"}}, "a.png", True),
    ({"anything-but": {"equals-ignore-case": ["A", "B"]}}, "b", False),
    ({"anything-but": {"wildcard": "*/tmp/*"}}, "/tmp/x", False),
    ({"anything-but": {"wildcard": "*/tmp/*"}}, "/var/x", True),
    # numeric: JSON numbers only, within ±5e9, six decimals
    ({"numeric": ["=", 5]}, 5.0, True),
    ({"numeric": [">", 5]}, 5, False),
    ({"numeric": [">=", 5]}, 5, True),
    ({"numeric": ["<", 5]}, -5e9, True),
    ({"numeric": ["<=", 5]}, 5.0000001, True),
    ({"numeric": [">", 0, "<=", 10]}, 10, True),
    ({"numeric": [">", 0, "<", 10]}, 10, False),
    ({"numeric": [">", 0]}, "5", False),
    ({"numeric": [">", 0]}, True, False),
    ({"numeric": [">", 0]}, 5_000_000_001, False),
    # cidr
    ({"cidr": "10.0.0.0/24"}, "10.0.0.255", True),
    ({"cidr": "10.0.0.0/24"}, "10.0.1.0", False),
    ({"cidr": "10.0.0.7/24"}, "10.0.0.1", True),
    ({"cidr": "2001:db8::/32"}, "2001:db8::1", True),
    ({"cidr": "2001:db8::/32"}, "10.0.0.1", False),
    ({"cidr": "10.0.0.0/24"}, "not an address", False),
    # wildcard
    ({"wildcard": "a*b"}, "ab", True),
    ({"wildcard": "a*b"}, "axxb", True),
    ({"wildcard": "a*b"}, "axxbc", False),
    ({"wildcard": "a*a"}, "a", False),
    ({"wildcard": "*"}, "", True),
    ({"wildcard": "*ab*ab"}, "abab", True),
    ({"wildcard": "*ab*ab"}, "ab", False),
    ({"wildcard": "plain"}, "plain", True),
    ({"wildcard": r"a\*b"}, "a*b", True),
    ({"wildcard": r"a\*b"}, "axb", False),
    ({"wildcard": r"a\\*"}, "a\\x", True),
    ({"wildcard": "*"}, 5, False),
]


@pytest.mark.parametrize(("matcher", "value", "expected"), LEAVES)
def test_a_matcher(matcher: Any, value: Any, expected: bool) -> None:
    assert matches({"key": [matcher]}, {"key": value}) is expected


@pytest.mark.parametrize(
    ("event", "exists"),
    [
        ({"a": 1}, True),
        ({"a": None}, True),
        ({"a": ""}, True),
        ({"a": [1]}, True),
        ({}, False),
        ({"a": []}, False),
        ({"a": [[]]}, False),
        ({"a": {}}, False),
        ({"a": {"b": 1}}, False),
        ({"a": [{"b": 1}]}, False),
    ],
)
def test_only_leaves_exist(event: Any, exists: bool) -> None:
    assert matches({"a": [{"exists": True}]}, event) is exists
    assert matches({"a": [{"exists": False}]}, event) is not exists


STRUCTURE: list[tuple[dict[str, Any], Any, bool]] = [
    # keys are ANDed, matchers ORed
    ({"a": [1], "b": [2]}, {"a": 1, "b": 2, "c": 3}, True),
    ({"a": [1], "b": [2]}, {"a": 1}, False),
    ({"a": [1, 2, {"prefix": "x"}]}, {"a": "xy"}, True),
    ({"a": [{"exists": False}, "x"]}, {"a": "x"}, True),
    ({"a": [{"exists": False}, "x"]}, {}, True),
    ({"a": [{"anything-but": "x"}]}, {}, False),
    # nesting, and dots that mean it
    ({"a": {"b": {"c": [1]}}}, {"a": {"b": {"c": 1}}}, True),
    ({"a.b.c": [1]}, {"a": {"b": {"c": 1}}}, True),
    ({"a": {"b.c": [1]}}, {"a": {"b": {"c": 1}}}, True),
    ({"a.b": {"c": [1]}}, {"a": {"b": {"c": 2}}}, False),
    ({"a.b": [1]}, {"a.b": 1}, True),
    ({"a": {"b": [1]}}, {"a": 1}, False),
    ({"a": {"b": [{"exists": False}]}}, {"a": 1}, True),
    ({"a": {"b": [{"exists": False}]}}, {}, True),
    # arrays in the event
    ({"a": ["x"]}, {"a": ["y", "x"]}, True),
    ({"a": ["x"]}, {"a": [["y"], [["x"]]]}, True),
    ({"a": [{"anything-but": "x"}]}, {"a": ["x", "y"]}, True),
    ({"a": {"b": [1]}}, {"a": [{"b": 2}, {"b": 1}]}, True),
    ({"a": {"b": [1], "c": [1]}}, {"a": [{"b": 1, "c": 2}, {"b": 2, "c": 1}]}, False),
    ({"a": {"b": [1], "c": [1]}}, {"a": [{"b": 2}, {"b": 1, "c": 1}]}, True),
    # $or beside siblings, and inside itself
    ({"$or": [{"a": [1]}, {"b": [1]}]}, {"b": 1}, True),
    ({"$or": [{"a": [1]}, {"b": [1]}]}, {"c": 1}, False),
    ({"k": [1], "$or": [{"a": [1]}, {"b": [1]}]}, {"a": 1}, False),
    ({"x": {"$or": [{"a": [1]}, {"b": [1]}]}}, {"x": {"a": 1}}, True),
    ({"$or": [{"$or": [{"a": [1]}, {"b": [1]}]}, {"c": [1]}]}, {"b": 1}, True),
    # what is no object matches nothing but absence
    ({"a": [1]}, "text", False),
    ({"a": [1]}, None, False),
]


@pytest.mark.parametrize(("pattern", "event", "expected"), STRUCTURE)
def test_the_shape_of_a_pattern(pattern: dict[str, Any], event: Any, expected: bool) -> None:
    assert matches(pattern, event) is expected


REFUSED: list[tuple[Any, str]] = [
    ([], "Filter is not an object"),
    ("x", "Filter is not an object"),
    ({}, "Empty objects are not allowed"),
    ({"a": {}}, "Empty objects are not allowed"),
    ({"a": "x"}, '"a" must be an object or an array'),
    ({"a": {"b": 1}}, '"b" must be an object or an array'),
    ({"a.b": 1}, '"a.b" must be an object or an array'),
    ({"a": []}, "Empty arrays are not allowed"),
    ({"a": [["x"]]}, "Match value must be String, number, true, false, or null"),
    ({"a": [{"like": "x"}]}, "Unrecognized match type like"),
    ({"a": [{"prefix": "x", "suffix": "y"}]}, "Only one key allowed in match expression"),
    ({"a": [{}]}, "Only one key allowed in match expression"),
    ({"a": [{"exists": "yes"}]}, "exists match pattern must be either true or false."),
    ({"a": [{"prefix": 1}]}, "prefix match pattern must be a string"),
    ({"a": [{"prefix": ["x"]}]}, "prefix match pattern must be a string"),
    ({"a": [{"suffix": 1}]}, "suffix match pattern must be a string"),
    ({"a": [{"prefix": {"suffix": "x"}}]}, "Unsupported prefix match pattern: suffix"),
    ({"a": [{"equals-ignore-case": None}]}, "equals-ignore-case match pattern must be a string"),
    ({"a": [{"anything-but": None}]}, "Value of anything-but must be a string, a number, or an array of one of them"),
    ({"a": [{"anything-but": True}]}, "Value of anything-but must be a string, a number, or an array of one of them"),
    (
        {"a": [{"anything-but": ["x", 1]}]},
        "Value of anything-but must be a string, a number, or an array of one of them",
    ),
    ({"a": [{"anything-but": []}]}, "Empty arrays are not allowed"),
    ({"a": [{"anything-but": {"prefix": []}}]}, "Empty arrays are not allowed"),
    ({"a": [{"anything-but": {"cidr": "10.0.0.0/8"}}]}, "Unsupported anything-but pattern: cidr"),
    ({"a": [{"numeric": 5}]}, "Value of numeric must be an array."),
    ({"a": [{"numeric": []}]}, "Invalid member in numeric match: ]"),
    ({"a": [{"numeric": ["<", "5"]}]}, "Value of < must be numeric"),
    ({"a": [{"numeric": ["=", None]}]}, "Value of equals must be numeric"),
    ({"a": [{"numeric": ["~", 5]}]}, "Unrecognized numeric range operator: ~"),
    ({"a": [{"numeric": [">", 1, ">", 2]}]}, "Bad numeric range operator: >"),
    ({"a": [{"numeric": [">", 2, "<", 2]}]}, "Bottom must be less than top"),
    ({"a": [{"numeric": ["<", 5, ">", 1]}]}, "Too many terms in numeric range expression: < stands alone"),
    ({"a": [{"numeric": [">", 6e9]}]}, "Value must be between -5.0E9 and 5.0E9, inclusive"),
    ({"a": [{"numeric": [">", 1, "<", 2, "<", 3]}]}, "Too many elements in numeric expression"),
    ({"a": [{"cidr": "10.0.0.0"}]}, "Malformed CIDR, one '/' required"),
    ({"a": [{"wildcard": 1}]}, "wildcard match pattern must be a string"),
    ({"a": [{"wildcard": "abc**def"}]}, "Consecutive wildcard characters at pos 4"),
    ({"a": [{"wildcard": r"a\x"}]}, "Invalid escape character at pos 2"),
    ({"$or": [{"a": [1]}]}, '"$or" must be an array of at least two objects'),
    ({"$or": {"a": [1]}}, '"$or" must be an array of at least two objects'),
    ({"$or": [{"a": [1]}, 5]}, '"$or" must be an array of at least two objects'),
]


@pytest.mark.parametrize(("pattern", "reason"), REFUSED)
def test_a_pattern_that_is_refused(pattern: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        compile_pattern(pattern)


def test_combinations_of_or_are_bounded() -> None:
    branches = [{f"k{n}": [1]} for n in range(10)]
    compile_pattern({"a": {"$or": branches}, "b": {"$or": branches}, "c": {"$or": branches}})
    with pytest.raises(ValueError, match="more than 1000 combinations"):
        compile_pattern({"a": {"$or": [*branches, {"k": [1]}]}, "b": {"$or": branches}, "c": {"$or": branches}})


def test_a_pattern_has_at_most_4096_characters() -> None:
    compile_pattern({"a": ["x" * 4000]})
    with pytest.raises(ValueError, match="at most 4096 characters"):
        compile_pattern({"a": ["x" * 4096]})


# --- laws -------------------------------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)
matchers = (
    scalars
    | st.builds(lambda text: {"prefix": text}, st.text(max_size=3))
    | st.builds(lambda text: {"suffix": text}, st.text(max_size=3))
    | st.builds(lambda yes: {"exists": yes}, st.booleans())
    | st.builds(lambda text: {"anything-but": text}, st.text(max_size=3))
    | st.builds(lambda n: {"numeric": [">=", n]}, st.integers(-100, 100))
)
leaves = st.lists(matchers, min_size=1, max_size=3)


@given(st.lists(matchers, min_size=1, max_size=3), leaves, values)
def test_more_matchers_match_more(first: list[Any], second: list[Any], value: Any) -> None:
    event = {"key": value}
    either = matches({"key": first}, event) or matches({"key": second}, event)
    assert matches({"key": first + second}, event) is either
    assert matches({"$or": [{"key": first}, {"key": second}]}, event) is either


@given(leaves, leaves, values, values)
def test_more_keys_match_less(first: list[Any], second: list[Any], one: Any, other: Any) -> None:
    event = {"a": one, "b": other}
    both = matches({"a": first}, event) and matches({"b": second}, event)
    assert matches({"a": first, "b": second}, event) is both


@given(leaves, values)
def test_a_dot_is_nesting(leaf: list[Any], value: Any) -> None:
    assert matches({"a.b": leaf}, {"a": value}) is matches({"a": {"b": leaf}}, {"a": value})


@given(values)
def test_a_leaf_exists_or_not(value: Any) -> None:
    event = {"key": value}
    assert matches({"key": [{"exists": True}]}, event) is not matches({"key": [{"exists": False}]}, event)


@given(scalars, scalars)
def test_anything_but_is_the_opposite_of_exact_for_a_scalar(value: Any, excluded: Any) -> None:
    if excluded is None or isinstance(excluded, bool):
        with pytest.raises(ValueError, match="Value of anything-but"):
            compile_pattern({"key": [{"anything-but": excluded}]})
    else:
        event = {"key": value}
        assert matches({"key": [{"anything-but": excluded}]}, event) is not matches({"key": [excluded]}, event)


@given(st.lists(st.text("ab", max_size=3), min_size=1, max_size=4), st.lists(st.text("ab", max_size=3), max_size=4))
def test_a_wildcard_matches_what_its_stars_stand_for(pieces: list[str], runs: list[str]) -> None:
    between = [piece for piece in pieces[1:-1] if piece]  # no two stars beside each other
    literal = [pieces[0], *between, *pieces[-1:]] if len(pieces) > 1 else pieces
    filled = "".join(piece + (runs[n] if n < len(runs) else "") for n, piece in enumerate(literal[:-1])) + literal[-1]
    assert matches({"key": [{"wildcard": "*".join(literal)}]}, {"key": filled})

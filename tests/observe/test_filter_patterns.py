import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.observe.filter_patterns import BadPattern, compiled

REPORT = "REPORT RequestId: 1\tDuration: 5 ms\t[ERROR] not found: a.txt"
EVENT = json.dumps(
    {
        "level": "ERROR",
        "status": 503,
        "ok": True,
        "no": False,
        "user": None,
        "path": ["a", {"b": 1.5}],
        "a b": "x",
        "message": 'say "hi" [now]?',
        "text": "503",
    }
)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", True),
        ("   ", True),
        ("ERROR", True),
        ("error", False),
        ("ERROR REPORT", True),
        ("ERROR WARN", False),
        ('"not found"', True),
        ('"found not"', False),
        ("?WARN ?ERROR", True),
        ("?WARN ?DEBUG", False),
        ("REPORT -timeout", True),
        ('REPORT -"not found"', False),
        ("-timeout", True),
        ('"[ERROR]"', True),
        ('?"not found" ?x', True),
        ("Duration:", True),
    ],
)
def test_terms(pattern: str, expected: bool) -> None:
    assert compiled(pattern)(REPORT) is expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ('{ $.level = "ERROR" }', True),
        ("{$.level=ERROR}", True),
        ('{ $.level = "ERR*" }', True),
        ('{ $.level != "ERROR" }', False),
        ('{ $.level != "INFO" }', True),
        ('{ $.missing != "INFO" }', False),
        ("{ $.status = 503 }", True),
        ("{ $.status = 5* }", True),
        ("{ $.status >= 500 && $.status < 504 }", True),
        ("{ $.status > 503 }", False),
        ("{ $.text > 500 }", False),
        ("{ $.status > 600 || ($.level = ERROR && $.ok IS TRUE) }", True),
        ("{ $.ok = true }", True),
        ("{ $.no IS FALSE }", True),
        ("{ $.user IS NULL }", True),
        ("{ $.missing IS NULL }", False),
        ("{ $.missing NOT EXISTS }", True),
        ("{ $.user NOT EXISTS }", False),
        ("{ $.path[0] = a }", True),
        ("{ $.path[1].b = 1.5 }", True),
        ("{ $.path[7] = a }", False),
        ("{ $.path.a = a }", False),
        ('{ $.["a b"] = "x" }', True),
        ('{ $.message = "say \\"hi\\" [now]?" }', True),
        ('{ $.message = "say *?" }', True),
        ('{ $.message = "say *now" }', False),
        ("{ $.path = a }", False),
    ],
)
def test_fields_of_json(pattern: str, expected: bool) -> None:
    assert compiled(pattern)(EVENT) is expected


@pytest.mark.parametrize("message", ["", "ERROR", "{", "[" * 100_000, '"text"', "7"])
def test_what_is_no_json_has_no_field(message: str) -> None:
    assert not compiled("{ $.level NOT EXISTS }")(message) or message == ""


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{ $.a = 1", "a closing brace is missing"),
        ("{ }", "expected a selector such as $.level, got the end"),
        ("{ level = 1 }", "expected a selector such as $.level, got 'level'"),
        ("{ $.a }", "expected an operator, got the end"),
        ("{ $.a ( }", "expected an operator, got '('"),
        ("{ $.a > high }", "expected a number, got 'high'"),
        ("{ $.a = }", "expected a value, got the end"),
        ("{ $.a = 1 $.b = 2 }", "expected the end, got '$.b'"),
        ("{ ($.a = 1 }", "expected a closing parenthesis, got the end"),
        ("{ $.a IS BLUE }", "expected NULL, TRUE or FALSE, got 'BLUE'"),
        ("{ $.a NOT THERE }", "expected EXISTS, got 'THERE'"),
        ("{ " + "(" * 30 + "$.a = 1" + ")" * 30 + " }", "too many parentheses"),
        ("{ $.a = 'x & y' }", 'not understood: "& y\'"'),
        ('"open', "a quotation mark is missing in '\"open'"),
        ("[ip, user", "a closing bracket is missing"),
        ("[..., ip, ...]", "only one column can be ..."),
        ("[ip = ]", "expected a value, got the end"),
        ("%a+%", "regular expressions, %a%, are not supported"),
        ("a" * 1025, "longer than 1024 characters"),
    ],
)
def test_what_is_wrong_is_said(pattern: str, expected: str) -> None:
    with pytest.raises(BadPattern) as refused:
        compiled(pattern)
    assert str(refused.value) == f"Invalid filter pattern: {expected}"


@given(st.text(alphabet='{}[]()$."=<>!&|?-% aA1\\') | st.text(), st.text())
def test_no_pattern_breaks_it(pattern: str, message: str) -> None:
    with contextlib.suppress(BadPattern):
        compiled(pattern)(message)


ACCESS = '127.0.0.1 - frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534'


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("[ip, user, username, timestamp, request, status_code, bytes]", True),
        ("[ip, user, username, timestamp, request = *.html*, status_code = 4*, bytes]", True),
        ('[ip, user, username, timestamp, request = "GET *", status_code, bytes]', True),
        ('[ip, user, username, timestamp = "10/Oct*", request, status_code, bytes]', True),
        ("[ip, user, username, timestamp, request, status_code = 404, bytes > 1000]", True),
        ("[ip, user, username, timestamp, request, status_code, bytes <= 1000]", False),
        ("[ip, user, username, timestamp, request, status_code != 404, bytes]", False),
        ("[ip, user, username > 1, timestamp, request, status_code, bytes]", False),
        ("[..., status_code = 404, bytes]", True),
        ("[..., status_code = 200, bytes]", False),
        ("[ip = 127.*, ...]", True),
        ("[ip = 10.*, ...]", False),
        ("[ip, ..., bytes = 1534]", True),
        ("[..., status_code = 200 || status_code = 404, bytes]", True),
        ("[..., status_code >= 400 && status_code < 404, bytes]", False),
        ("[..., (status_code = 200 || status_code = 404) && status_code != 404, bytes]", False),
        ("[ip, user]", False),
        ("[a, b, c, d, e, f, g, h]", False),
        ("[a, b, c, d, e, f, g, ...]", True),
        ("[...]", True),
    ],
)
def test_columns(pattern: str, expected: bool) -> None:
    assert compiled(pattern)(ACCESS) is expected


@pytest.mark.parametrize(
    "pattern",
    [
        "[a, b",
        "[a, ..., b, ...]",
        "[a, ]",
        "[]",
        '[a = "b]',
        "[a = ]",
        "[a > x]",
        "[a b]",
        "[a = %x%]",
        "[= 1]",
        "%x%",
        "{ $.a = %x% }",
    ],
)
def test_columns_and_expressions_that_are_refused(pattern: str) -> None:
    with pytest.raises(BadPattern, match=r"^Invalid filter pattern: "):
        compiled(pattern)


def test_what_is_never_closed_is_a_word_like_any_other() -> None:
    assert compiled('[a = "[open", b = "x", c]')('[open "x" "y')
    line = '[ " ' * 100_000  # a function's: in time that grows with its square nobody would see the end of this
    assert compiled("[a, ...]")(line)

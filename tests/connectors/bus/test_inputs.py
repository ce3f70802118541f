"""What a target gets of an event: AWS's own examples first, then what they leave open."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn_bus import inputs
from eventfn_bus.inputs import Sight, compile_path, template

EVENT: dict[str, Any] = {
    "version": "0",
    "id": "7bf73129-1428-4cd3-a780-95db273d1602",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "account": "123456789012",
    "time": "2015-11-11T21:29:54Z",
    "region": "us-east-1",
    "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-abcd1111"],
    "detail": {
        "instance-id": "i-0123456789",
        "state": "RUNNING",
        "count": 3,
        "ratio": 1.5,
        "spot": True,
        "owner": None,
        "tags": ["a", "b"],
        "disks": [{"id": "d1", "gb": 8}, {"id": "d2"}, "other"],
        "said": 'he said "no"\nand left \\',
    },
}
RULE_ARN = "arn:aws:events:us-east-1:123456789012:rule/example"


def sight(event: dict[str, Any] = EVENT) -> Sight:
    return Sight(event, msgspec.json.encode(event), 1_447_277_395_678, RULE_ARN, "example")


def filled(text: str, paths: dict[str, str]) -> Any:
    return msgspec.json.decode(template(text, paths)(sight()))


PATHS = {"timestamp": "$.time", "instance": "$.detail.instance-id", "state": "$.detail.state"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The rows of "Input transform examples".
        ('"instance <instance> is in <state>"', "instance i-0123456789 is in RUNNING"),
        (r'"instance \"<instance>\" is in <state>"', 'instance "i-0123456789" is in RUNNING'),
        ('{\n  "instance" : <instance>,\n  "state": <state>\n}', {"instance": "i-0123456789", "state": "RUNNING"}),
        (
            r'{"instance": <instance>, "state": "<state>", "instanceStatus": "instance \"<instance>\" is in <state>"}',
            {
                "instance": "i-0123456789",
                "state": "RUNNING",
                "instanceStatus": 'instance "i-0123456789" is in RUNNING',
            },
        ),
        (
            '{"instance": <instance>, "state": [ 9, <state>, true ], "Transformed" : "Yes"}',
            {"instance": "i-0123456789", "state": [9, "RUNNING", True], "Transformed": "Yes"},
        ),
        (
            '{"ruleArn": <aws.events.rule-arn>, "ruleName": <aws.events.rule-name>, "event": <aws.events.event.json>}',
            {"ruleArn": RULE_ARN, "ruleName": "example", "event": EVENT},
        ),
        ('{"event": <aws.events.event>}', {"event": {key: EVENT[key] for key in EVENT if key != "detail"}}),
        ('"<aws.events.rule-name> triggered"', "example triggered"),
        (
            r'{"timestamp" : <timestamp>, "message": "instance \"<instance>\" is in <state>"}',
            {"timestamp": "2015-11-11T21:29:54Z", "message": 'instance "i-0123456789" is in RUNNING'},
        ),
        ('{"at": "<aws.events.event.ingestion-time>"}', {"at": "2015-11-11T21:29:55Z"}),
        ("<instance>", "i-0123456789"),
        ('["<state>", "a < b > c"]', ["RUNNING", "a < b > c"]),
        ('"fixed"', "fixed"),
    ],
)
def test_a_template(text: str, expected: Any) -> None:
    assert filled(text, PATHS) == expected


@pytest.mark.parametrize(
    ("path", "bare", "in_quotes"),
    [
        ("$.detail.count", 3, "3"),
        ("$.detail.ratio", 1.5, "1.5"),
        ("$.detail.spot", True, "true"),
        ("$.detail.owner", None, "null"),
        ("$.detail.tags", ["a", "b"], '["a","b"]'),
        ("$.detail.disks[0]", {"id": "d1", "gb": 8}, '{"id":"d1","gb":8}'),
        ("$.detail.said", 'he said "no"\nand left \\', 'he said "no"\nand left \\'),
        # not in the event: nothing appears
        ("$.detail.missing", "", ""),
        ("$.detail.tags[9]", "", ""),
        ("$.detail.state.inner", "", ""),
    ],
)
def test_a_value_stands_bare_or_in_quotes(path: str, bare: Any, in_quotes: str) -> None:
    assert filled('{"bare": <it>, "quoted": "[<it>]"}', {"it": path}) == {"bare": bare, "quoted": f"[{in_quotes}]"}


@pytest.mark.parametrize(
    ("text", "paths", "message"),
    [
        ("instance <i> is up", {"i": "$.id"}, "input_template: it is not JSON .* a text needs quotes"),
        ('{"<i>": 1}', {"i": "$.id"}, "input_template: a variable cannot be the key of an object"),
        ('{"a": {"x <i>": [1]}}', {"i": "$.id"}, "input_template: a variable cannot be the key of an object"),
        ('"<other>"', {"i": "$.id"}, "input_template: <other> is no variable: define it in input_paths_map"),
        ('"<aws.events.nothing>"', {}, "input_template: <aws.events.nothing> is no variable"),
        ('"all: <aws.events.event.json>"', {}, "input_template: <aws.events.event.json> is JSON and cannot stand"),
        (r'"\<i>"', {"i": "$.id"}, "input_template: it is not JSON"),
        ("", {}, "input_template: expected 1 to 8192 characters, got 0"),
        ('"%s"' % ("x" * 8192), {}, "input_template: expected 1 to 8192 characters, got 8194"),
        ('"x"', {"aws.i": "$.id"}, "input_paths_map: expected a name of letters"),
        ('"x"', {"AWSi": "$.id"}, "input_paths_map: expected a name of letters"),
        ('"x"', {"i": "detail"}, "input_paths_map: i: expected a path such as"),
        ('"x"', {f"i{n}": "$.id" for n in range(101)}, "input_paths_map: expected at most 100 variables, got 101"),
    ],
)
def test_a_template_that_is_refused(text: str, paths: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        template(text, paths)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$", EVENT),
        ("$.source", "aws.ec2"),
        ("$.detail-type", "EC2 Instance State-change Notification"),
        ("$.resources[0]", "arn:aws:ec2:us-east-1:123456789012:instance/i-abcd1111"),
        ("$.resources[1]", msgspec.UNSET),
        ("$.detail.disks[*].id", ["d1", "d2"]),
        ("$.detail.disks[*].gb", [8]),
        ("$.detail.tags[*]", ["a", "b"]),
        ("$.detail.missing[*]", msgspec.UNSET),
        ("$.detail.state[*]", msgspec.UNSET),
        ("$.detail.tags.a", msgspec.UNSET),
        ("$.detail[0]", msgspec.UNSET),
    ],
)
def test_a_path(path: str, expected: Any) -> None:
    assert compile_path(path)(EVENT) == expected


@pytest.mark.parametrize(
    "path", ["", "detail", "$detail", "$.", "$..a", "$.a[", "$.a[x]", "$.a[-1]", "$['a']", "$.a b"]
)
def test_a_path_that_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="expected a path such as"):
        compile_path(path)


def test_the_other_inputs() -> None:
    assert inputs.whole(sight()) == msgspec.json.encode(EVENT)
    assert inputs.constant({"a": [1]})(sight()) == b'{"a":[1]}'
    assert inputs.part("$.detail.tags")(sight()) == b'["a","b"]'
    assert inputs.part("$.detail.missing")(sight()) == b"null"


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(values)
def test_whatever_the_value_the_output_is_json_and_holds_it(value: Any) -> None:
    fill = template('{"bare": <it>, "quoted": "<<it>>"}', {"it": "$.detail.it"})
    found = msgspec.json.decode(fill(sight({"detail": {"it": value}})))
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    assert found == {"bare": value, "quoted": f"<{text}>"}

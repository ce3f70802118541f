"""The service model's constraints, in the words of recorded answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.api.errors import ApiError
from eventfn.api.service_model import service_model
from eventfn.api.validation import validate

MODEL = service_model()
NAME_PATTERN = MODEL.shapes["FunctionName"].pattern


def refused(operation: str, **given: Any) -> str | None:
    """The message; None: it is within the model."""
    told: ApiError | None = None
    try:
        validate(MODEL, MODEL.operations[operation], given)
    except ApiError as error:
        told = error
    if told is None:
        return None
    assert (told.status, told.code) == (400, "ValidationException")
    assert told.body.keys() == {"message"}
    return str(told.body["message"])


CREATE = {"FunctionName": "f", "Role": "arn:aws:iam::000000000000:role/r", "Code": {"ZipFile": b"x"}}
START = "1 validation error detected: "
FAILED = "failed to satisfy constraint: "


@pytest.mark.parametrize(
    ("operation", "given", "message"),
    [
        ("CreateFunction", CREATE, None),
        ("CreateFunction", {**CREATE, "Timeout": 900, "MemorySize": 128, "Layers": []}, None),
        ("CreateFunction", {**CREATE, "Runtime": "cobol"}, None),  # which has an error of its own
        ("CreateFunction", {**CREATE, "KMSKeyArn": ""}, None),
        (
            "CreateFunction",
            {**CREATE, "MemorySize": 127},
            f"{START}Value '127' at 'memorySize' {FAILED}Member must have value greater than or equal to 128",
        ),
        (
            "CreateFunction",
            {**CREATE, "Timeout": 0},
            f"{START}Value '0' at 'timeout' {FAILED}Member must have value greater than or equal to 1",
        ),
        (
            "CreateFunction",
            {**CREATE, "Description": "x" * 257},
            f"{START}Value '{'x' * 257}' at 'description' {FAILED}Member must have length less than or equal to 256",
        ),
        (
            "CreateFunction",
            {key: value for key, value in CREATE.items() if key != "Role"},
            f"{START}Value null at 'role' {FAILED}Member must not be null",
        ),
        (
            "CreateFunction",
            {**CREATE, "TracingConfig": {"Mode": "on"}},
            f"{START}Value 'on' at 'tracingConfig.mode' {FAILED}"
            "Member must satisfy enum value set: [Active, PassThrough]",
        ),
        (
            "CreateFunction",
            {**CREATE, "Architectures": ["riscv"]},
            f"{START}Value '[riscv]' at 'architectures' {FAILED}"
            "Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], "
            "Member must not be null]",
        ),
        (
            "CreateFunction",
            {**CREATE, "Architectures": ["x86_64", "arm64"]},
            f"{START}Value '[x86_64, arm64]' at 'architectures' {FAILED}"
            "Member must have length less than or equal to 1",
        ),
        (
            "CreateFunction",
            {**CREATE, "Environment": {"Variables": {"1A": "secret"}}},
            f"{START}Value at 'environment.variables' {FAILED}Map keys must satisfy constraint: "
            "[Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+, Member must not be null]",
        ),
        (
            "CreateAlias",
            {
                "FunctionName": "f",
                "Name": "a",
                "FunctionVersion": "1",
                "RoutingConfig": {"AdditionalVersionWeights": {"2": 1.5}},
            },
            f"{START}Value '{{2=1.5}}' at 'routingConfig.additionalVersionWeights' {FAILED}"
            "Map value must satisfy constraint: [Member must have value less than or equal to 1.0, "
            "Member must have value greater than or equal to 0.0, Member must not be null]",
        ),
        (
            "CreateAlias",
            {
                "FunctionName": "f",
                "Name": "a",
                "FunctionVersion": "1",
                "RoutingConfig": {"AdditionalVersionWeights": {"live": 0.5}},
            },
            f"{START}Value '{{live=0.5}}' at 'routingConfig.additionalVersionWeights' {FAILED}"
            "Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have "
            "length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+, "
            "Member must not be null]",
        ),
        (
            "PutFunctionRecursionConfig",
            {"FunctionName": "f", "RecursiveLoop": "stop"},
            f"{START}Value 'stop' at 'recursiveLoop' {FAILED}Member must satisfy enum value set: [Terminate, Allow]",
        ),
        (
            "ListFunctions",
            {"FunctionVersion": "SOME", "MaxItems": 10_001},
            "2 validation errors detected: Value 'SOME' at 'functionVersion' "
            f"{FAILED}Member must satisfy enum value set: [ALL]; Value '10001' at 'maxItems' {FAILED}"
            "Member must have value less than or equal to 10000",
        ),
        (
            "GetFunction",  # what stands in the query comes first
            {"FunctionName": "x" * 257, "Qualifier": "x" * 129},
            f"2 validation errors detected: Value '{'x' * 129}' at 'qualifier' {FAILED}"
            f"Member must have length less than or equal to 128; Value '{'x' * 257}' at 'functionName' {FAILED}"
            "Member must have length less than or equal to 256",
        ),
        (
            "UntagResource",
            {"Resource": "arn:aws:lambda:us-east-1:000000000000:function:f"},
            f"{START}Value null at 'tagKeys' {FAILED}Member must not be null",
        ),
        (
            "ListAliases",
            {"FunctionName": "a b"},
            f"{START}Value 'a b' at 'functionName' {FAILED}"
            f"Member must satisfy regular expression pattern: {NAME_PATTERN}",
        ),
    ],
)
def test_what_the_model_refuses(operation: str, given: dict[str, Any], message: str | None) -> None:
    assert refused(operation, **given) == message


def test_members_of_structures_in_lists_say_where() -> None:
    said = refused(
        "CreateFunction", **CREATE, FileSystemConfigs=[{"Arn": "x", "LocalMountPath": "/mnt/a"}, {"Arn": "y"}]
    )
    assert said is not None
    assert said.startswith("4 validation errors detected: ")
    assert "Value 'x' at 'fileSystemConfigs.1.member.arn' failed" in said
    assert "Value null at 'fileSystemConfigs.2.member.localMountPath' failed" in said


@pytest.mark.parametrize("digits", ["١٢٣", "１"])
def test_digits_are_those_of_ascii(digits: str) -> None:
    assert refused("GetFunction", FunctionName="f", Qualifier="x" + digits) is not None


@pytest.mark.parametrize(("key", "right"), [("Größe und 数", True), ("a;b", False), ("a\u00a0b", True), ("", False)])
def test_tags_are_of_letters_in_any_script(key: str, right: bool) -> None:
    asked = {"Resource": "arn:aws:lambda:us-east-1:000000000000:function:f", "Tags": {key: "v"}}
    assert (refused("TagResource", **asked) is None) is right


def test_a_huge_text_is_measured_and_not_matched() -> None:
    assert refused("GetFunction", FunctionName="a:" * 1_000_000) is not None


@given(st.sampled_from(sorted(MODEL.operations)), st.text(max_size=30))
def test_any_text_is_judged(operation: str, text: str) -> None:
    shape = MODEL.input_of(operation)
    texts = {name: text for name, member in shape.members.items() if MODEL.shapes[member.shape].type == "string"}
    refused(operation, **texts)

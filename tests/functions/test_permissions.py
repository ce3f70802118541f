"""IAM's evaluation, statement by statement."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.functions.permissions import Asked, Decision, evaluate

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
USER = "arn:aws:iam::000000000000:user/me"
SESSION = "arn:aws:sts::000000000000:assumed-role/R/s"


def asked(**given: Any) -> Asked:
    return Asked(
        **{"action": "lambda:InvokeFunction", "resource": ARN, "principal": USER, "account": "000000000000"} | given
    )


def allow(**members: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": ARN} | members


def deny(**members: Any) -> dict[str, Any]:
    return allow(Effect="Deny", **members)


@pytest.mark.parametrize(
    ("statements", "decision"),
    [
        ([], Decision.SILENT),
        ([allow()], Decision.ALLOWED),
        ([deny()], Decision.DENIED),
        ([allow(), deny()], Decision.DENIED),
        ([deny(), allow()], Decision.DENIED),
        ([allow(), deny(Action="lambda:GetFunction")], Decision.ALLOWED),
        ([allow(Action="lambda:GetFunction")], Decision.SILENT),
        ([allow(Effect="Maybe")], Decision.SILENT),
        ([{}], Decision.SILENT),
    ],
)
def test_an_explicit_deny_wins(statements: list[dict[str, Any]], decision: Decision) -> None:
    assert evaluate(statements, asked()) is decision


@pytest.mark.parametrize(
    ("action", "matches"),
    [
        ("*", True),
        ("lambda:*", True),
        ("LAMBDA:invoke*", True),
        ("lambda:Invoke?unction", True),
        (["lambda:GetFunction", "lambda:InvokeFunction"], True),
        ("lambda:Invoke", False),
        ("lambda:InvokeFunctionUrl", False),
        ("s3:*", False),
        ("", False),
        ([], False),
    ],
)
def test_actions_have_wildcards_and_no_case(action: Any, matches: bool) -> None:
    assert (evaluate([allow(Action=action)], asked()) is Decision.ALLOWED) is matches
    opposite = {"Effect": "Allow", "NotAction": action, "Resource": "*"}
    assert (evaluate([opposite], asked()) is Decision.ALLOWED) is not matches


@pytest.mark.parametrize(
    ("resource", "matches"),
    [
        ("*", True),
        (ARN, True),
        (ARN + ":*", False),
        (ARN + "*", True),
        (ARN.upper(), False),
        ("arn:aws:lambda:*:*:function:?", True),
        ("arn:aws:lambda:*:*:function:g", False),
        ([ARN + "x", ARN], True),
        ("arn.aws.lambda.us-east-1.000000000000.function.f", False),  # a dot is a dot
    ],
)
def test_resources_have_wildcards(resource: Any, matches: bool) -> None:
    assert (evaluate([allow(Resource=resource)], asked()) is Decision.ALLOWED) is matches
    opposite = {"Effect": "Allow", "Action": "*", "NotResource": resource}
    assert (evaluate([opposite], asked()) is Decision.ALLOWED) is not matches


@pytest.mark.parametrize(
    ("principal", "matches"),
    [
        ("*", True),
        ({"AWS": "*"}, True),
        ({"AWS": USER}, True),
        ({"AWS": ["arn:aws:iam::000000000000:user/you", USER]}, True),
        ({"AWS": "000000000000"}, True),
        ({"AWS": "arn:aws:iam::000000000000:root"}, True),
        ({"AWS": "arn:aws:iam::111111111111:root"}, False),
        ({"AWS": "arn:aws:iam::000000000000:user/*"}, False),  # IAM has no wildcards within
        ({"Service": "s3.amazonaws.com"}, False),
        ({}, False),
        (USER, False),
    ],
)
def test_a_resources_policy_says_for_whom(principal: Any, matches: bool) -> None:
    found = evaluate([allow(Principal=principal)], asked(), of_resource=True)
    assert (found is Decision.ALLOWED) is matches


def test_a_role_stands_for_its_sessions_and_a_service_for_itself() -> None:
    role = [allow(Principal={"AWS": "arn:aws:iam::000000000000:role/R"})]
    assert evaluate(role, asked(principal=SESSION), of_resource=True) is Decision.ALLOWED
    assert evaluate(role, asked(), of_resource=True) is Decision.SILENT
    service = [allow(Principal={"Service": "s3.amazonaws.com"})]
    assert evaluate(service, asked(principal=None, service="s3.amazonaws.com"), of_resource=True) is Decision.ALLOWED
    assert evaluate(service, asked(principal=None, service="sns.amazonaws.com"), of_resource=True) is Decision.SILENT
    nobody = [allow(Principal={"AWS": "000000000000"})]
    assert evaluate(nobody, asked(principal=None, account=None), of_resource=True) is Decision.SILENT


CONTEXT = {
    "aws:sourcearn": ("arn:aws:s3:::bucket/key",),
    "aws:sourceaccount": ("000000000000",),
    "aws:securetransport": ("false",),
    "aws:sourceip": ("10.1.2.3",),
    "aws:currenttime": ("2026-11-21T12:00:00Z",),
    "lambda:layer": ("arn:a:1", "arn:b:2"),
    "n": ("7",),
}


@pytest.mark.parametrize(
    ("operator", "key", "wanted", "holds"),
    [
        ("StringEquals", "AWS:SourceAccount", "000000000000", True),
        ("StringEquals", "aws:SourceAccount", ["1", "000000000000"], True),
        ("StringEquals", "aws:SourceAccount", "00000000000*", False),
        ("StringNotEquals", "aws:SourceAccount", "1", True),
        ("StringNotEquals", "aws:SourceAccount", ["1", "000000000000"], False),
        ("StringLike", "aws:SourceAccount", "0000*", True),
        ("StringNotLike", "aws:SourceAccount", "0000*", False),
        ("StringEqualsIgnoreCase", "aws:SecureTransport", "FALSE", True),
        ("ArnLike", "aws:SourceArn", "arn:aws:s3:::bucket/*", True),
        ("ArnEquals", "aws:SourceArn", "arn:aws:s3:*:*:bucket/*", True),
        ("ArnLike", "aws:SourceArn", "arn:*", False),  # a wildcard stays within its part
        ("ArnLike", "aws:SourceArn", "arn:aws:s3:::other/*", False),
        ("ArnNotLike", "aws:SourceArn", "arn:aws:s3:::other/*", True),
        ("Bool", "aws:SecureTransport", "false", True),
        ("Bool", "aws:SecureTransport", False, True),
        ("Bool", "aws:SecureTransport", "true", False),
        ("IpAddress", "aws:SourceIp", "10.0.0.0/8", True),
        ("NotIpAddress", "aws:SourceIp", ["10.0.0.0/8"], False),
        ("IpAddress", "aws:SourceIp", "192.168.0.0/16", False),
        ("NumericEquals", "n", 7, True),
        ("NumericLessThan", "n", "8", True),
        ("NumericGreaterThanEquals", "n", "8", False),
        ("DateLessThan", "aws:CurrentTime", "2027-01-01T00:00:00Z", True),
        ("DateGreaterThan", "aws:CurrentTime", "2027-01-01T00:00:00Z", False),
        ("Null", "aws:SourceArn", "false", True),
        ("Null", "aws:nothing", "true", True),
        ("Null", "aws:nothing", "false", False),
        ("StringEquals", "aws:nothing", "x", False),
        ("StringEqualsIfExists", "aws:nothing", "x", True),
        ("StringEqualsIfExists", "aws:SourceAccount", "x", False),
        ("StringNotEquals", "aws:nothing", "x", True),
        ("ForAnyValue:StringEquals", "lambda:Layer", "arn:a:1", True),
        ("ForAllValues:StringEquals", "lambda:Layer", "arn:a:1", False),
        ("ForAllValues:StringLike", "lambda:Layer", "arn:*", True),
        ("ForAllValues:StringEquals", "aws:nothing", "x", True),
    ],
)
def test_conditions(operator: str, key: str, wanted: Any, holds: bool) -> None:
    statement = allow(Condition={operator: {key: wanted}})
    assert (evaluate([statement], asked(context=CONTEXT)) is Decision.ALLOWED) is holds


@pytest.mark.parametrize(
    "condition",
    [
        {"StringIsh": {"n": "7"}},
        {"Sometimes:StringEquals": {"n": "7"}},
        {"NumericEquals": {"n": "seven"}},
        {"DateEquals": {"aws:CurrentTime": "then"}},
        {"IpAddress": {"aws:SourceIp": "everywhere"}},
        "always",
    ],
)
def test_what_is_not_understood_allows_nothing_and_denies(condition: Any) -> None:
    assert evaluate([allow(Condition=condition)], asked(context=CONTEXT)) is Decision.SILENT
    assert evaluate([allow(), deny(Condition=condition)], asked(context=CONTEXT)) is Decision.DENIED


def test_all_operators_and_keys_must_hold() -> None:
    right = {"StringEquals": {"n": "7", "aws:SourceAccount": "000000000000"}, "Bool": {"aws:SecureTransport": "false"}}
    assert evaluate([allow(Condition=right)], asked(context=CONTEXT)) is Decision.ALLOWED
    wrong = {**right, "Bool": {"aws:SecureTransport": "true"}}
    assert evaluate([allow(Condition=wrong)], asked(context=CONTEXT)) is Decision.SILENT


def test_no_pattern_takes_long() -> None:
    """A matcher that tries every way would not come back."""
    statement = allow(Resource="*a" * 5_000 + "b")
    assert evaluate([statement], asked(resource="a" * 10_000)) is Decision.SILENT


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["AWS", "StringLike", "n"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["Effect", "Action", "Resource", "Principal", "Condition"]), json))
def test_no_statement_breaks_it(statement: dict[str, Any]) -> None:
    assert evaluate([{**statement, "Effect": "Allow"}], asked(), of_resource=True) in Decision

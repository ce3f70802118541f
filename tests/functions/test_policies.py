"""Resource policies: the statements that AddPermission makes, and what is refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.functions.policies import MAX_POLICY, added, parsed, permission, removed
from eventfn.functions.refusals import Refusal

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"


def asked(**more: Any) -> dict[str, Any]:
    base = {"StatementId": "s3", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
    return base | more


def test_a_statement_of_a_service_has_lambdas_order() -> None:
    assert json.dumps(permission(asked(), ARN)) == json.dumps(
        {
            "Sid": "s3",
            "Effect": "Allow",
            "Principal": {"Service": "s3.amazonaws.com"},
            "Action": "lambda:InvokeFunction",
            "Resource": ARN,
        }
    )


@pytest.mark.parametrize(
    ("given_principal", "stands"),
    [
        ("*", "*"),
        ("123456789012", {"AWS": "arn:aws:iam::123456789012:root"}),
        ("arn:aws:iam::123456789012:role/a/b", {"AWS": "arn:aws:iam::123456789012:role/a/b"}),
        ("arn:aws:iam::123456789012:root", {"AWS": "arn:aws:iam::123456789012:root"}),
        ("events.amazonaws.com", {"Service": "events.amazonaws.com"}),
        ("alexa-appkit.amazon.com", {"Service": "alexa-appkit.amazon.com"}),
    ],
)
def test_principals(given_principal: str, stands: Any) -> None:
    assert permission(asked(Principal=given_principal), ARN)["Principal"] == stands


@pytest.mark.parametrize(
    "principal",
    ["me", "12345678901", "arn:aws:iam::1:role/a", "evil.com", "s3.amazonaws.com.evil.com", "", "١٢٣٤٥٦٧٨٩٠١٢"],
)
def test_what_is_no_principal(principal: str) -> None:
    with pytest.raises(
        Refusal, match=r"^The provided principal was invalid\. Please check the principal and try again"
    ):
        permission(asked(Principal=principal), ARN)


def test_conditions() -> None:
    statement = permission(
        asked(
            Action="lambda:InvokeFunctionUrl",
            Principal="*",
            SourceArn="arn:aws:s3:::b",
            SourceAccount="123456789012",
            EventSourceToken="t",
            FunctionUrlAuthType="NONE",
            PrincipalOrgID="o-1234567890",
            InvokedViaFunctionUrl=True,
        ),
        ARN,
    )
    assert statement["Condition"] == {
        "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"},
        "StringEquals": {
            "AWS:SourceAccount": "123456789012",
            "lambda:EventSourceToken": "t",
            "lambda:FunctionUrlAuthType": "NONE",
            "aws:PrincipalOrgID": "o-1234567890",
        },
        "Bool": {"lambda:InvokedViaFunctionUrl": "true"},
    }


def test_a_url_type_is_for_urls_only() -> None:
    with pytest.raises(Refusal, match="FunctionUrlAuthType is only supported"):
        permission(asked(FunctionUrlAuthType="NONE"), ARN)


def test_a_sid_is_there_once() -> None:
    policy = added(None, permission(asked(), ARN))
    with pytest.raises(Refusal) as refused:
        added(policy, permission(asked(), ARN))
    assert refused.value.code == "ResourceConflictException"
    assert str(refused.value).startswith("The statement id (s3) provided already exists.")


def test_the_last_statement_takes_the_policy_with_it() -> None:
    policy = added(added(None, permission(asked(), ARN)), permission(asked(StatementId="two"), ARN))
    left = removed(policy, "s3")
    assert left is not None
    assert [each["Sid"] for each in left.statements] == ["two"]
    assert removed(left, "two") is None
    with pytest.raises(Refusal, match="Statement s3 is not found in resource policy"):
        removed(left, "s3")
    with pytest.raises(Refusal, match="No policy is associated"):
        removed(None, "s3")


def test_a_document_ends_at_its_limit() -> None:
    def sized(size: int) -> dict[str, Any]:
        empty = len(added(None, permission(asked(SourceArn=""), ARN)).document())
        return permission(asked(SourceArn="a" * (size - empty)), ARN)

    assert len(added(None, sized(MAX_POLICY)).document()) == MAX_POLICY
    with pytest.raises(Refusal) as refused:
        added(None, sized(MAX_POLICY + 1))
    assert refused.value.code == "PolicyLengthExceededException"
    assert refused.value.message == "The final policy size (20481) is bigger than the limit (20480)."


def test_a_document_that_somebody_wrote_comes_back() -> None:
    statement = permission(asked(), ARN)
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    assert json.loads(parsed(text, ARN).document()) == json.loads(text)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"Effect": "Maybe"}, "Effect"),
        ({"Action": "s3:GetObject"}, "Action"),
        ({"Action": []}, "Action"),
        ({"Resource": "*"}, "Resource"),
        ({"Principal": {"AWS": "nobody"}}, "Principal"),
        ({"Principal": {}}, "Principal"),
        ({"Condition": {"StringEquals": "x"}}, "Condition"),
        ({"More": 1}, "unknown element More"),
        ({"NotPrincipal": "*"}, "either Principal or NotPrincipal"),
    ],
)
def test_what_is_wrong_in_a_document(change: dict[str, Any], why: str) -> None:
    text = json.dumps({"Version": "2012-10-17", "Statement": [permission(asked(), ARN) | change]})
    with pytest.raises(Refusal, match=rf"malformed: Statement\[0\]: .*{why}"):
        parsed(text, ARN)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["Version", "Id", "Statement", "Effect", "Principal", "AWS", "Condition"]), inner
            )
        ),
    )
)
def test_any_document_is_a_policy_or_refused(document: Any) -> None:
    with contextlib.suppress(Refusal):
        assert parsed(json.dumps(document), ARN).statements

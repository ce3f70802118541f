"""Resource policies by boto3: statements one by one, and whole documents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.lab import ACCOUNT, MISSING, Lab, arn

PERMISSION: dict[str, Any] = {
    "StatementId": "s3",
    "Action": "lambda:InvokeFunction",
    "Principal": "s3.amazonaws.com",
    "SourceArn": "arn:aws:s3:::bucket",
    "SourceAccount": ACCOUNT,
}


def statement(resource: str) -> dict[str, Any]:
    return {
        "Sid": "s3",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "lambda:InvokeFunction",
        "Resource": resource,
        "Condition": {
            "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"},
            "StringEquals": {"AWS:SourceAccount": ACCOUNT},
        },
    }


@pytest.mark.parametrize("name", ["declared", None])
def test_statements_of_a_function(lab: Lab, name: str | None) -> None:
    name = name or lab.function()
    before = lab("get_function_configuration", FunctionName=name)["RevisionId"]
    assert lab.refused("get_policy", FunctionName=name) == MISSING
    added = lab("add_permission", FunctionName=name, **PERMISSION)
    assert json.loads(added["Statement"]) == statement(arn(name))
    policy = lab("get_policy", FunctionName=name)
    assert json.loads(policy["Policy"]) == {
        "Version": "2012-10-17",
        "Id": "default",
        "Statement": [statement(arn(name))],
    }
    assert before != policy["RevisionId"] == lab("get_function_configuration", FunctionName=name)["RevisionId"]
    assert lab.refused("add_permission", FunctionName=name, **PERMISSION)[0] == "ResourceConflictException"
    assert lab.refused(
        "add_permission", FunctionName=name, **{**PERMISSION, "StatementId": "two", "RevisionId": before}
    ) == (
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetPolicy API to retrieve the latest Revision Id",
    )
    assert lab.refused("remove_permission", FunctionName=name, StatementId="two") == (
        "ResourceNotFoundException",
        "Statement two is not found in resource policy.",
    )
    assert lab.status("remove_permission", FunctionName=name, StatementId="s3") == 204
    assert lab.refused("get_policy", FunctionName=name) == MISSING
    assert lab.refused("remove_permission", FunctionName=name, StatementId="s3") == (
        "ResourceNotFoundException",
        "No policy is associated with the given resource.",
    )


def test_versions_and_aliases_have_policies_of_their_own(lab: Lab) -> None:
    name = lab.function()
    version = lab.published(name)
    lab("create_alias", FunctionName=name, Name="live", FunctionVersion=version)
    lab("add_permission", FunctionName=name, Qualifier="live", **PERMISSION)
    lab("add_permission", FunctionName=arn(name, version), **PERMISSION)
    policy = json.loads(lab("get_policy", FunctionName=name, Qualifier="live")["Policy"])
    assert policy["Statement"] == [statement(arn(name, "live"))]
    assert lab.refused("get_policy", FunctionName=name) == MISSING
    alias = lab("get_alias", FunctionName=name, Name="live")
    assert alias["RevisionId"] == lab("get_policy", FunctionName=name, Qualifier="live")["RevisionId"]
    assert lab.refused("add_permission", FunctionName=name, Qualifier="$LATEST", **PERMISSION) == (
        "InvalidParameterValueException",
        "We currently do not support adding policies for $LATEST.",
    )
    assert lab.refused("add_permission", FunctionName=name, Qualifier="other", **PERMISSION) == (
        "ResourceNotFoundException",
        f"Function not found: {arn(name, 'other')}",
    )


def test_whom_there_is_not(lab: Lab) -> None:
    assert lab.refused("remove_permission", FunctionName="nobody", StatementId="s3") == (
        "ResourceNotFoundException",
        f"No policy found for: {arn('nobody')}",
    )
    assert lab.refused("add_permission", FunctionName="declared", **{**PERMISSION, "Principal": "somebody"}) == (
        "InvalidParameterValueException",
        "The provided principal was invalid. Please check the principal and try again.",
    )


def test_whole_documents_replace_what_was_there(lab: Lab) -> None:
    name = lab.function()
    lab("add_permission", FunctionName=name, **PERMISSION)
    other = {**statement(arn(name)), "Sid": "other", "Effect": "Deny", "Principal": "*"}
    document = {"Version": "2012-10-17", "Statement": [other]}
    put = lab("put_resource_policy", ResourceArn=arn(name), Policy=json.dumps(document))
    assert json.loads(put["Policy"]) == document
    assert lab("get_resource_policy", ResourceArn=arn(name)) == put
    assert json.loads(lab("get_policy", FunctionName=name)["Policy"]) == document
    code, message = lab.refused("put_resource_policy", ResourceArn=arn(name), Policy='{"Statement": []}')
    assert (code, message.startswith("The policy document is malformed")) == ("InvalidParameterValueException", True)
    stale = "00000000-0000-0000-0000-000000000000"
    code, _ = lab.refused("delete_resource_policy", ResourceArn=arn(name), RevisionId=stale)
    assert code == "PreconditionFailedException"
    lab("delete_resource_policy", ResourceArn=arn(name), RevisionId=put["RevisionId"])
    assert lab.refused("get_resource_policy", ResourceArn=arn(name)) == MISSING

"""Layers by boto3: versions, what a function finds in /opt, policies, locations."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.request
from typing import Any

from tests.api.boto import REGION
from tests.api.lab import ACCOUNT, MISSING, Lab, zipped

FIRST = zipped(python__shared="SAYS = 'first'\n", python__one="ONE = 1\n")
SECOND = zipped(python__shared="SAYS = 'second'\n")
READS = zipped(
    app="""
import one
import shared


def handler(event, context):
    return [shared.SAYS, one.ONE]
"""
)


def layer_arn(name: str, number: int | None = None) -> str:
    found = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:{name}"
    return found if number is None else f"{found}:{number}"


def publish(lab: Lab, name: str, content: bytes = FIRST, **more: Any) -> dict[str, Any]:
    return lab("publish_layer_version", LayerName=name, Content={"ZipFile": content}, **more)


def test_versions_are_numbered_shown_and_fetched(lab: Lab) -> None:
    made = publish(lab, "shown", Description="d", LicenseInfo="MIT", CompatibleRuntimes=["python3.11"])
    content = made.pop("Content")
    assert made.pop("CreatedDate").endswith("+0000")
    assert made == {
        "LayerArn": layer_arn("shown"),
        "LayerVersionArn": layer_arn("shown", 1),
        "Version": 1,
        "Description": "d",
        "LicenseInfo": "MIT",
        "CompatibleRuntimes": ["python3.11"],
    }
    assert content["CodeSize"] == len(FIRST)
    assert content["CodeSha256"] == base64.b64encode(hashlib.sha256(FIRST).digest()).decode()
    with urllib.request.urlopen(content["Location"]) as answer:
        assert answer.read() == FIRST
    assert publish(lab, layer_arn("shown"), SECOND)["Version"] == 2
    assert lab("get_layer_version", LayerName="shown", VersionNumber=1)["LayerVersionArn"] == layer_arn("shown", 1)
    by_arn = lab("get_layer_version_by_arn", Arn=layer_arn("shown", 2))
    assert (by_arn["Version"], by_arn["Content"]["CodeSize"]) == (2, len(SECOND))

    versions = lab("list_layer_versions", LayerName="shown")["LayerVersions"]
    assert [each["Version"] for each in versions] == [2, 1]
    fitting = lab("list_layer_versions", LayerName="shown", CompatibleRuntime="python3.11")["LayerVersions"]
    assert [each["Version"] for each in fitting] == [1]
    page = lab("list_layer_versions", LayerName="shown", MaxItems=1)
    rest = lab("list_layer_versions", LayerName="shown", MaxItems=1, Marker=page["NextMarker"])
    assert ([each["Version"] for each in rest["LayerVersions"]], "NextMarker" in rest) == ([1], False)
    listed = {each["LayerName"]: each for each in lab("list_layers")["Layers"]}
    assert listed["shown"]["LatestMatchingVersion"]["Version"] == 2

    assert lab.status("delete_layer_version", LayerName="shown", VersionNumber=2) == 204
    assert lab.status("delete_layer_version", LayerName="shown", VersionNumber=2) == 204
    assert lab.refused("get_layer_version", LayerName="shown", VersionNumber=2) == MISSING
    assert publish(lab, "shown", SECOND)["Version"] == 3
    assert lab("list_layer_versions", LayerName="nobody")["LayerVersions"] == []
    assert lab.refused("get_layer_version", LayerName="shown", VersionNumber=0) == (
        "InvalidParameterValueException",
        "Layer Version Cannot be less than 1",
    )


def test_later_layers_overwrite_earlier_ones_and_outlive_their_deletion(lab: Lab) -> None:
    publish(lab, "first", FIRST)
    publish(lab, "second", SECOND)
    layers = [layer_arn("first", 1), layer_arn("second", 1)]
    name = lab.function(READS, Layers=layers)
    assert lab.invoke(name) == ["second", 1]
    shown = lab("get_function_configuration", FunctionName=name)["Layers"]
    assert [each["Arn"] for each in shown] == layers
    lab("delete_layer_version", LayerName="first", VersionNumber=1)
    lab("update_function_configuration", FunctionName=name, Layers=[], Description="x")
    lab.until("get_function_configuration", "LastUpdateStatus", "Successful", FunctionName=name)
    assert lab.refused("update_function_configuration", FunctionName=name, Layers=[layer_arn("first", 1)]) == (
        "InvalidParameterValueException",
        f"Layer version {layer_arn('first', 1)} does not exist.",
    )


def test_a_function_keeps_a_layer_that_was_deleted(lab: Lab) -> None:
    publish(lab, "kept", FIRST)
    name = lab.function(READS, Layers=[layer_arn("kept", 1)])
    lab("delete_layer_version", LayerName="kept", VersionNumber=1)
    assert lab.invoke(name) == ["first", 1]


def test_bad_content_makes_no_version(lab: Lab) -> None:
    code, message = lab.refused("publish_layer_version", LayerName="bad", Content={"ZipFile": b"no zip"})
    assert (code, message) == (
        "InvalidParameterValueException",
        "Could not unzip uploaded file. Please check your file, then try to upload again.",
    )
    assert "bad" not in [each["LayerName"] for each in lab("list_layers")["Layers"]]


def test_policies(lab: Lab) -> None:
    publish(lab, "shared")
    version = {"LayerName": "shared", "VersionNumber": 1}
    none = ("ResourceNotFoundException", "No policy is associated with the given resource.")
    assert lab.refused("get_layer_version_policy", **version) == none
    added = lab(
        "add_layer_version_permission",
        **version,
        StatementId="org",
        Action="lambda:GetLayerVersion",
        Principal="*",
        OrganizationId="o-1234567890",
    )
    statement = {
        "Sid": "org",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "lambda:GetLayerVersion",
        "Resource": layer_arn("shared", 1),
        "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}},
    }
    assert json.loads(added["Statement"]) == statement
    policy = lab("get_layer_version_policy", **version)
    assert json.loads(policy["Policy"])["Statement"] == [statement]
    assert policy["RevisionId"] == added["RevisionId"]
    stale = "00000000-0000-0000-0000-000000000000"
    code, message = lab.refused("remove_layer_version_permission", **version, StatementId="org", RevisionId=stale)
    assert (code, "GetLayerPolicy" in message) == ("PreconditionFailedException", True)
    lab("remove_layer_version_permission", **version, StatementId="org", RevisionId=added["RevisionId"])
    assert lab.refused("get_layer_version_policy", **version) == none


def test_other_accounts_layers_are_not_ours(lab: Lab) -> None:
    other = "arn:aws:lambda:us-east-1:123456789012:layer:shown"
    assert lab.refused("get_layer_version", LayerName=other, VersionNumber=1)[0] == "AccessDeniedException"
    assert lab.refused("get_layer_version_by_arn", Arn=f"{other}:1") == MISSING

"""Tags by boto3, of each kind of resource that has an ARN. Those of mappings: test_mappings.py."""

from __future__ import annotations

import pytest

from tests.api.boto import REGION
from tests.api.lab import ACCOUNT, Lab, arn

INVALID = "InvalidParameterValueException"


def of_function(lab: Lab) -> str:
    return arn(lab.function())


def of_signing(lab: Lab) -> str:
    profile = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/p/1"
    made = lab("create_code_signing_config", AllowedPublishers={"SigningProfileVersionArns": [profile]})
    found: str = made["CodeSigningConfig"]["CodeSigningConfigArn"]
    return found


def of_capacity(lab: Lab) -> str:
    made = lab(
        "create_capacity_provider",
        CapacityProviderName="tagged",
        VpcConfig={"SubnetIds": ["subnet-1"], "SecurityGroupIds": []},
        PermissionsConfig={"CapacityProviderOperatorRoleArn": f"arn:aws:iam::{ACCOUNT}:role/r"},
    )
    found: str = made["CapacityProvider"]["CapacityProviderArn"]
    return found


@pytest.mark.parametrize("make", [of_function, of_signing, of_capacity])
def test_tags_come_and_go(lab: Lab, make: object) -> None:
    assert callable(make)
    resource = make(lab)
    assert lab("list_tags", Resource=resource)["Tags"] == {}
    assert lab.status("tag_resource", Resource=resource, Tags={"a": "1", "b": "2"}) == 204
    lab("tag_resource", Resource=resource, Tags={"b": "3", "c": ""})
    assert lab("list_tags", Resource=resource)["Tags"] == {"a": "1", "b": "3", "c": ""}
    assert lab.status("untag_resource", Resource=resource, TagKeys=["a", "c", "not there"]) == 204
    assert lab("list_tags", Resource=resource)["Tags"] == {"b": "3"}
    lab("tag_resource", Resource=resource, Tags={str(number): "x" for number in range(49)})
    assert lab.refused("tag_resource", Resource=resource, Tags={"more": "x"}) == (
        INVALID,
        "Number of tags exceeds resource tag limit.",
    )


def test_a_function_shows_its_tags_and_has_a_new_revision(lab: Lab) -> None:
    name = lab.function(Tags={"team": "shop"})
    before = lab("get_function", FunctionName=name)
    assert before["Tags"] == {"team": "shop"}
    lab("tag_resource", Resource=arn(name), Tags={"a": "b"})
    after = lab("get_function", FunctionName=name)
    assert after["Tags"] == {"team": "shop", "a": "b"}
    assert after["Configuration"]["RevisionId"] != before["Configuration"]["RevisionId"]


def test_what_is_refused(lab: Lab) -> None:
    name = lab.function()
    assert lab.refused("tag_resource", Resource=arn(name, "$LATEST"), Tags={"a": "b"}) == (
        INVALID,
        "Tags on function aliases and versions are not supported. Please specify a function ARN.",
    )
    assert lab.refused("tag_resource", Resource=arn(name), Tags={}) == (
        INVALID,
        "An error occurred and the request cannot be processed.",
    )
    assert lab.refused("list_tags", Resource=arn("nobody")) == (
        "ResourceNotFoundException",
        f"Function not found: {arn('nobody')}",
    )
    mapping = f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:5dbd0f70-4e8b-4d3e-a5a8-0d5cf4f6e1a1"
    assert lab.refused("list_tags", Resource=mapping) == (
        "ResourceNotFoundException",
        f"Event source mapping not found: {mapping}",
    )
    assert lab.refused("tag_resource", Resource=arn("declared"), Tags={"a": "b"})[0] == "ResourceConflictException"

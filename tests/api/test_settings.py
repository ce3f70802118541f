"""The smaller resources by boto3: the account, recursion, scaling, code signing, capacity."""

from __future__ import annotations

from typing import Any

from tests.api.boto import REGION
from tests.api.lab import ACCOUNT, MISSING, Lab, arn

INVALID = "InvalidParameterValueException"
PROFILE = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/p/1"
PROVIDER: dict[str, Any] = {
    "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
    "PermissionsConfig": {"CapacityProviderOperatorRoleArn": f"arn:aws:iam::{ACCOUNT}:role/r"},
}


def test_the_account_counts_what_there_is(lab: Lab) -> None:
    before = lab("get_account_settings")
    assert before["AccountLimit"]["CodeSizeUnzipped"] == 262_144_000
    assert before["AccountLimit"]["ConcurrentExecutions"] == 1000
    name = lab.function()
    size = lab("get_function_configuration", FunctionName=name)["CodeSize"]
    lab.published(name)
    lab("put_function_concurrency", FunctionName=name, ReservedConcurrentExecutions=7)
    after = lab("get_account_settings")
    assert after["AccountUsage"]["FunctionCount"] == before["AccountUsage"]["FunctionCount"] + 1
    assert after["AccountUsage"]["TotalCodeSize"] == before["AccountUsage"]["TotalCodeSize"] + 2 * size
    left = "UnreservedConcurrentExecutions"
    assert after["AccountLimit"][left] == before["AccountLimit"][left] - 7
    lab("delete_function", FunctionName=name)
    assert lab("get_account_settings") == before


def test_recursion(lab: Lab) -> None:
    name = lab.function()
    assert lab("get_function_recursion_config", FunctionName=name) == {"RecursiveLoop": "Terminate"}
    assert lab("put_function_recursion_config", FunctionName=name, RecursiveLoop="Allow") == {"RecursiveLoop": "Allow"}
    assert lab("get_function_recursion_config", FunctionName=name) == {"RecursiveLoop": "Allow"}
    code, message = lab.refused("put_function_recursion_config", FunctionName=name, RecursiveLoop="Maybe")
    assert code == "ValidationException"
    assert message.endswith("Member must satisfy enum value set: [Terminate, Allow]")


def test_scaling(lab: Lab) -> None:
    name = lab.function()
    version = lab.published(name)
    given = {"FunctionName": name, "Qualifier": version}
    config = {"MinExecutionEnvironments": 1, "MaxExecutionEnvironments": 5}
    assert lab("put_function_scaling_config", **given, FunctionScalingConfig=config) == {"FunctionState": "Active"}
    assert lab("get_function_scaling_config", **given) == {
        "FunctionArn": arn(name, version),
        "AppliedFunctionScalingConfig": config,
        "RequestedFunctionScalingConfig": config,
    }
    upside_down = {"MinExecutionEnvironments": 5, "MaxExecutionEnvironments": 1}
    assert lab.refused("put_function_scaling_config", **given, FunctionScalingConfig=upside_down)[0] == INVALID
    code, _ = lab.refused("get_function_scaling_config", FunctionName=name, Qualifier="9")
    assert code == "ResourceNotFoundException"


def test_code_signing(lab: Lab) -> None:
    publishers = {"SigningProfileVersionArns": [PROFILE]}
    made = lab("create_code_signing_config", AllowedPublishers=publishers, Description="d")["CodeSigningConfig"]
    config = made["CodeSigningConfigArn"]
    assert config.endswith(f":code-signing-config:{made['CodeSigningConfigId']}")
    assert made["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Warn"}
    updated = lab(
        "update_code_signing_config",
        CodeSigningConfigArn=config,
        CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Enforce"},
    )["CodeSigningConfig"]
    assert (updated["Description"], updated["AllowedPublishers"]) == ("d", publishers)
    assert updated["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Enforce"}
    assert lab("get_code_signing_config", CodeSigningConfigArn=config)["CodeSigningConfig"] == updated
    assert updated in lab("list_code_signing_configs")["CodeSigningConfigs"]

    name = lab.function()
    assert lab("get_function_code_signing_config", FunctionName=name) == {}
    lab("put_function_code_signing_config", FunctionName=name, CodeSigningConfigArn=config)
    attached = {"CodeSigningConfigArn": config, "FunctionName": name}
    assert lab("get_function_code_signing_config", FunctionName=name) == attached
    assert lab("list_functions_by_code_signing_config", CodeSigningConfigArn=config)["FunctionArns"] == [arn(name)]
    assert lab.refused("delete_code_signing_config", CodeSigningConfigArn=config)[0] == "ResourceConflictException"
    assert lab.status("delete_function_code_signing_config", FunctionName=name) == 204
    assert lab.status("delete_code_signing_config", CodeSigningConfigArn=config) == 204
    assert lab.refused("get_code_signing_config", CodeSigningConfigArn=config) == (
        "ResourceNotFoundException",
        f"The Lambda code signing configuration {config} can not be found.",
    )
    assert lab.refused("put_function_code_signing_config", FunctionName=name, CodeSigningConfigArn=config) == (
        "CodeSigningConfigNotFoundException",
        "The code signing configuration cannot be found. "
        f"Check that the provided configuration is not deleted: {config}.",
    )


def test_capacity_providers(lab: Lab) -> None:
    name = "fleet"
    arn_of = f"arn:aws:lambda:{REGION}:{ACCOUNT}:capacity-provider:{name}"
    made = lab("create_capacity_provider", CapacityProviderName=name, **PROVIDER)["CapacityProvider"]
    made.pop("LastModified")
    assert made == {"CapacityProviderArn": arn_of, "State": "Pending", **PROVIDER}
    again = lab.refused("create_capacity_provider", CapacityProviderName=name, **PROVIDER)
    assert again[0] == "ResourceConflictException"
    scaling = {"MaxVCpuCount": 10, "ScalingMode": "Auto"}
    lab("update_capacity_provider", CapacityProviderName=name, CapacityProviderScalingConfig=scaling)
    found = lab("get_capacity_provider", CapacityProviderName=arn_of)["CapacityProvider"]
    assert (found["State"], found["CapacityProviderScalingConfig"]) == ("Active", scaling)
    assert found in lab("list_capacity_providers")["CapacityProviders"]
    versions = lab("list_function_versions_by_capacity_provider", CapacityProviderName=name)
    assert versions == {"CapacityProviderArn": arn_of, "FunctionVersions": []}
    assert lab("delete_capacity_provider", CapacityProviderName=name)["CapacityProvider"]["State"] == "Deleting"
    assert lab.refused("get_capacity_provider", CapacityProviderName=name)[0] == MISSING[0]

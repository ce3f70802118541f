"""The smaller resources by boto3: the account, recursion, scaling, code signing, capacity."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.api.boto import REGION
from tests.api.lab import ACCOUNT, ECHO, MISSING, ROLE, Lab, arn, zipped
from tests.support import PATIENCE

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


def on_capacity(lab: Lab, code: bytes = ECHO) -> tuple[str, str]:
    """A function and its version that is published to a capacity provider."""
    provider = f"arn:aws:lambda:{REGION}:{ACCOUNT}:capacity-provider:any"
    config = {"LambdaManagedInstancesCapacityProviderConfig": {"CapacityProviderArn": provider}}
    name = lab.function(code, CapacityProviderConfig=config)
    return name, lab.published(name)


def scaled(least: int, most: int) -> dict[str, int]:
    return {"MinExecutionEnvironments": least, "MaxExecutionEnvironments": most}


def test_scaling(lab: Lab) -> None:
    name, version = on_capacity(lab)
    given, config = {"FunctionName": name, "Qualifier": version}, scaled(1, 5)
    assert lab("put_function_scaling_config", **given, FunctionScalingConfig=config) == {"FunctionState": "Active"}
    assert lab("get_function_scaling_config", **given) == {
        "FunctionArn": arn(name, version),
        "AppliedFunctionScalingConfig": config,
        "RequestedFunctionScalingConfig": config,
    }
    assert lab.refused("put_function_scaling_config", **given, FunctionScalingConfig=scaled(5, 1))[0] == INVALID
    code, _ = lab.refused("get_function_scaling_config", FunctionName=name, Qualifier="9")
    assert code == "ResourceNotFoundException"
    plain = lab.function()
    given = {"FunctionName": plain, "Qualifier": lab.published(plain)}
    assert lab.refused("put_function_scaling_config", **given, FunctionScalingConfig=config) == (
        INVALID,
        "A scaling config is of a function version that is published to a capacity provider.",
    )


WHICH = zipped(
    app="""
import time, uuid
print("initialized")
environment = uuid.uuid4().hex

def handler(event, context):
    time.sleep(event)
    return environment
"""
)


def test_a_version_has_as_many_environments_as_it_is_scaled_to(lab: Lab) -> None:
    name, version = on_capacity(lab, WHICH)
    given = {"FunctionName": name, "Qualifier": version}
    lab("put_function_scaling_config", **given, FunctionScalingConfig=scaled(2, 2))
    deadline = time.monotonic() + PATIENCE
    while lab.logs(name).count("initialized") < 2:  # before anybody has invoked it
        assert time.monotonic() < deadline, lab.logs(name)
        time.sleep(0.05)
    with ThreadPoolExecutor(6) as callers:
        found = set(callers.map(lambda _: lab.invoke(name, 0.3, Qualifier=version), range(6)))
    assert len(found) == 2, "six at once took turns in two"

    lab("put_function_scaling_config", **given, FunctionScalingConfig=scaled(0, 1))
    while len(found) > 1:  # those of before may still be ending
        assert time.monotonic() < deadline
        with ThreadPoolExecutor(3) as callers:
            found = set(callers.map(lambda _: lab.invoke(name, 0.1, Qualifier=version), range(3)))


def test_a_version_without_environments_is_deactivated(lab: Lab) -> None:
    name, version = on_capacity(lab)
    given = {"FunctionName": name, "Qualifier": "$LATEST.PUBLISHED"}
    answer = lab("put_function_scaling_config", **given, FunctionScalingConfig=scaled(0, 0))
    assert answer == {"FunctionState": "Deactivated"}
    shown = lab("get_function_configuration", FunctionName=name, Qualifier=version)
    assert shown["State"] == "Deactivated"
    code, message = lab.refused("invoke", FunctionName=name, Qualifier=version)
    assert code == "ResourceConflictException"
    assert message.endswith("The function is currently in the following state: Deactivated")
    assert lab.invoke(name, 1) == 1, "$LATEST is another version"
    lab("put_function_scaling_config", **given, FunctionScalingConfig=scaled(0, 1))
    assert lab.invoke(name, 1, Qualifier=version) == 1


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


def signed_by(lab: Lab, policy: str) -> str:
    """The ARN of a new code signing config."""
    made = lab(
        "create_code_signing_config",
        AllowedPublishers={"SigningProfileVersionArns": [PROFILE]},
        CodeSigningPolicies={"UntrustedArtifactOnDeployment": policy},
    )
    found: str = made["CodeSigningConfig"]["CodeSigningConfigArn"]
    return found


def not_deployed(artifact: str) -> str:
    return (
        "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is "
        f"not configured to accept. Check the provided signature for {artifact}."
    )


def test_code_that_is_not_signed_is_not_deployed_where_signing_is_enforced(lab: Lab) -> None:
    config = signed_by(lab, "Enforce")
    given = {"FunctionName": "unsigned", "Role": ROLE, "Runtime": "python3.11", "Handler": "app.handler"}
    code, message = lab.refused("create_function", **given, Code={"ZipFile": ECHO}, CodeSigningConfigArn=config)
    assert code == "CodeVerificationFailedException"
    assert message.startswith(not_deployed(arn("unsigned")))
    assert lab.refused("get_function", FunctionName="unsigned")[0] == "ResourceNotFoundException"

    name = lab.function()
    lab("put_function_code_signing_config", FunctionName=name, CodeSigningConfigArn=config)
    for more in ({}, {"DryRun": True}, {"Publish": True}):
        code, message = lab.refused("update_function_code", FunctionName=name, ZipFile=WHICH, **more)
        assert code == "CodeVerificationFailedException"
        assert message.startswith(not_deployed(arn(name)))
    layer = lab("publish_layer_version", LayerName="unsigned", Content={"ZipFile": ECHO})["LayerVersionArn"]
    code, message = lab.refused("update_function_configuration", FunctionName=name, Layers=[layer])
    assert message.startswith(not_deployed(layer))
    assert lab.invoke(name, 1) == 1, "what it had before runs on"

    lab("update_function_configuration", FunctionName=name, Timeout=4)  # no code
    lab.client.get_waiter("function_updated_v2").wait(FunctionName=name)
    lab("delete_function_code_signing_config", FunctionName=name)
    lab("update_function_code", FunctionName=name, ZipFile=WHICH)


def test_code_that_is_not_signed_is_deployed_with_a_warning_otherwise(lab: Lab) -> None:
    counted = validation_errors(lab)
    name = lab.function(CodeSigningConfigArn=signed_by(lab, "Warn"))
    layer = lab("publish_layer_version", LayerName="warned", Content={"ZipFile": ECHO})["LayerVersionArn"]
    lab("update_function_configuration", FunctionName=name, Layers=[layer])
    lab.client.get_waiter("function_updated_v2").wait(FunctionName=name)
    lab("update_function_configuration", FunctionName=name, Layers=[layer], Timeout=4)  # no new one
    lab.client.get_waiter("function_updated_v2").wait(FunctionName=name)
    assert lab.invoke(name, 1) == 1
    assert validation_errors(lab) == counted + 2
    for artifact in (arn(name), layer):
        assert f"{artifact} is deployed without a signature that was verified" in lab.output()


def validation_errors(lab: Lab) -> float:
    line = next(line for line in lab.metrics().splitlines() if line.startswith("eventfn_signature_validation_errors"))
    return float(line.rpartition(" ")[2])


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

"""Reserved and provisioned concurrency by boto3, and that both are kept."""

from __future__ import annotations

import concurrent.futures
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.api.lab import Lab, arn, zipped

HOW = zipped(
    app="""
import os
import time

HOW = os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]


def handler(event, context):
    time.sleep(event or 0)
    return HOW
"""
)
FAILS = zipped(app="raise ValueError('no')\n")
INVALID = "InvalidParameterValueException"


def test_reserved_is_a_ceiling(lab: Lab) -> None:
    name = lab.function(HOW, Timeout=60)
    assert lab("get_function_concurrency", FunctionName=name) == {}
    assert lab("put_function_concurrency", FunctionName=name, ReservedConcurrentExecutions=1) == {
        "ReservedConcurrentExecutions": 1
    }
    assert lab("get_function", FunctionName=name)["Concurrency"] == {"ReservedConcurrentExecutions": 1}
    lab.invoke(name)

    def reason(_: int) -> str | None:
        try:
            lab.client.invoke(FunctionName=name, Payload=b"5")
        except ClientError as error:
            response: Any = error.response
            assert response["Error"]["Code"] == "TooManyRequestsException"
            return str(response["Reason"])
        return None

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        reasons = list(threads.map(reason, range(4)))
    assert reasons.count(None) == 1
    assert set(reasons) == {None, "ReservedFunctionConcurrentInvocationLimitExceeded"}

    lab("put_function_concurrency", FunctionName=name, ReservedConcurrentExecutions=0)
    with pytest.raises(ClientError, match="TooManyRequestsException"):
        lab.invoke(name)
    assert lab.status("delete_function_concurrency", FunctionName=name) == 204
    assert lab("get_function_concurrency", FunctionName=name) == {}
    lab.invoke(name)


def test_what_cannot_be_reserved(lab: Lab) -> None:
    name = lab.function()
    reserve = "put_function_concurrency"
    assert lab.refused(reserve, FunctionName=name, ReservedConcurrentExecutions=901) == (
        INVALID,
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below "
        "its minimum value of [100].",
    )
    assert lab.refused(reserve, FunctionName=arn(name, "1"), ReservedConcurrentExecutions=1) == (
        INVALID,
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
        "Please specify either a function name or an unqualified function ARN.",
    )
    assert lab.refused(reserve, FunctionName="nobody", ReservedConcurrentExecutions=1) == (
        "ResourceNotFoundException",
        f"Function not found: {arn('nobody', '$LATEST')}",
    )
    code, message = lab.refused(reserve, FunctionName="declared", ReservedConcurrentExecutions=1)
    assert code == "ResourceConflictException"
    assert "eventfn.toml, line 5" in message


def test_provisioned_environments_are_there_before_they_are_asked_for(lab: Lab) -> None:
    name = lab.function(HOW)
    version = lab.published(name)
    put = lab(
        "put_provisioned_concurrency_config", FunctionName=name, Qualifier=version, ProvisionedConcurrentExecutions=2
    )
    assert put.pop("LastModified").endswith("+0000")
    assert put == {
        "RequestedProvisionedConcurrentExecutions": 2,
        "AvailableProvisionedConcurrentExecutions": 0,
        "AllocatedProvisionedConcurrentExecutions": 0,
        "Status": "IN_PROGRESS",
    }
    ready = lab.until("get_provisioned_concurrency_config", "Status", "READY", FunctionName=name, Qualifier=version)
    assert ready["AvailableProvisionedConcurrentExecutions"] == 2
    assert lab.invoke(name, Qualifier=version) == "provisioned-concurrency"
    (listed,) = lab("list_provisioned_concurrency_configs", FunctionName=name)["ProvisionedConcurrencyConfigs"]
    assert listed["FunctionArn"] == arn(name, version)
    lab("delete_provisioned_concurrency_config", FunctionName=name, Qualifier=version)
    lab("delete_provisioned_concurrency_config", FunctionName=name, Qualifier=version)
    assert lab.refused("get_provisioned_concurrency_config", FunctionName=name, Qualifier=version) == (
        "ProvisionedConcurrencyConfigNotFoundException",
        "No Provisioned Concurrency Config found for this function",
    )


def test_an_init_that_fails_is_told(lab: Lab) -> None:
    name = lab.function(FAILS)
    version = lab.published(name)
    given = {"FunctionName": name, "Qualifier": version}
    lab("put_provisioned_concurrency_config", **given, ProvisionedConcurrentExecutions=1)
    failed = lab.until("get_provisioned_concurrency_config", "Status", "FAILED", **given)
    assert failed["StatusReason"] == "FUNCTION_ERROR_INIT_FAILURE"
    lab("delete_provisioned_concurrency_config", **given)


def test_what_cannot_be_provisioned(lab: Lab) -> None:
    name = lab.function()
    version = lab.published(name)
    lab("create_alias", FunctionName=name, Name="live", FunctionVersion=version)
    put = "put_provisioned_concurrency_config"

    def refused(qualifier: str, wanted: int) -> tuple[str, str]:
        return lab.refused(put, FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=wanted)

    assert refused("$LATEST", 1) == (
        INVALID,
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
    )
    assert lab.refused("get_provisioned_concurrency_config", FunctionName=name, Qualifier="$LATEST") == (
        INVALID,
        "The function resource provided must be an alias or a published version.",
    )
    code, message = refused(version, 100_000)
    assert (code, message.startswith("Specified ConcurrentExecutions for function is greater than")) == (INVALID, True)
    lab("put_function_concurrency", FunctionName=name, ReservedConcurrentExecutions=2)
    assert refused(version, 3) == (
        INVALID,
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
    )
    lab(put, FunctionName=name, Qualifier="live", ProvisionedConcurrentExecutions=2)
    assert refused(version, 1) == (
        "ResourceConflictException",
        "Version is pointed by a Provisioned Concurrency alias",
    )
    assert lab.refused("put_function_concurrency", FunctionName=name, ReservedConcurrentExecutions=1) == (
        INVALID,
        " ReservedConcurrentExecutions  1 should not be lower than function's total provisioned concurrency [2].",
    )
    lab("delete_provisioned_concurrency_config", FunctionName=name, Qualifier="live")
    lab(put, FunctionName=name, Qualifier=version, ProvisionedConcurrentExecutions=1)
    assert refused("live", 1) == (
        "ResourceConflictException",
        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
    )
    lab("delete_function_concurrency", FunctionName=name)
    lab("delete_provisioned_concurrency_config", FunctionName=name, Qualifier=version)

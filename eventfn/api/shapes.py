"""Functions, versions and aliases as Lambda shows them.

PURE. Source: functions-api, "FunctionConfiguration".
"""

from __future__ import annotations

from typing import Any

from eventfn.api.common import iso
from eventfn.functions.managed import LATEST, Alias, Configuration, ManagedFunction, Version

Json = dict[str, Any]


def configuration(function: ManagedFunction, version: Version, arn: str, *, listed: bool = False) -> Json:
    """FunctionConfiguration. `listed`: as the operations that list have it, without states."""
    made, code = version.configuration, version.code
    found: Json = {
        "FunctionName": function.name,
        "FunctionArn": arn,
        "Runtime": made.runtime,
        "Role": made.role,
        "Handler": made.handler,
        "CodeSize": code.size,
        "Description": made.description if version.description is None else version.description,
        "Timeout": made.timeout,
        "MemorySize": made.memory_size,
        "LastModified": iso(version.last_modified_ms),
        "CodeSha256": code.sha256,
        "Version": version.number,
        "TracingConfig": {"Mode": made.tracing_mode},
        "RevisionId": version.revision_id,
        "PackageType": made.package_type,
        "Architectures": list(made.architectures),
        "EphemeralStorage": {"Size": made.ephemeral_storage},
        "SnapStart": _snap_start(version),
        "LoggingConfig": _logging(function.name, made),
        **_when_set(made),
    }
    if listed:
        return found
    if version.runtime_version_arn is not None:
        found["RuntimeVersionConfig"] = _runtime_version(version, version.runtime_version_arn)
    states = {
        "State": shown_state(function, version),
        "StateReason": version.state_reason,
        "StateReasonCode": version.state_reason_code,
        "LastUpdateStatus": version.last_update_status,
        "LastUpdateStatusReason": version.last_update_status_reason,
        "LastUpdateStatusReasonCode": version.last_update_status_reason_code,
    }
    return found | {key: value for key, value in states.items() if value is not None}


def shown_state(function: ManagedFunction, version: Version) -> str:
    return "Deactivated" if version.state == "Active" and function.deactivated(version.number) else version.state


def _when_set(made: Configuration) -> Json:
    found: Json = {}
    if made.environment is not None:
        found["Environment"] = {"Variables": made.environment}
    if made.layers:
        found["Layers"] = [{"Arn": layer.arn, "CodeSize": layer.code.size} for layer in made.layers]
    if made.dead_letter_target:
        found["DeadLetterConfig"] = {"TargetArn": made.dead_letter_target}
    if made.kms_key_arn:
        found["KMSKeyArn"] = made.kms_key_arn
    if made.vpc_config is not None:
        found["VpcConfig"] = made.vpc_config
    if made.file_system_configs:
        found["FileSystemConfigs"] = list(made.file_system_configs)
    if made.durable_config is not None:
        found["DurableConfig"] = made.durable_config
    if made.tenancy_config is not None:
        found["TenancyConfig"] = made.tenancy_config
    if made.capacity_provider_config is not None:
        found["CapacityProviderConfig"] = made.capacity_provider_config
    return found


def _snap_start(version: Version) -> Json:
    on = version.configuration.snap_start != "None" and version.number != LATEST
    return {"ApplyOn": version.configuration.snap_start, "OptimizationStatus": "On" if on else "Off"}


def _logging(name: str, made: Configuration) -> Json:
    return {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}", **made.logging_config}


def _runtime_version(version: Version, arn: str) -> Json:
    found: Json = {"RuntimeVersionArn": arn}
    if version.runtime_version_error is not None:
        found["Error"] = {"ErrorCode": "InvalidRuntime", "Message": version.runtime_version_error}
    return found


def alias(function: ManagedFunction, found: Alias) -> Json:
    """AliasConfiguration."""
    shown: Json = {
        "AliasArn": function.qualified(found.name),
        "Name": found.name,
        "FunctionVersion": found.function_version,
        "Description": found.description,
        "RevisionId": found.revision_id,
    }
    if found.weights:
        shown["RoutingConfig"] = {"AdditionalVersionWeights": found.weights}
    return shown

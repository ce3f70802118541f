"""What a request says of a function -> its Configuration, with Lambda's defaults and its words for what it refuses.

PURE. Ranges and patterns of single values are the service model's, and were held against it before; here is what it
does not know. Source: functions-api, "FunctionConfiguration", "Limits" and the table of errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from eventfn.functions.archives import MAX_UNPACKED
from eventfn.functions.managed import AttachedLayer, Code, Configuration, JsonObject
from eventfn.functions.refusals import Refusal, invalid

MAX_ENVIRONMENT = 4096  # bytes of the compact JSON of all variables
MAX_TIMEOUT = 900  # seconds
MAX_MEMORY = 10_240  # MB
MAX_NAME = 64
MAX_TAGS = 50

CREATABLE = (
    *("nodejs24.x", "nodejs22.x", "nodejs20.x", "nodejs18.x", "nodejs16.x"),
    *("python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python3.9", "python3.8"),
    *("java25", "java21", "java17", "java11", "java8.al2"),
    *("dotnet10", "dotnet8", "dotnet6"),
    *("ruby3.4", "ruby3.3", "ruby3.2"),
    *("provided.al2023", "provided.al2"),
)
RETIRED = (
    *("nodejs", "nodejs4.3", "nodejs4.3-edge", "nodejs6.10", "nodejs8.10", "nodejs10.x", "nodejs12.x", "nodejs14.x"),
    *("python2.7", "python3.6", "python3.7"),
    *("java8", "go1.x", "ruby2.5", "ruby2.7", "provided"),
    *("dotnetcore1.0", "dotnetcore2.0", "dotnetcore2.1", "dotnetcore3.1"),
)

# Variables that Lambda sets itself. Source: Lambda's guide, "Defined runtime environment variables".
_RESERVED = frozenset(
    {
        *("_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV"),
        *("AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION"),
        *("AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"),
        *("AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        *("AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR"),
    }
)
_SNAP_START = re.compile(r"java(?:1[1-9]|[2-9]\d)|python3\.(?:1[2-9]|[2-9]\d)|dotnet(?:[89]|\d\d)")

Given = Mapping[str, Any]  # a request's input


def created(given: Given, layers: Sequence[AttachedLayer], code: Code) -> Configuration:
    """CreateFunction's. Raises Refusal."""
    _check_name(given["FunctionName"])
    if given.get("PackageType", "Zip") != "Zip":
        raise no_images()
    if not given.get("Runtime") or not given.get("Handler"):
        raise invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
    if len(given.get("Tags") or {}) > MAX_TAGS:
        raise invalid("Number of tags exceeds resource tag limit.")
    base = Configuration(role=given["Role"], architectures=tuple(given.get("Architectures") or ("x86_64",)))
    return _configured(base, given, layers, code)


def updated(before: Configuration, given: Given, layers: Sequence[AttachedLayer] | None, code: Code) -> Configuration:
    """UpdateFunctionConfiguration's: what is absent stays as it is. Raises Refusal."""
    return _configured(before, given, before.layers if layers is None else layers, code)


def _configured(base: Configuration, given: Given, layers: Sequence[AttachedLayer], code: Code) -> Configuration:
    changes: dict[str, Any] = {"layers": tuple(layers)}
    if (runtime := given.get("Runtime")) is not None:
        _check_runtime(runtime)
        changes["runtime"] = runtime
    for key, field in _SCALARS.items():
        if given.get(key) is not None:
            changes[field] = given[key]
    for key, most in (("Timeout", MAX_TIMEOUT), ("MemorySize", MAX_MEMORY)):
        if given.get(key, 0) > most:
            raise too_high(given[key], key, most)
    if (environment := given.get("Environment")) is not None:
        changes["environment"] = _variables(environment.get("Variables") or {})
    if (storage := given.get("EphemeralStorage")) is not None:
        changes["ephemeral_storage"] = storage["Size"]
    if (dead_letters := given.get("DeadLetterConfig")) is not None:
        changes["dead_letter_target"] = _dead_letter_target(dead_letters.get("TargetArn"))
    if (tracing := given.get("TracingConfig")) is not None:
        changes["tracing_mode"] = tracing.get("Mode", "PassThrough")
    if (snap_start := given.get("SnapStart")) is not None:
        changes["snap_start"] = snap_start.get("ApplyOn", "None")
    if (vpc := given.get("VpcConfig")) is not None:
        changes["vpc_config"] = _vpc(vpc)
    if (logging := given.get("LoggingConfig")) is not None:
        changes["logging_config"] = _logging({**base.logging_config, **logging})
    if (mounts := given.get("FileSystemConfigs")) is not None:
        changes["file_system_configs"] = tuple(mounts)
    made = msgspec.structs.replace(base, **changes)
    if made.snap_start != "None" and _SNAP_START.fullmatch(made.runtime or "") is None:
        raise invalid(f"{made.runtime} is not supported for SnapStart enabled functions.")
    check_size(code, made.layers)
    return made


_SCALARS = {
    "Role": "role",
    "Handler": "handler",
    "Description": "description",
    "Timeout": "timeout",
    "MemorySize": "memory_size",
    "KMSKeyArn": "kms_key_arn",
    "DurableConfig": "durable_config",
    "TenancyConfig": "tenancy_config",
    "CapacityProviderConfig": "capacity_provider_config",
}


def check_size(code: Code, layers: Sequence[AttachedLayer]) -> None:
    """Raises Refusal: code and layers are too large together."""
    if code.unpacked + sum(layer.code.unpacked for layer in layers) > MAX_UNPACKED:
        raise invalid(f"Unzipped size must be smaller than {MAX_UNPACKED} bytes")


def no_images() -> Refusal:
    return invalid(
        "eventfn runs code from zip files, and no container images: create the function with PackageType Zip"
    )


def too_high(value: int, key: str, most: int) -> Refusal:
    return Refusal(
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{key[0].lower()}{key[1:]}' failed to satisfy constraint: "
        f"Member must have value less than or equal to {most}",
    )


def _check_name(given: str) -> None:
    name = given.rpartition(":")[2]
    if len(name) > MAX_NAME:
        raise invalid(
            f"1 validation error detected: Value '{given}' at 'functionName' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MAX_NAME}"
        )


def _check_runtime(runtime: str) -> None:
    if runtime in RETIRED:
        raise invalid(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda "
            "functions. We recommend you use a supported runtime while creating or updating functions."
        )
    if runtime not in CREATABLE:
        raise invalid(
            f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
            f"[{', '.join(CREATABLE)}] or be a valid ARN"
        )


def _variables(given: dict[str, str]) -> dict[str, str]:
    reserved = sorted(_RESERVED & given.keys())
    if reserved:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided contains reserved keys that are currently not supported for modification. Reserved keys used in "
            f"this request: {', '.join(reserved)}"
        )
    measured = msgspec.json.encode(given)
    if len(measured) > MAX_ENVIRONMENT:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            f"provided exceeded the 4KB limit. String measured: {measured.decode()}"
        )
    return given


def _dead_letter_target(arn: str | None) -> str | None:
    if arn and not arn.startswith(("arn:aws:sqs:", "arn:aws:sns:")):
        raise invalid(f"The provided dead letter target is no queue and no topic: {arn}")
    return arn


def _vpc(given: JsonObject) -> JsonObject:
    """There is no VPC here: what was asked for is kept and shown."""
    subnets: list[str] = given.get("SubnetIds") or []
    groups: list[str] = given.get("SecurityGroupIds") or []
    return {
        "SubnetIds": subnets,
        "SecurityGroupIds": groups,
        "VpcId": "vpc-00000000" if subnets else "",
        "Ipv6AllowedForDualStack": given.get("Ipv6AllowedForDualStack", False),
    }


def _logging(merged: JsonObject) -> JsonObject:
    levels = ("ApplicationLogLevel", "SystemLogLevel")
    if merged.get("LogFormat", "Text") == "Text":
        return {key: value for key, value in merged.items() if key not in levels}
    return {**dict.fromkeys(levels, "INFO"), **merged}

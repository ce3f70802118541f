"""What a function of the API is to the node: the same model.Function that eventfn.toml leads to; and the way back.

PURE. Not here: getting its code onto the disk (deployment.py), what it looks like on the wire (api/).
"""

from __future__ import annotations

import base64
import hashlib
import uuid

import msgspec

from eventfn.functions.managed import (
    LATEST,
    Code,
    Configuration,
    EventInvoke,
    JsonObject,
    ManagedFunction,
    Provisioned,
    Version,
)
from eventfn.functions.model import Aws, Function, LoggingConfig, Where
from eventfn.units import Duration, Megabytes
from eventfn.workers.contract import Prepared

_OWN_FUNCTION = ":function:"
_EVENT_BUS = ":event-bus/"


def environment_of(
    function: ManagedFunction, version: Version, code: str, layers: tuple[str, ...], aws: Aws
) -> Function:
    """All that decides what its environments are, and nothing that can change without new ones. `code` and `layers` are
    folders."""
    configuration = version.configuration
    return Function(
        name=function.name,
        handler=configuration.handler or "",
        code=code,
        runtime=configuration.runtime,
        memory_size=Megabytes(configuration.memory_size),
        timeout=Duration(configuration.timeout),
        ephemeral_storage=Megabytes(configuration.ephemeral_storage),
        network=aws.network,
        environment=configuration.environment or {},
        layers=layers,
        snap_start=_has_snapshots(version),
        provisioned_concurrency=max(
            function.provisioned_of(version.number), function.scaling_of(version.number).min_execution_environments
        ),
        role=configuration.role,
        logging_config=_logging(configuration),
        where=Where("the API"),
    )


def _logging(configuration: Configuration) -> LoggingConfig:
    names = {"LogFormat": "log_format", "LogGroup": "log_group"}
    names |= {"ApplicationLogLevel": "application_log_level", "SystemLogLevel": "system_log_level"}
    given = {names[key]: value for key, value in configuration.logging_config.items() if key in names}
    return msgspec.convert(given, LoggingConfig)  # the service model has the same values


def _has_snapshots(version: Version) -> bool:
    """SnapStart of other runtimes than Python is accepted, and changes nothing of how they start."""
    made = version.configuration
    python = (made.runtime or "").startswith("python")
    return python and made.snap_start == "PublishedVersions" and version.number != LATEST


def _shown(logging: LoggingConfig) -> JsonObject:
    shown: JsonObject = {} if logging.log_group is None else {"LogGroup": logging.log_group}
    if logging.log_format == "Text":
        return shown
    levels = {"ApplicationLogLevel": logging.application_log_level, "SystemLogLevel": logging.system_log_level}
    return {"LogFormat": "JSON", **levels, **shown}


def invoked_as(
    environment: Function, function: ManagedFunction, version: Version, qualifier: str, aws: Aws
) -> Function:
    """With what is configured for the function and for this qualifier: how many may run, how events are retried, where
    their records go."""
    asynchronous = function.event_invoke.get(qualifier)
    attempts = asynchronous.maximum_retry_attempts if asynchronous else None
    age = asynchronous.maximum_event_age_in_seconds if asynchronous else None
    return msgspec.structs.replace(
        environment,
        description=version.configuration.description,
        reserved_concurrency=function.reserved,
        maximum_retry_attempts=environment.maximum_retry_attempts if attempts is None else attempts,
        maximum_event_age=environment.maximum_event_age if age is None else Duration(age),
        retry_delays=aws.retry_delays,
        on_success=_uri(asynchronous.on_success) if asynchronous else None,
        on_failure=_uri(asynchronous.on_failure) if asynchronous else None,
        dead_letter_queue=_uri(version.configuration.dead_letter_target),
    )


def _uri(arn: str | None) -> str | None:
    """The destination behind an ARN: functions and event buses are this node's own, everything else is where [aws] or
    eventfn.toml's table of destinations says."""
    if not arn:
        return None
    if arn.startswith("arn:aws:lambda:"):
        return f"fn:{arn.partition(_OWN_FUNCTION)[2]}"
    if arn.startswith("arn:aws:events:"):
        return f"bus:{arn.partition(_EVENT_BUS)[2]}"
    return arn


def declared(function: Function, prepared: Prepared, aws: Aws, since_ms: int) -> ManagedFunction:
    """A function of eventfn.toml as the API shows it. What it has no setting for is what comes nearest: there is no
    role that it could be given, and its code is no zip, so its digest is that of the version it is."""
    digest = base64.b64encode(hashlib.sha256(prepared.version.encode()).digest()).decode()
    configuration = Configuration(
        role=function.role or f"arn:aws:iam::{aws.account}:role/eventfn",
        runtime=prepared.runtime,
        handler=function.handler,
        description=function.description,
        timeout=max(1, round(function.timeout)),
        memory_size=int(function.memory_size),
        ephemeral_storage=int(function.ephemeral_storage),
        environment=dict(function.environment) or None,
        snap_start="PublishedVersions" if function.snap_start else "None",
        logging_config=_shown(function.logging_config),
        dead_letter_target=function.dead_letter_queue,
    )
    latest = Version(
        number=LATEST,
        configuration=configuration,
        code=Code(sha256=digest, size=0, folder=function.code),
        revision_id=str(uuid.uuid5(uuid.NAMESPACE_OID, prepared.version)),
        last_modified_ms=since_ms,
        state="Active",
        last_update_status="Successful",
        runtime_version_arn=prepared.runtime_version_arn,
    )
    asynchronous = EventInvoke(
        last_modified_ms=since_ms,
        maximum_retry_attempts=function.maximum_retry_attempts,
        maximum_event_age_in_seconds=round(function.maximum_event_age),
        on_success=function.on_success,
        on_failure=function.on_failure,
    )
    provisioned = {}
    if function.provisioned_concurrency:
        provisioned = {
            LATEST: Provisioned(requested=function.provisioned_concurrency, last_modified_ms=since_ms),
        }
    return ManagedFunction(
        name=function.name,
        region=aws.region,
        account=aws.account,
        latest=latest,
        reserved=function.reserved_concurrency,
        event_invoke={LATEST: asynchronous},
        provisioned=provisioned,
    )

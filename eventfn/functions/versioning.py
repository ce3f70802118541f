"""Versions, which never change once they are published, and aliases, which lead to them: what follows from a function's
document alone.

PURE. `now_ms` and new ids are passed in. Raises Refusal, in Lambda's words (functions-api: table of errors).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from eventfn.functions.managed import LATEST, Alias, Code, Configuration, ManagedFunction, Version
from eventfn.functions.names import is_number
from eventfn.functions.refusals import Refusal, conflict, invalid, missing, stale

CREATING = "The function is being created."

NewId = Callable[[], str]


def already_there(name: str) -> Refusal:
    return conflict(f"Function already exist: {name}")


def check_idle(function: ManagedFunction) -> None:
    """Nothing else changes its code or configuration while it is being made ready."""
    if function.latest.busy:
        raise conflict(
            "The operation cannot be performed at this time. An update is in progress for resource: " + function.arn
        )


def check_revision(version: Version, given: str | None) -> None:
    if given is not None and given != version.revision_id:
        raise stale("GetFunction/GetAlias")


def pending(number: str, configuration: Configuration, code: Code, now_ms: int, new_id: NewId) -> Version:
    """A version that is to be made ready for the first time."""
    return Version(
        number=number,
        configuration=configuration,
        code=code,
        revision_id=new_id(),
        last_modified_ms=now_ms,
        state="Pending",
        state_reason=CREATING,
        state_reason_code="Creating",
    )


def in_progress(
    function: ManagedFunction,
    configuration: Configuration,
    code: Code,
    now_ms: int,
    new_id: NewId,
    runtime_version_arn: str | None = None,
) -> ManagedFunction:
    """$LATEST with another configuration or code, which is not ready yet; one that has failed begins anew. An update
    is when the runtime's version is looked at again: `runtime_version_arn` is the one that is installed, None the one
    that it had."""
    latest = function.latest
    failed = latest.state == "Failed"
    if function.runtime_management.get(LATEST, {}).get("UpdateRuntimeOn") == "Manual":
        if configuration.runtime != latest.configuration.runtime:
            raise invalid(
                f"{function.name} is pinned to a version of {latest.configuration.runtime}: call "
                "PutRuntimeManagementConfig with UpdateRuntimeOn Auto or FunctionUpdate before you change its runtime."
            )
        runtime_version_arn = None
    changed = msgspec.structs.replace(
        latest,
        configuration=configuration,
        code=code,
        revision_id=new_id(),
        last_modified_ms=now_ms,
        state="Pending" if failed else latest.state,
        state_reason=CREATING if failed else None,
        state_reason_code="Creating" if failed else None,
        last_update_status="InProgress",
        last_update_status_reason=CREATING,
        last_update_status_reason_code="Creating",
        runtime_version_arn=runtime_version_arn or latest.runtime_version_arn,
        runtime_version_error=None if runtime_version_arn else latest.runtime_version_error,
    )
    return msgspec.structs.replace(function, latest=changed)


def publish(
    function: ManagedFunction, description: str | None, now_ms: int, new_id: NewId
) -> tuple[ManagedFunction, Version]:
    """The function with $LATEST as a new version, and that version; the last one, and the same function, when nothing
    has changed since."""
    latest = function.latest
    last = function.versions.get(str(function.next_version - 1))
    if last is not None and (last.configuration, last.code) == (latest.configuration, latest.code):
        return function, last
    if latest.code.folder is not None:
        raise invalid(
            f"The code of {function.name} is a folder that may change at any time, and a version never changes: upload "
            "it as a zip to publish it"
        )
    number = str(function.next_version)
    version = pending(number, latest.configuration, latest.code, now_ms, new_id)
    version = msgspec.structs.replace(version, description=description, runtime_version_arn=latest.runtime_version_arn)
    changed = msgspec.structs.replace(
        function.with_version(version),
        latest=msgspec.structs.replace(latest, revision_id=new_id()),
        next_version=function.next_version + 1,
    )
    return changed, version


def without_version(function: ManagedFunction, number: str) -> ManagedFunction:
    """Its number is not given again."""
    if number not in function.versions:
        return function
    using = sorted(
        alias.name for alias in function.aliases.values() if number in (alias.function_version, *alias.weights)
    )
    if using:
        raise conflict(f"Unable to delete version because the following aliases reference it: [{', '.join(using)}]")
    return msgspec.structs.replace(
        function,
        versions=_without(function.versions, number),
        policies=_without(function.policies, number),
        event_invoke=_without(function.event_invoke, number),
        provisioned=_without(function.provisioned, number),
        runtime_management=_without(function.runtime_management, number),
        scaling=_without(function.scaling, number),
    )


# --- aliases ----------------------------------------------------------------------------------------------------------


def with_alias(
    function: ManagedFunction,
    name: str,
    version: str,
    description: str,
    weights: Mapping[str, float | None],
    new_id: NewId,
) -> ManagedFunction:
    """A new alias."""
    if name in function.aliases:
        raise conflict(f"Alias already exists: {function.qualified(name)}")
    return _kept(
        function, Alias(name=name, function_version=version, revision_id="", description=description), weights, new_id
    )


def with_changed_alias(
    function: ManagedFunction,
    name: str,
    version: str | None,
    description: str | None,
    weights: Mapping[str, float | None] | None,
    revision_id: str | None,
    new_id: NewId,
) -> ManagedFunction:
    """None stays as it is."""
    alias = function.aliases.get(name)
    if alias is None:
        raise missing(f"Alias not found: {function.qualified(name)}")
    if revision_id is not None and revision_id != alias.revision_id:
        raise stale("GetFunction/GetAlias")
    changed = msgspec.structs.replace(
        alias,
        function_version=alias.function_version if version is None else version,
        description=alias.description if description is None else description,
    )
    return _kept(function, changed, alias.weights if weights is None else weights, new_id)


def _kept(
    function: ManagedFunction, alias: Alias, weights: Mapping[str, float | None], new_id: NewId
) -> ManagedFunction:
    shares = {number: weight for number, weight in weights.items() if weight is not None}
    if len(shares) > 1:
        raise invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
    if shares and LATEST in (alias.function_version, *shares):
        raise invalid("$LATEST is not supported for an alias pointing to more than 1 version", typed=False)
    for number in shares:
        if number == alias.function_version:
            raise invalid(
                f"Invalid function version {number}. Function version {number} is already included in routing "
                "configuration."
            )
    for number in (alias.function_version, *shares):
        if function.version(number) is None or not (number == LATEST or is_number(number)):
            raise missing(f"Function not found: {function.qualified(number)}")
    alias = msgspec.structs.replace(alias, weights=shares, revision_id=new_id())
    return msgspec.structs.replace(function, aliases={**function.aliases, alias.name: alias})


def without_alias(function: ManagedFunction, name: str) -> ManagedFunction:
    """What hangs on it goes too; its URL stays, and answers that it is forbidden."""
    if name not in function.aliases:
        return function
    return msgspec.structs.replace(
        function,
        aliases=_without(function.aliases, name),
        policies=_without(function.policies, name),
        event_invoke=_without(function.event_invoke, name),
        provisioned=_without(function.provisioned, name),
    )


def _without(mapping: Mapping[str, object], key: str) -> dict[str, object]:
    return {name: value for name, value in mapping.items() if name != key}

"""What the resources of Lambda's API have in common: which function a request is about, revisions, pages, times.

PURE but for new ids. Not here: finding and changing functions (functions/control.py).
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from eventfn.api.operations import Call
from eventfn.functions.control import Control
from eventfn.functions.managed import ManagedFunction
from eventfn.functions.names import Named
from eventfn.functions.refusals import invalid, stale

T = TypeVar("T")

_PAGE = 50


def named(control: Control, call: Call) -> Named:
    """What FunctionName and Qualifier say. Raises Refusal."""
    return control.named(call.input["FunctionName"], call.input.get("Qualifier"), region=call.region)


def arn_of(control: Control, call: Call, target: Named) -> str:
    """With the qualifier, if one was given."""
    return control.arn(target.name, target.qualifier, region=call.region)


def refuse_qualified(target: Named) -> None:
    """Raises Refusal for an operation that is about whole functions only."""
    if target.qualifier is not None:
        raise invalid(
            "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
            "Please specify either a function name or an unqualified function ARN."
        )


def revision_of(function: ManagedFunction, qualifier: str | None) -> str:
    alias, version = function.aliases.get(qualifier or ""), function.resolve(qualifier)
    if alias is not None:
        return alias.revision_id
    return "" if version is None else version.revision_id


def revised(function: ManagedFunction, qualifier: str | None) -> ManagedFunction:
    """With a new revision of what the qualifier names: something that hangs on it has changed."""
    revision_id = str(uuid.uuid4())
    alias, version = function.aliases.get(qualifier or ""), function.resolve(qualifier)
    if alias is not None:
        changed = msgspec.structs.replace(alias, revision_id=revision_id)
        return msgspec.structs.replace(function, aliases={**function.aliases, alias.name: changed})
    if version is None:
        return function
    return function.with_version(msgspec.structs.replace(version, revision_id=revision_id))


def refuse_stale(given: str | None, latest: str, call: str) -> None:
    """Raises Refusal when a request has a RevisionId, and not the latest. `call` says where that is found."""
    if given is not None and given != latest:
        raise stale(call)


def paged(items: Sequence[T], call: Call, key: Callable[[T], str], size: int = _PAGE) -> tuple[Sequence[T], str | None]:
    """One page of `items`, which stand in the order of their keys, and the marker of the next one, if there is more:
    the last key of this page."""
    marker = call.input.get("Marker")
    left = [item for item in items if marker is None or key(item) > marker]
    page = left[: call.input.get("MaxItems", size)]
    return page, key(page[-1]) if len(page) < len(left) else None


def page(name: str, items: Sequence[Any], marker: str | None) -> dict[str, Any]:
    """The answer of a list operation."""
    return {name: items} if marker is None else {name: items, "NextMarker": marker}


def iso(milliseconds: int, zone: str = "+0000") -> str:
    """As Lambda writes the times of functions, layers and provisioned concurrency; those of URLs end in "Z"."""
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", zone)

"""How asynchronous invocations of a qualifier are retried, and where their records go: event invoke configs.

What comes of them: bus/dispatch.py, by the function that deriving.py makes of a qualifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from eventfn.api.common import arn_of, named, page, paged
from eventfn.api.operations import Answer, Call, Handler
from eventfn.functions.control import Control
from eventfn.functions.managed import LATEST, EventInvoke, ManagedFunction
from eventfn.functions.names import Named
from eventfn.functions.refusals import invalid, missing

NO_FUNCTION = "The function doesn't exist."
_TO = ("events", "lambda", "sns", "sqs")


class EventInvokeConfigs:
    def __init__(self, control: Control) -> None:
        self._control = control

    def operations(self) -> Mapping[str, Handler]:
        return {
            "PutFunctionEventInvokeConfig": self._put,
            "UpdateFunctionEventInvokeConfig": self._update,
            "GetFunctionEventInvokeConfig": self._get,
            "DeleteFunctionEventInvokeConfig": self._delete,
            "ListFunctionEventInvokeConfigs": self._list,
        }

    async def _put(self, call: Call) -> Answer:
        settings = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
        if all(call.input.get(name) is None for name in settings):
            raise invalid("You must specify at least one of error handling or destination setting.")
        return await self._keep(call, merge=False)

    async def _update(self, call: Call) -> Answer:
        return await self._keep(call, merge=True)

    async def _keep(self, call: Call, *, merge: bool) -> Answer:
        target, _ = self._found(call)
        config = call.input.get("DestinationConfig", {})
        to = {key: config.get(key, {}).get("Destination") for key in ("OnSuccess", "OnFailure")}
        self._check(target, to, call)

        def edit(function: ManagedFunction) -> ManagedFunction:
            before = function.event_invoke.get(_key(target))
            if merge and before is None:
                raise self._none(target, call)
            kept = before if merge and before is not None else EventInvoke(last_modified_ms=0)
            after = EventInvoke(
                last_modified_ms=self._control.clock.now_ms(),
                maximum_retry_attempts=call.input.get("MaximumRetryAttempts", kept.maximum_retry_attempts),
                maximum_event_age_in_seconds=call.input.get(
                    "MaximumEventAgeInSeconds", kept.maximum_event_age_in_seconds
                ),
                # "" takes one away
                on_success=(kept.on_success if to["OnSuccess"] is None else to["OnSuccess"]) or None,
                on_failure=(kept.on_failure if to["OnFailure"] is None else to["OnFailure"]) or None,
            )
            configs = {**function.event_invoke, _key(target): after}
            return msgspec.structs.replace(function, event_invoke=configs)

        function = await self._control.change(target.name, edit)
        return Answer(_shown(function, _key(target)))

    async def _get(self, call: Call) -> Answer:
        target, function = self._found(call)
        if _key(target) not in function.event_invoke:
            raise self._none(target, call)
        return Answer(_shown(function, _key(target)))

    async def _delete(self, call: Call) -> Answer:
        target, _ = self._found(call)

        def edit(function: ManagedFunction) -> ManagedFunction:
            if _key(target) not in function.event_invoke:
                raise self._none(target, call)
            left = {key: each for key, each in function.event_invoke.items() if key != _key(target)}
            return msgspec.structs.replace(function, event_invoke=left)

        await self._control.change(target.name, edit)
        return Answer()

    async def _list(self, call: Call) -> Answer:
        target = named(self._control, call)
        function = self._control.get(target.name)
        if function is None:
            raise missing(NO_FUNCTION)
        found, marker = paged(sorted(function.event_invoke), call, str)
        return Answer(page("FunctionEventInvokeConfigs", [_shown(function, key) for key in found], marker))

    def _found(self, call: Call) -> tuple[Named, ManagedFunction]:
        target = named(self._control, call)
        function = self._control.get(target.name)
        if function is None or function.resolve(target.qualifier) is None:
            raise missing(NO_FUNCTION)
        return target, function

    def _none(self, target: Named, call: Call) -> Exception:
        arn = arn_of(self._control, call, Named(target.name, _key(target)))
        return missing(f"The function {arn} doesn't have an EventInvokeConfig")

    def _check(self, target: Named, to: Mapping[str, str | None], call: Call) -> None:
        for key, arn in to.items():
            if not arn:
                continue
            service = arn.split(":")[2] if arn.startswith("arn:") else ""
            if service == "events" and ":event-bus/" not in arn:
                raise invalid(f"The destination ARN {arn} is invalid.")
            if service not in (_TO if key == "OnSuccess" else (*_TO, "s3")):
                shown = ", ".join(
                    f"on{each[2:]}={each}(destination={to[each]})" if to[each] else f"on{each[2:]}=null" for each in to
                )
                raise invalid(f"The provided destination config DestinationConfig({shown}) is invalid.")
            if service == "lambda":
                other = self._control.named(arn, region=call.region)
                if other.name == target.name:
                    raise invalid("You can't specify the function as a destination for itself.")
                if self._control.get(other.name) is None:
                    raise invalid(f"The destination ARN {arn} is invalid.")


def _key(target: Named) -> str:
    return target.qualifier or LATEST


def _shown(function: ManagedFunction, key: str) -> dict[str, Any]:
    config = function.event_invoke[key]
    shown: dict[str, Any] = {"LastModified": config.last_modified_ms / 1000, "FunctionArn": function.qualified(key)}
    if config.maximum_retry_attempts is not None:
        shown["MaximumRetryAttempts"] = config.maximum_retry_attempts
    if config.maximum_event_age_in_seconds is not None:
        shown["MaximumEventAgeInSeconds"] = config.maximum_event_age_in_seconds
    to = {"OnSuccess": config.on_success, "OnFailure": config.on_failure}
    shown["DestinationConfig"] = {key: {"Destination": uri} if uri else {} for key, uri in to.items()}
    return shown

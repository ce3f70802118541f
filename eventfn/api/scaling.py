"""How many environments a version has that is published to a capacity provider: scaling configs.

There are no instances of EC2 here: the environments are this node's, at least as many as the least are kept ready, and
whoever would need one more than the most waits for one of them. Without any a version is deactivated.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from eventfn.api import shapes
from eventfn.api.common import named
from eventfn.api.operations import Answer, Call, Handler
from eventfn.functions.control import Control
from eventfn.functions.managed import LATEST_PUBLISHED, ManagedFunction, Version
from eventfn.functions.names import Named
from eventfn.functions.refusals import invalid


class Scaling:
    def __init__(self, control: Control) -> None:
        self._control = control

    def operations(self) -> Mapping[str, Handler]:
        return {"GetFunctionScalingConfig": self._get, "PutFunctionScalingConfig": self._put}

    async def _get(self, call: Call) -> Answer:
        target, function, _ = self._published(call)
        qualifier = target.qualifier or ""
        config = function.scaling.get(qualifier, {})
        return Answer(
            {
                "FunctionArn": function.qualified(qualifier),
                "AppliedFunctionScalingConfig": config,
                "RequestedFunctionScalingConfig": config,
            }
        )

    async def _put(self, call: Call) -> Answer:
        target, _, version = self._published(call)
        config: dict[str, int] = call.input.get("FunctionScalingConfig", {})
        least, most = config.get("MinExecutionEnvironments", 0), config.get("MaxExecutionEnvironments")
        if most is not None and least > most:
            raise invalid("MinExecutionEnvironments must not be greater than MaxExecutionEnvironments.")
        if version.configuration.capacity_provider_config is None:
            raise invalid("A scaling config is of a function version that is published to a capacity provider.")

        def edit(function: ManagedFunction) -> ManagedFunction:
            return msgspec.structs.replace(function, scaling={**function.scaling, target.qualifier or "": config})

        function = await self._control.change(target.name, edit)
        return Answer({"FunctionState": shapes.shown_state(function, version)})

    def _published(self, call: Call) -> tuple[Named, ManagedFunction, Version]:
        """Raises Refusal when there is no such version."""
        target = named(self._control, call)
        function = self._control.require(target, region=call.region)
        number = target.qualifier or ""
        if number == LATEST_PUBLISHED and function.versions:
            number = max(function.versions, key=int)
        version = function.versions.get(number)
        if version is None:
            raise self._control.not_found(target, region=call.region)
        return target, function, version

"""How many environments a version has on the instances of a capacity provider: scaling configs.

There are no such instances here, so they are kept and shown; environments come and go by the pool's rules.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from eventfn.api.common import named
from eventfn.api.operations import Answer, Call, Handler
from eventfn.functions.control import Control
from eventfn.functions.managed import LATEST, ManagedFunction
from eventfn.functions.names import Named
from eventfn.functions.refusals import invalid

_PUBLISHED = f"{LATEST}.PUBLISHED"  # the version that was published last


class Scaling:
    def __init__(self, control: Control) -> None:
        self._control = control

    def operations(self) -> Mapping[str, Handler]:
        return {"GetFunctionScalingConfig": self._get, "PutFunctionScalingConfig": self._put}

    async def _get(self, call: Call) -> Answer:
        target, function = self._published(call)
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
        target, _ = self._published(call)
        config: dict[str, int] = call.input.get("FunctionScalingConfig", {})
        least, most = config.get("MinExecutionEnvironments", 0), config.get("MaxExecutionEnvironments")
        if most is not None and least > most:
            raise invalid("MinExecutionEnvironments must not be greater than MaxExecutionEnvironments.")

        def edit(function: ManagedFunction) -> ManagedFunction:
            return msgspec.structs.replace(function, scaling={**function.scaling, target.qualifier or "": config})

        function = await self._control.change(target.name, edit)
        return Answer({"FunctionState": function.latest.state})

    def _published(self, call: Call) -> tuple[Named, ManagedFunction]:
        """Raises Refusal when there is no such version."""
        target = named(self._control, call)
        function = self._control.require(target, region=call.region)
        if target.qualifier not in function.versions and not (target.qualifier == _PUBLISHED and function.versions):
            raise self._control.not_found(target, region=call.region)
        return target, function

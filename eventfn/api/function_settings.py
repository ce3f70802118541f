"""Small settings of functions, each with operations of its own: recursion, runtime management, scaling of instances.

Recursion is enforced by whoever invokes. The other two are about machines and images that Lambda chooses: here the
machine has one version of each runtime, and environments come and go by the pool's rules, so they are kept and shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from eventfn.api.common import named, refuse_qualified
from eventfn.api.operations import Answer, Call, Handler
from eventfn.functions.control import Control
from eventfn.functions.managed import LATEST, ManagedFunction
from eventfn.functions.names import Named
from eventfn.functions.refusals import invalid


class FunctionSettings:
    def __init__(self, control: Control) -> None:
        self._control = control

    def operations(self) -> Mapping[str, Handler]:
        return {
            "GetFunctionRecursionConfig": self._recursion,
            "PutFunctionRecursionConfig": self._put_recursion,
            "GetRuntimeManagementConfig": self._runtime,
            "PutRuntimeManagementConfig": self._put_runtime,
            "GetFunctionScalingConfig": self._scaling,
            "PutFunctionScalingConfig": self._put_scaling,
        }

    # --- recursion ---------------------------------------------------------------------------------------------------

    async def _recursion(self, call: Call) -> Answer:
        target = named(self._control, call)
        refuse_qualified(target)
        return Answer({"RecursiveLoop": self._control.require(target, region=call.region).recursive_loop})

    async def _put_recursion(self, call: Call) -> Answer:
        target = named(self._control, call)
        refuse_qualified(target)
        self._control.require(target, region=call.region)
        wanted: str = call.input["RecursiveLoop"]
        await self._control.change(target.name, lambda one: msgspec.structs.replace(one, recursive_loop=wanted))
        return Answer({"RecursiveLoop": wanted})

    # --- runtime management ------------------------------------------------------------------------------------------

    async def _runtime(self, call: Call) -> Answer:
        target = named(self._control, call)
        function, version = self._control.require_version(target, region=call.region)
        config = function.runtime_management.get(version.number, {"UpdateRuntimeOn": "Auto"})
        return Answer({**config, "FunctionArn": _arn(function, target)})

    async def _put_runtime(self, call: Call) -> Answer:
        target = named(self._control, call)
        _, version = self._control.require_version(target, region=call.region)
        config: dict[str, Any] = {"UpdateRuntimeOn": call.input["UpdateRuntimeOn"]}
        arn = call.input.get("RuntimeVersionArn")
        if (arn is not None) != (config["UpdateRuntimeOn"] == "Manual"):
            raise invalid("RuntimeVersionArn goes together with UpdateRuntimeOn Manual, and only with that.")
        if arn is not None:
            config["RuntimeVersionArn"] = arn

        def edit(function: ManagedFunction) -> ManagedFunction:
            configs = {**function.runtime_management, version.number: config}
            return msgspec.structs.replace(function, runtime_management=configs)

        function = await self._control.change(target.name, edit)
        return Answer({**config, "FunctionArn": _arn(function, target)})

    # --- scaling -----------------------------------------------------------------------------------------------------

    async def _scaling(self, call: Call) -> Answer:
        target = self._published(call)
        function = self._control.require(target, region=call.region)
        config = function.scaling.get(target.qualifier or "", {})
        return Answer(
            {
                "FunctionArn": _arn(function, target),
                "AppliedFunctionScalingConfig": config,
                "RequestedFunctionScalingConfig": config,
            }
        )

    async def _put_scaling(self, call: Call) -> Answer:
        target = self._published(call)
        config: dict[str, int] = call.input.get("FunctionScalingConfig", {})
        least, most = config.get("MinExecutionEnvironments", 0), config.get("MaxExecutionEnvironments")
        if most is not None and least > most:
            raise invalid("MinExecutionEnvironments must not be greater than MaxExecutionEnvironments.")

        def edit(function: ManagedFunction) -> ManagedFunction:
            return msgspec.structs.replace(function, scaling={**function.scaling, target.qualifier or "": config})

        function = await self._control.change(target.name, edit)
        return Answer({"FunctionState": function.latest.state})

    def _published(self, call: Call) -> Named:
        """A version by its number, or the one that was published last. Raises Refusal."""
        target = named(self._control, call)
        function = self._control.require(target, region=call.region)
        if target.qualifier not in function.versions and not (target.qualifier == _PUBLISHED and function.versions):
            raise self._control.not_found(target, region=call.region)
        return target


_PUBLISHED = f"{LATEST}.PUBLISHED"


def _arn(function: ManagedFunction, target: Named) -> str:
    return function.qualified(target.qualifier or LATEST)

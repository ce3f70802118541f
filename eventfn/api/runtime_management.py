"""On which version of its runtime a function may run: whatever the machine has (Auto), what it had when the function
was last updated (FunctionUpdate), or one that is named (Manual).

A machine has one version of each runtime: the program that was found (workers/runtimes). What becomes of a function
whose version is gone stands in functions/deployment.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from eventfn.api.code_sources import CodeSources
from eventfn.api.common import named
from eventfn.api.operations import Answer, Call, Handler
from eventfn.functions.control import Control
from eventfn.functions.managed import LATEST, ManagedFunction
from eventfn.functions.refusals import invalid


class RuntimeManagement:
    def __init__(self, control: Control, code: CodeSources) -> None:
        self._control = control
        self._code = code

    def operations(self) -> Mapping[str, Handler]:
        return {"GetRuntimeManagementConfig": self._get, "PutRuntimeManagementConfig": self._put}

    async def _get(self, call: Call) -> Answer:
        target = named(self._control, call)
        function, version = self._control.require_version(target, region=call.region)
        config = function.runtime_management.get(version.number, {"UpdateRuntimeOn": "Auto"})
        return Answer({**config, "FunctionArn": function.qualified(target.qualifier or LATEST)})

    async def _put(self, call: Call) -> Answer:
        target = named(self._control, call)
        function, version = self._control.require_version(target, region=call.region)
        config: dict[str, Any] = {"UpdateRuntimeOn": call.input["UpdateRuntimeOn"]}
        arn = call.input.get("RuntimeVersionArn")
        if (arn is not None) != (config["UpdateRuntimeOn"] == "Manual"):
            raise invalid("RuntimeVersionArn goes together with UpdateRuntimeOn Manual, and only with that.")
        if arn is not None:
            runtime = version.configuration.runtime
            installed = await self._code.runtime_version(function.name, runtime, function.region)
            if arn != installed:
                raise invalid(
                    f"The runtime version {arn} is not on this machine, whose version of {runtime} is {installed}."
                )
            config["RuntimeVersionArn"] = arn

        def edit(function: ManagedFunction) -> ManagedFunction:
            configs = {**function.runtime_management, version.number: config}
            return msgspec.structs.replace(function, runtime_management=configs)

        function = await self._control.change(target.name, edit)
        return Answer({**config, "FunctionArn": function.qualified(target.qualifier or LATEST)})

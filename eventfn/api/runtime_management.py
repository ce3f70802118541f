"""Which version of its runtime a function has. The machine has one of each, so it is kept and shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from eventfn.api.common import named
from eventfn.api.operations import Answer, Call, Handler
from eventfn.functions.control import Control
from eventfn.functions.managed import LATEST, ManagedFunction
from eventfn.functions.refusals import invalid


class RuntimeManagement:
    def __init__(self, control: Control) -> None:
        self._control = control

    def operations(self) -> Mapping[str, Handler]:
        return {"GetRuntimeManagementConfig": self._get, "PutRuntimeManagementConfig": self._put}

    async def _get(self, call: Call) -> Answer:
        target = named(self._control, call)
        function, version = self._control.require_version(target, region=call.region)
        config = function.runtime_management.get(version.number, {"UpdateRuntimeOn": "Auto"})
        return Answer({**config, "FunctionArn": function.qualified(target.qualifier or LATEST)})

    async def _put(self, call: Call) -> Answer:
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
        return Answer({**config, "FunctionArn": function.qualified(target.qualifier or LATEST)})

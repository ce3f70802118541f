"""Whether a function that invokes itself over and over is stopped. Counted and stopped: bus/bus.py."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from eventfn.api.common import named, refuse_qualified
from eventfn.api.operations import Answer, Call, Handler
from eventfn.functions.control import Control


class Recursion:
    def __init__(self, control: Control) -> None:
        self._control = control

    def operations(self) -> Mapping[str, Handler]:
        return {"GetFunctionRecursionConfig": self._get, "PutFunctionRecursionConfig": self._put}

    async def _get(self, call: Call) -> Answer:
        target = named(self._control, call)
        refuse_qualified(target)
        return Answer({"RecursiveLoop": self._control.require(target, region=call.region).recursive_loop})

    async def _put(self, call: Call) -> Answer:
        target = named(self._control, call)
        refuse_qualified(target)
        self._control.require(target, region=call.region)
        wanted: str = call.input["RecursiveLoop"]
        await self._control.change(target.name, lambda one: msgspec.structs.replace(one, recursive_loop=wanted))
        return Answer({"RecursiveLoop": wanted})

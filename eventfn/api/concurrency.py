"""Reserved and provisioned concurrency.

What may be had: functions/shares.py. Enforced by bus/admission.py and by the pool, whose environments say how far what
is provisioned has come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from eventfn.api.common import iso, named, page, paged, refuse_qualified
from eventfn.api.operations import Answer, Call, Handler
from eventfn.functions import shares
from eventfn.functions.control import Control
from eventfn.functions.managed import LATEST, ManagedFunction, Provisioned
from eventfn.functions.names import Named
from eventfn.functions.refusals import Refusal
from eventfn.workers.contract import PoolStats

_UNPUBLISHED = "The function resource provided must be an alias or a published version."
_CANNOT_BE_PROVISIONED = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."


class Concurrency:
    """`environments` tells of a version's, by the pool's key."""

    def __init__(self, control: Control, environments: Callable[[str], PoolStats]) -> None:
        self._control = control
        self._environments = environments

    def operations(self) -> Mapping[str, Handler]:
        return {
            "PutFunctionConcurrency": self._reserve,
            "GetFunctionConcurrency": self._reserved,
            "DeleteFunctionConcurrency": self._release,
            "PutProvisionedConcurrencyConfig": self._provision,
            "GetProvisionedConcurrencyConfig": self._provisioned,
            "DeleteProvisionedConcurrencyConfig": self._unprovision,
            "ListProvisionedConcurrencyConfigs": self._list,
        }

    @property
    def _limit(self) -> int:
        return self._control.project.limits.concurrency

    def _others(self, name: str) -> list[ManagedFunction]:
        found = (self._control.get(each) for each in self._control.names() if each != name)
        return [each for each in found if each is not None]

    # --- reserved ----------------------------------------------------------------------------------------------------

    async def _reserve(self, call: Call) -> Answer:
        target = named(self._control, call)
        refuse_qualified(target)
        self._control.require(target, region=call.region, shown=LATEST)
        wanted: int = call.input["ReservedConcurrentExecutions"]

        def edit(function: ManagedFunction) -> ManagedFunction:
            shares.refuse_reserved(function, wanted, self._limit, self._others(target.name))
            return msgspec.structs.replace(function, reserved=wanted)

        await self._control.change(target.name, edit)
        return Answer({"ReservedConcurrentExecutions": wanted})

    async def _reserved(self, call: Call) -> Answer:
        target = named(self._control, call)
        refuse_qualified(target)
        function = self._control.require(target, region=call.region)
        return Answer({} if function.reserved is None else {"ReservedConcurrentExecutions": function.reserved})

    async def _release(self, call: Call) -> Answer:
        target = named(self._control, call)
        refuse_qualified(target)
        self._control.require(target, region=call.region)
        await self._control.change(target.name, lambda function: msgspec.structs.replace(function, reserved=None))
        return Answer()

    # --- provisioned -------------------------------------------------------------------------------------------------

    async def _provision(self, call: Call) -> Answer:
        target = named(self._control, call)
        shares.refuse_unpublished(target.qualifier, _CANNOT_BE_PROVISIONED)
        qualifier = target.qualifier or LATEST
        self._control.require_version(target, region=call.region)
        wanted = Provisioned(
            requested=call.input["ProvisionedConcurrentExecutions"], last_modified_ms=self._control.clock.now_ms()
        )

        def edit(function: ManagedFunction) -> ManagedFunction:
            others = self._others(target.name)
            shares.refuse_provisioned(function, qualifier, wanted.requested, self._limit, others)
            return msgspec.structs.replace(function, provisioned={**function.provisioned, qualifier: wanted})

        await self._control.change(target.name, edit)
        return Answer(
            {
                "RequestedProvisionedConcurrentExecutions": wanted.requested,
                "AvailableProvisionedConcurrentExecutions": 0,
                "AllocatedProvisionedConcurrentExecutions": 0,
                "Status": "IN_PROGRESS",
                "LastModified": iso(wanted.last_modified_ms),
            }
        )

    async def _provisioned(self, call: Call) -> Answer:
        target = named(self._control, call)
        shares.refuse_unpublished(target.qualifier, _UNPUBLISHED)
        function, _ = self._control.require_version(target, region=call.region)
        if target.qualifier not in function.provisioned:
            raise Refusal(
                "ProvisionedConcurrencyConfigNotFoundException",
                "No Provisioned Concurrency Config found for this function",
            )
        return Answer(self._shown(function, target.qualifier))

    async def _unprovision(self, call: Call) -> Answer:
        target = named(self._control, call)
        shares.refuse_unpublished(target.qualifier, _UNPUBLISHED)
        self._control.require_version(target, region=call.region)

        def edit(function: ManagedFunction) -> ManagedFunction:
            left = {key: each for key, each in function.provisioned.items() if key != target.qualifier}
            return msgspec.structs.replace(function, provisioned=left)

        await self._control.change(target.name, edit)
        return Answer()

    async def _list(self, call: Call) -> Answer:
        target = named(self._control, call)
        function = self._control.require(target, region=call.region)
        found, marker = paged(sorted(function.provisioned), call, str)
        configs = [{"FunctionArn": function.qualified(key), **self._shown(function, key)} for key in found]
        return Answer(page("ProvisionedConcurrencyConfigs", configs, marker))

    def _shown(self, function: ManagedFunction, qualifier: str) -> dict[str, Any]:
        wanted = function.provisioned[qualifier]
        target = self._control.registry.get(Named(function.name, qualifier).reference)
        stats = None if target is None else self._environments(target.key)
        ready = 0 if stats is None else min(wanted.requested, stats.idle + stats.in_flight)
        shown: dict[str, Any] = {
            "RequestedProvisionedConcurrentExecutions": wanted.requested,
            "AvailableProvisionedConcurrentExecutions": ready,
            "AllocatedProvisionedConcurrentExecutions": ready,
            "Status": "READY" if ready == wanted.requested else "IN_PROGRESS",
            "LastModified": iso(wanted.last_modified_ms),
        }
        if stats is not None and stats.failing and not ready:
            shown |= {"Status": "FAILED", "StatusReason": "FUNCTION_ERROR_INIT_FAILURE"}
        return shown

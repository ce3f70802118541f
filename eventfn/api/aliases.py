"""CreateAlias, GetAlias, UpdateAlias, DeleteAlias, ListAliases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventfn.api import shapes
from eventfn.api.common import page, paged
from eventfn.api.operations import Answer, Call, Handler
from eventfn.functions import versioning
from eventfn.functions.control import Control
from eventfn.functions.managed import ManagedFunction
from eventfn.functions.names import Named
from eventfn.functions.refusals import missing


class Aliases:
    def __init__(self, control: Control) -> None:
        self._control = control

    def operations(self) -> Mapping[str, Handler]:
        return {
            "CreateAlias": self._create,
            "GetAlias": self._get,
            "UpdateAlias": self._update,
            "DeleteAlias": self._delete,
            "ListAliases": self._list,
        }

    async def _create(self, call: Call) -> Answer:
        given, named = call.input, self._named(call)

        def edit(before: ManagedFunction) -> ManagedFunction:
            weights = _weights(given) or {}
            version, description = given["FunctionVersion"], given.get("Description") or ""
            return versioning.with_alias(before, given["Name"], version, description, weights, self._control.new_id)

        return self._shown(await self._control.change(named.name, edit), given["Name"])

    async def _get(self, call: Call) -> Answer:
        named, name = self._named(call), call.input["Name"]
        function = self._control.require(named, region=call.region)
        if name not in function.aliases:
            raise missing(f"Cannot find alias arn: {function.qualified(name)}")
        return self._shown(function, name)

    async def _update(self, call: Call) -> Answer:
        given, named = call.input, self._named(call)

        def edit(before: ManagedFunction) -> ManagedFunction:
            return versioning.with_changed_alias(
                before,
                given["Name"],
                given.get("FunctionVersion"),
                given.get("Description"),
                _weights(given),
                given.get("RevisionId"),
                self._control.new_id,
            )

        return self._shown(await self._control.change(named.name, edit), given["Name"])

    async def _delete(self, call: Call) -> Answer:
        named, name = self._named(call), call.input["Name"]
        await self._control.change(named.name, lambda before: versioning.without_alias(before, name))
        return Answer()

    async def _list(self, call: Call) -> Answer:
        named, version = self._named(call), call.input.get("FunctionVersion")
        function = self._control.require(named, region=call.region)
        found = [
            alias
            for _, alias in sorted(function.aliases.items())
            if version is None or version in (alias.function_version, *alias.weights)
        ]
        aliases, marker = paged(found, call, lambda alias: alias.name)
        return Answer(page("Aliases", [shapes.alias(function, alias) for alias in aliases], marker))

    def _named(self, call: Call) -> Named:
        """Of a function that is there. Raises Refusal."""
        named = self._control.named(call.input["FunctionName"], region=call.region)
        self._control.require(named, region=call.region)
        return named

    def _shown(self, function: ManagedFunction, name: str) -> Answer:
        return Answer(shapes.alias(function, function.aliases[name]))


def _weights(given: Mapping[str, Any]) -> Mapping[str, float | None] | None:
    """None: nothing is said of them."""
    routing = given.get("RoutingConfig")
    return None if routing is None else routing.get("AdditionalVersionWeights") or {}

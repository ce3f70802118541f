"""Tags of whatever has an ARN: functions, event source mappings, code signing configs, capacity providers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from eventfn.api.common import revised
from eventfn.api.operations import Answer, Call, Handler
from eventfn.api.ports import Mappings
from eventfn.functions.configs import CAPACITY, SIGNING, CapacityProvider, CodeSigningConfig
from eventfn.functions.control import Control
from eventfn.functions.managed import ManagedFunction
from eventfn.functions.refusals import invalid, missing

MOST = 50  # on one resource

_RESOURCE = re.compile(
    r"arn:[^:]+:lambda:(?P<region>[^:]*):(?P<account>\d*):(?P<kind>[a-z-]+):(?P<name>[^:]+)(:(?P<qualifier>.+))?"
)

Tags = dict[str, str]
Edit = Callable[[Tags], Tags]


class TagsOfResources:
    def __init__(self, control: Control, mappings: Mappings) -> None:
        self._control = control
        self._mappings = mappings

    def operations(self) -> Mapping[str, Handler]:
        return {"ListTags": self._list, "TagResource": self._tag, "UntagResource": self._untag}

    async def _list(self, call: Call) -> Answer:
        return Answer({"Tags": self._found(call)})

    async def _tag(self, call: Call) -> Answer:
        added: Tags = call.input["Tags"]
        if not added:
            raise invalid("An error occurred and the request cannot be processed.")

        def edit(before: Tags) -> Tags:
            after = before | added
            if len(after) > MOST:
                raise invalid("Number of tags exceeds resource tag limit.")
            return after

        await self._change(call, edit)
        return Answer()

    async def _untag(self, call: Call) -> Answer:
        gone = set(call.input["TagKeys"])
        await self._change(call, lambda before: {key: value for key, value in before.items() if key not in gone})
        return Answer()

    # --- by kind of resource -----------------------------------------------------------------------------------------

    def _resource(self, call: Call) -> tuple[str, str]:
        """Its kind, and its name. Raises Refusal: of another region, or no such kind."""
        arn: str = call.input["Resource"]
        found = _RESOURCE.fullmatch(arn)
        if found is None:
            raise missing()
        if found["kind"] == "function":
            if found["qualifier"] is not None:
                raise invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
            self._control.named(arn, region=call.region)
        return found["kind"], found["name"]

    def _found(self, call: Call) -> Tags:
        kind, name = self._resource(call)
        arn = call.input["Resource"]
        match kind:
            case "function":
                function = self._control.get(name)
                if function is None:
                    raise missing(f"Function not found: {arn}")
                return function.tags
            case "event-source-mapping":
                mapping = self._mappings.get(name)
                if mapping is None:
                    raise missing(f"Event source mapping not found: {arn}")
                return mapping.tags
            case "code-signing-config":
                config = self._control.store.document(SIGNING + name, CodeSigningConfig)
                if config is None:
                    raise missing(f"The Lambda code signing configuration {arn} can not be found.")
                return config.tags
            case "capacity-provider":
                provider = self._control.store.document(CAPACITY + name, CapacityProvider)
                if provider is None:
                    raise missing()
                return provider.tags
            case _:
                raise missing()

    async def _change(self, call: Call, edit: Edit) -> None:
        kind, name = self._resource(call)
        self._found(call)
        store = self._control.store
        match kind:
            case "function":

                def change(function: ManagedFunction) -> ManagedFunction:
                    return revised(msgspec.structs.replace(function, tags=edit(function.tags)), None)

                await self._control.change(name, change)
            case "event-source-mapping":
                await self._mappings.tag(name, edit)
            case "code-signing-config":
                await store.change_document(SIGNING + name, CodeSigningConfig, lambda before: _tagged(before, edit))
            case _:
                await store.change_document(CAPACITY + name, CapacityProvider, lambda before: _tagged(before, edit))


def _tagged(before: CodeSigningConfig | CapacityProvider | None, edit: Edit) -> Any:
    if before is None:
        raise missing()  # deleted meanwhile
    return msgspec.structs.replace(before, tags=edit(before.tags))

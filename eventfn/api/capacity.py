"""Capacity providers: EC2 instances that Lambda would run functions on. There are none of these here.

What is asked for is checked, kept and shown, so that tools that make one go on; its functions run on this node.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from eventfn.api.common import iso, page, paged
from eventfn.api.operations import Answer, Call, Handler
from eventfn.functions.configs import CAPACITY, CapacityProvider
from eventfn.functions.control import Control
from eventfn.functions.refusals import Refusal, conflict, missing

_SETTINGS = (
    "VpcConfig",
    "PermissionsConfig",
    "InstanceRequirements",
    "CapacityProviderScalingConfig",
    "KmsKeyArn",
    "PropagateTags",
    "TelemetryConfig",
)


class CapacityProviders:
    def __init__(self, control: Control) -> None:
        self._control = control

    def operations(self) -> Mapping[str, Handler]:
        return {
            "CreateCapacityProvider": self._create,
            "GetCapacityProvider": self._get,
            "UpdateCapacityProvider": self._update,
            "DeleteCapacityProvider": self._delete,
            "ListCapacityProviders": self._list,
            "ListFunctionVersionsByCapacityProvider": self._list_versions,
        }

    async def _create(self, call: Call) -> Answer:
        name = _name(call)
        provider = CapacityProvider(
            name=name,
            arn=f"arn:aws:lambda:{call.region}:{self._control.account}:capacity-provider:{name}",
            settings={key: call.input[key] for key in _SETTINGS if key in call.input},
            modified_ms=self._control.clock.now_ms(),
            tags=call.input.get("Tags", {}),
        )

        def edit(before: CapacityProvider | None) -> CapacityProvider:
            if before is not None:
                raise conflict(f"Capacity provider already exists: {before.arn}")
            return provider

        await self._control.store.change_document(CAPACITY + name, CapacityProvider, edit)
        return Answer(_shown(provider, "Pending"))

    async def _get(self, call: Call) -> Answer:
        return Answer(_shown(self._found(call)))

    async def _update(self, call: Call) -> Answer:
        settings = {key: call.input[key] for key in _SETTINGS if key in call.input}

        def edit(before: CapacityProvider | None) -> CapacityProvider:
            if before is None:
                raise self._none(call)
            now = self._control.clock.now_ms()
            return msgspec.structs.replace(before, settings={**before.settings, **settings}, modified_ms=now)

        provider = await self._control.store.change_document(CAPACITY + _name(call), CapacityProvider, edit)
        assert provider is not None, "an edit gives one"
        return Answer(_shown(provider))

    async def _delete(self, call: Call) -> Answer:
        provider = self._found(call)
        if self._versions(provider.arn):
            raise Refusal(
                "ResourceConflictException", "The capacity provider has function versions: delete them first."
            )
        await self._control.store.put_document(CAPACITY + provider.name, None)
        return Answer(_shown(provider, "Deleting"))

    async def _list(self, call: Call) -> Answer:
        wanted = call.input.get("State", "Active")
        providers = list(self._control.store.documents(CAPACITY, CapacityProvider).values())
        found, marker = paged(providers if wanted == "Active" else [], call, lambda provider: provider.name)
        return Answer(page("CapacityProviders", [_shown(each)["CapacityProvider"] for each in found], marker))

    async def _list_versions(self, call: Call) -> Answer:
        provider = self._found(call)
        found, marker = paged(self._versions(provider.arn), call, str)
        versions = [{"FunctionArn": arn, "State": "Active"} for arn in found]
        return Answer({"CapacityProviderArn": provider.arn, **page("FunctionVersions", versions, marker)})

    def _versions(self, arn: str) -> list[str]:
        functions = [each for name in self._control.store.names() if (each := self._control.store.get(name))]
        return sorted(
            function.qualified(version.number)
            for function in functions
            for version in function.all_versions()
            if _provider_of(version.configuration.capacity_provider_config) == arn
        )

    def _found(self, call: Call) -> CapacityProvider:
        provider = self._control.store.document(CAPACITY + _name(call), CapacityProvider)
        if provider is None:
            raise self._none(call)
        return provider

    def _none(self, call: Call) -> Refusal:
        arn = f"arn:aws:lambda:{call.region}:{self._control.account}:capacity-provider:{_name(call)}"
        return missing(f"Capacity provider not found: {arn}")


def _name(call: Call) -> str:
    """Of a name or an ARN."""
    given: str = call.input["CapacityProviderName"]
    return re.sub(r".*:", "", given)


def _provider_of(config: Mapping[str, Any] | None) -> str | None:
    instances: Mapping[str, Any] = (config or {}).get("LambdaManagedInstancesCapacityProviderConfig", {})
    return instances.get("CapacityProviderArn")


def _shown(provider: CapacityProvider, state: str = "Active") -> dict[str, Any]:
    shown = {
        "CapacityProviderArn": provider.arn,
        "State": state,
        **provider.settings,
        "LastModified": iso(provider.modified_ms),
    }
    return {"CapacityProvider": shown}

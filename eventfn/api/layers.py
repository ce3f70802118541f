"""Layers: their versions, and who else may use one.

A version is kept with its code as a blob; numbers are never given twice. A function that has a layer version keeps its
code also when the version is deleted. How /opt is made of layers: functions/layers.py.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from eventfn.api.account import TOTAL_CODE_SIZE, code_size
from eventfn.api.code_sources import CodeSources
from eventfn.api.common import iso, page, paged, refuse_stale
from eventfn.api.locations import Locations
from eventfn.api.operations import Answer, Call, Handler
from eventfn.functions import policies
from eventfn.functions.control import Control
from eventfn.functions.managed import Layer, LayerVersion
from eventfn.functions.policies import NO_POLICY
from eventfn.functions.refusals import Refusal, invalid, missing

DOCUMENTS = "layers/"  # layers/<name>

_LAYER = re.compile(
    r"(?:arn:[^:]+:lambda:(?P<region>[^:]+):(?P<account>[^:]+):layer:)?(?P<name>[A-Za-z0-9_-]+)(?::(?P<number>\d+))?"
)


class Layers:
    def __init__(self, control: Control, sources: CodeSources, locations: Locations) -> None:
        self._control = control
        self._sources = sources
        self._locations = locations

    def operations(self) -> Mapping[str, Handler]:
        return {
            "PublishLayerVersion": self._publish,
            "GetLayerVersion": self._get,
            "GetLayerVersionByArn": self._get_by_arn,
            "DeleteLayerVersion": self._delete,
            "ListLayers": self._list,
            "ListLayerVersions": self._list_versions,
            "AddLayerVersionPermission": self._add_permission,
            "GetLayerVersionPolicy": self._policy,
            "RemoveLayerVersionPermission": self._remove_permission,
        }

    async def _publish(self, call: Call) -> Answer:
        name = self._name(call)
        given = call.input
        code = await self._sources.of(given["Content"], call, update=False)
        if code_size(self._control) + code.size > TOTAL_CODE_SIZE:
            raise Refusal("CodeStorageExceededException", "Code storage limit exceeded.")
        number = 0

        def edit(before: Layer | None) -> Layer:
            nonlocal number
            layer = before or Layer(name=name, region=call.region, account=self._control.account)
            number = layer.next_version
            version = LayerVersion(
                number=number,
                code=code,
                created_ms=self._control.clock.now_ms(),
                description=given.get("Description", ""),
                license_info=given.get("LicenseInfo"),
                compatible_runtimes=_tuple(given.get("CompatibleRuntimes")),
                compatible_architectures=_tuple(given.get("CompatibleArchitectures")),
            )
            versions = {**layer.versions, str(number): version}
            return msgspec.structs.replace(layer, versions=versions, next_version=number + 1)

        layer = await self._control.store.change_document(DOCUMENTS + name, Layer, edit)
        assert layer is not None, "an edit gives one"
        return Answer(self._shown(layer, layer.versions[str(number)], call))

    async def _get(self, call: Call) -> Answer:
        layer, version = self._version(self._name(call), call.input["VersionNumber"])
        return Answer(self._shown(layer, version, call))

    async def _get_by_arn(self, call: Call) -> Answer:
        found = _LAYER.fullmatch(call.input["Arn"])
        if found is None or found["number"] is None:
            raise missing()
        layer, version = self._version(found["name"], int(found["number"]))
        if f"{layer.arn}:{version.number}" != call.input["Arn"]:
            raise missing()  # of another account, or region
        return Answer(self._shown(layer, version, call))

    async def _delete(self, call: Call) -> Answer:
        name, number = self._name(call), call.input["VersionNumber"]
        _check_number(number)

        def edit(layer: Layer | None) -> Layer | None:
            if layer is None:
                return None
            left = {key: each for key, each in layer.versions.items() if key != str(number)}
            return msgspec.structs.replace(layer, versions=left)  # kept when it is empty too: numbering goes on

        await self._control.store.change_document(DOCUMENTS + name, Layer, edit)
        return Answer()

    async def _list(self, call: Call) -> Answer:
        layers: list[dict[str, Any]] = []
        for layer in self._control.store.documents(DOCUMENTS, Layer).values():
            fitting = _fitting(layer, call)
            if fitting and layer.region == call.region:
                shown = {"LayerName": layer.name, "LayerArn": layer.arn}
                layers.append({**shown, "LatestMatchingVersion": _listed(layer, fitting[0])})
        found, marker = paged(layers, call, lambda each: str(each["LayerName"]))
        return Answer(page("Layers", found, marker))

    async def _list_versions(self, call: Call) -> Answer:
        layer = self._control.store.document(DOCUMENTS + self._name(call), Layer)
        fitting = [] if layer is None else _fitting(layer, call)
        # The newest first, so the marker counts down.
        found, marker = paged(fitting, call, lambda version: f"{_AFTER_ALL - version.number:020}")
        versions = [] if layer is None else [_listed(layer, version) for version in found]
        return Answer(page("LayerVersions", versions, marker))

    # --- policies ----------------------------------------------------------------------------------------------------

    async def _add_permission(self, call: Call) -> Answer:
        name, number = self._name(call), call.input["VersionNumber"]
        layer, _ = self._version(name, number)
        statement = policies.permission(call.input, f"{layer.arn}:{number}")

        def edit(before: LayerVersion) -> LayerVersion:
            refuse_stale(call.input.get("RevisionId"), before.policy_revision_id or "", "GetLayerPolicy")
            return msgspec.structs.replace(
                before, policy=policies.added(before.policy, statement), policy_revision_id=str(uuid.uuid4())
            )

        after = await self._change(name, number, edit)
        answer = {"Statement": msgspec.json.encode(statement).decode(), "RevisionId": after.policy_revision_id}
        return Answer(answer)

    async def _policy(self, call: Call) -> Answer:
        _, version = self._version(self._name(call), call.input["VersionNumber"])
        if version.policy is None:
            raise missing(NO_POLICY)
        return Answer({"Policy": version.policy.document(), "RevisionId": version.policy_revision_id})

    async def _remove_permission(self, call: Call) -> Answer:
        def edit(before: LayerVersion) -> LayerVersion:
            left = policies.removed(before.policy, call.input["StatementId"])
            refuse_stale(call.input.get("RevisionId"), before.policy_revision_id or "", "GetLayerPolicy")
            revision_id = None if left is None else str(uuid.uuid4())
            return msgspec.structs.replace(before, policy=left, policy_revision_id=revision_id)

        await self._change(self._name(call), call.input["VersionNumber"], edit)
        return Answer()

    async def _change(self, name: str, number: int, edit: Callable[[LayerVersion], LayerVersion]) -> LayerVersion:
        def change(layer: Layer | None) -> Layer:
            before = None if layer is None else layer.versions.get(str(number))
            if layer is None or before is None:
                raise missing()
            return msgspec.structs.replace(layer, versions={**layer.versions, str(number): edit(before)})

        layer = await self._control.store.change_document(DOCUMENTS + name, Layer, change)
        assert layer is not None, "a change gives one"
        return layer.versions[str(number)]

    # --- finding and showing -----------------------------------------------------------------------------------------

    def _name(self, call: Call) -> str:
        """Of a name or an ARN. Raises Refusal: of another account."""
        found = _LAYER.fullmatch(call.input["LayerName"])
        if found is None or found["number"] is not None:
            raise missing()
        if found["account"] not in (None, self._control.account):
            raise Refusal("AccessDeniedException", None)
        return found["name"]

    def _version(self, name: str, number: int) -> tuple[Layer, LayerVersion]:
        _check_number(number)
        layer = self._control.store.document(DOCUMENTS + name, Layer)
        version = None if layer is None else layer.versions.get(str(number))
        if layer is None or version is None:
            raise missing()
        return layer, version

    def _shown(self, layer: Layer, version: LayerVersion, call: Call) -> dict[str, Any]:
        content = {
            "Location": self._locations.of(call.base_url, version.code),
            "CodeSha256": version.code.sha256,
            "CodeSize": version.code.size,
        }
        return {"Content": content, "LayerArn": layer.arn, **_listed(layer, version)}


_AFTER_ALL = 10**19  # more than any version's number


def _listed(layer: Layer, version: LayerVersion) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "LayerVersionArn": f"{layer.arn}:{version.number}",
        "Version": version.number,
        "Description": version.description,
        "CreatedDate": iso(version.created_ms),
    }
    if version.compatible_runtimes is not None:
        shown["CompatibleRuntimes"] = version.compatible_runtimes
    if version.compatible_architectures is not None:
        shown["CompatibleArchitectures"] = version.compatible_architectures
    if version.license_info is not None:
        shown["LicenseInfo"] = version.license_info
    return shown


def _fitting(layer: Layer, call: Call) -> list[LayerVersion]:
    """The newest first."""
    runtime, architecture = call.input.get("CompatibleRuntime"), call.input.get("CompatibleArchitecture")
    return [
        version
        for version in sorted(layer.versions.values(), key=lambda version: -version.number)
        if (runtime is None or runtime in (version.compatible_runtimes or ()))
        and (architecture is None or architecture in (version.compatible_architectures or ()))
    ]


def _check_number(number: int) -> None:
    if number < 1:
        raise invalid("Layer Version Cannot be less than 1")


def _tuple(given: list[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(given)

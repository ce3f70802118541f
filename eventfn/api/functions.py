"""CreateFunction, GetFunction, GetFunctionConfiguration, UpdateFunctionCode, UpdateFunctionConfiguration,
DeleteFunction, ListFunctions.

Not here: what a configuration may be (functions/configuring.py), versions and aliases, how a function is shown
(shapes.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from eventfn.api import shapes
from eventfn.api.code_signing import check_deployed
from eventfn.api.code_sources import CodeSources
from eventfn.api.common import named, page, paged
from eventfn.api.locations import Locations
from eventfn.api.operations import Answer, Call, Handler
from eventfn.errors import FunctionNotFound
from eventfn.functions import configuring, versioning
from eventfn.functions.attaching import attached
from eventfn.functions.control import Control
from eventfn.functions.managed import LATEST, Code, Layer, ManagedFunction, Version
from eventfn.functions.names import Named, is_number
from eventfn.functions.refusals import invalid
from eventfn.observe.metrics import Metrics


class Functions:
    def __init__(self, control: Control, code: CodeSources, locations: Locations, metrics: Metrics) -> None:
        self._control = control
        self._metrics = metrics
        self._code = code
        self._locations = locations

    def operations(self) -> Mapping[str, Handler]:
        return {
            "CreateFunction": self._create,
            "GetFunction": self._get,
            "GetFunctionConfiguration": self._get_configuration,
            "UpdateFunctionCode": self._update_code,
            "UpdateFunctionConfiguration": self._update_configuration,
            "DeleteFunction": self._delete,
            "ListFunctions": self._list,
        }

    # --- create ------------------------------------------------------------------------------------------------------

    async def _create(self, call: Call) -> Answer:
        given, control = call.input, self._control
        name = control.named(given["FunctionName"], region=call.region).name
        layers = attached(given.get("Layers") or (), self._layer, call.region)
        # Before the code is looked at, which takes longer than all the rest.
        made = configuring.created(given, layers, Code(sha256="", size=0))
        if control.get(name) is not None:
            raise versioning.already_there(name)
        runs_on = await self._code.runtime_version(name, made.runtime, call.region)
        await control.check_role(made.role, name)
        if (signing := given.get("CodeSigningConfigArn")) is not None:
            self._check_deployed(signing, [control.arn(name, region=call.region), *(layer.arn for layer in layers)])
        code = await self._code.of(given["Code"], call, update=False, configuration=made)
        latest = versioning.pending(LATEST, made, code, control.clock.now_ms(), control.new_id)
        latest = msgspec.structs.replace(latest, runtime_version_arn=runs_on)
        function = ManagedFunction(
            name=name,
            region=call.region,
            account=control.account,
            latest=latest,
            tags=given.get("Tags") or {},
            code_signing_config_arn=signing,
        )
        shown = latest
        if given.get("Publish"):
            function, shown = versioning.publish(function, None, control.clock.now_ms(), control.new_id)
        await control.create(function)
        return Answer(shapes.configuration(function, shown, function.arn))

    # --- get ---------------------------------------------------------------------------------------------------------

    async def _get(self, call: Call) -> Answer:
        target = named(self._control, call)
        function, version = self._control.require_version(target, region=call.region)
        answer: dict[str, Any] = {
            "Configuration": self._shown(function, version, target),
            "Code": {"RepositoryType": "S3", "Location": self._locations.of(call.base_url, version.code)},
        }
        if function.tags:
            answer["Tags"] = function.tags
        if function.reserved is not None:
            answer["Concurrency"] = {"ReservedConcurrentExecutions": function.reserved}
        return Answer(answer)

    async def _get_configuration(self, call: Call) -> Answer:
        target = named(self._control, call)
        return Answer(self._shown(*self._control.require_version(target, region=call.region), target))

    async def _list(self, call: Call) -> Answer:
        every = call.input.get("FunctionVersion") == "ALL"
        found: list[tuple[str, ManagedFunction, Version]] = []
        for name in self._control.names():
            function = self._control.get(name)
            if function is None:
                continue  # declared, and not ready yet
            for version in function.all_versions() if every else (function.latest,):
                place = "" if version.number == LATEST else version.number.zfill(12)
                found.append((f"{name}!{place}", function, version))  # "!" is before all that a name can go on with
        found.sort(key=lambda each: each[0])
        versions, marker = paged(found, call, lambda each: each[0])
        shown = [
            shapes.configuration(
                function, version, function.qualified(version.number) if every else function.arn, listed=True
            )
            for _, function, version in versions
        ]
        return Answer(page("Functions", shown, marker))

    # --- update ------------------------------------------------------------------------------------------------------

    async def _update_configuration(self, call: Call) -> Answer:
        given, control = call.input, self._control
        target = self._to_change(call)
        layers = None
        if given.get("Layers") is not None:
            layers = attached(given["Layers"], self._layer, call.region)
        function, _ = control.require_version(target, region=call.region)
        versioning.check_revision(function.latest, given.get("RevisionId"))
        versioning.check_idle(function)
        wanted = configuring.updated(function.latest.configuration, given, layers, function.latest.code)
        had = {layer.arn for layer in function.latest.configuration.layers}
        self._check_deployed(
            function.code_signing_config_arn, [layer.arn for layer in wanted.layers if layer.arn not in had]
        )
        runs_on = await self._code.runtime_version(target.name, wanted.runtime, function.region)
        await self._code.check_bootstrap(function.latest.code, wanted)
        if given.get("Role") is not None:
            await control.check_role(given["Role"], target.name)

        def edit(before: ManagedFunction) -> ManagedFunction:
            versioning.check_revision(before.latest, given.get("RevisionId"))
            versioning.check_idle(before)
            latest = before.latest
            made = configuring.updated(latest.configuration, given, layers, latest.code)
            return versioning.in_progress(before, made, latest.code, control.clock.now_ms(), control.new_id, runs_on)

        after = await control.change(target.name, edit)
        return Answer(shapes.configuration(after, after.latest, after.arn))

    async def _update_code(self, call: Call) -> Answer:
        given, control = call.input, self._control
        target = self._to_change(call)
        function, _ = control.require_version(target, region=call.region)
        versioning.check_revision(function.latest, given.get("RevisionId"))
        versioning.check_idle(function)
        self._check_deployed(function.code_signing_config_arn, [function.arn])
        now = function.latest.configuration
        runs_on = await self._code.runtime_version(target.name, now.runtime, function.region)
        code = await self._code.of(given, call, update=True, configuration=now, keep=not given.get("DryRun"))
        published: Version | None = None

        def edit(before: ManagedFunction) -> ManagedFunction:
            nonlocal published
            versioning.check_revision(before.latest, given.get("RevisionId"))
            versioning.check_idle(before)
            now_ms, made = control.clock.now_ms(), before.latest.configuration
            if given.get("Architectures"):
                made = msgspec.structs.replace(made, architectures=tuple(given["Architectures"]))
            configuring.check_size(code, made.layers)
            after = versioning.in_progress(before, made, code, now_ms, control.new_id, runs_on)
            if given.get("Publish"):
                after, published = versioning.publish(after, None, now_ms, control.new_id)
            return after

        if given.get("DryRun"):
            after = edit(function)
            shown = msgspec.structs.replace(function.latest, code=code, configuration=after.latest.configuration)
            return Answer(shapes.configuration(function, shown, function.arn))
        after = await control.change(target.name, edit)
        if published is not None:
            return Answer(shapes.configuration(after, published, after.qualified(published.number)))
        return Answer(shapes.configuration(after, after.latest, after.arn))

    # --- delete ------------------------------------------------------------------------------------------------------

    async def _delete(self, call: Call) -> Answer:
        target, control = named(self._control, call), self._control
        function = control.require(target, region=call.region)
        if target.qualifier == LATEST:
            raise invalid("$LATEST version cannot be deleted without deleting the function.")
        if target.qualifier is not None and not is_number(target.qualifier):
            raise invalid("Deletion of aliases is not currently supported.")
        control.refuse_declared(target.name)
        try:
            if target.qualifier is None:
                await control.store.delete(function.name)
            else:
                number = target.qualifier
                await control.change(function.name, lambda before: versioning.without_version(before, number))
        except FunctionNotFound as error:  # somebody else was first
            raise control.not_found(target, region=call.region) from error
        return Answer()

    # --- what they share ---------------------------------------------------------------------------------------------

    def _check_deployed(self, signing: str | None, artifacts: list[str]) -> None:
        check_deployed(self._control, self._metrics, signing, artifacts)

    def _layer(self, name: str) -> Layer | None:
        return self._control.store.document(f"layers/{name}", Layer)

    def _to_change(self, call: Call) -> Named:
        """$LATEST is what is updated. Raises Refusal: another version is meant, or there is no such function."""
        target = named(self._control, call)
        self._control.require(target, region=call.region)
        if target.qualifier not in (None, LATEST):
            raise self._control.not_found(target, region=call.region)
        self._control.refuse_declared(target.name)
        return target

    def _shown(self, function: ManagedFunction, version: Version, target: Named) -> dict[str, Any]:
        arn = function.arn if target.qualifier is None else function.qualified(target.qualifier)
        return shapes.configuration(function, version, arn)

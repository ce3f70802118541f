"""PublishVersion, ListVersionsByFunction."""

from __future__ import annotations

from collections.abc import Mapping

from eventfn.api import shapes
from eventfn.api.common import page, paged
from eventfn.api.operations import Answer, Call, Handler
from eventfn.functions import versioning
from eventfn.functions.control import Control
from eventfn.functions.managed import LATEST, ManagedFunction, Version
from eventfn.functions.refusals import invalid


class Versions:
    def __init__(self, control: Control) -> None:
        self._control = control

    def operations(self) -> Mapping[str, Handler]:
        return {"PublishVersion": self._publish, "ListVersionsByFunction": self._list}

    async def _publish(self, call: Call) -> Answer:
        given, control = call.input, self._control
        named = control.named(given["FunctionName"], region=call.region)
        control.require(named, region=call.region)
        published: Version | None = None

        def edit(before: ManagedFunction) -> ManagedFunction:
            nonlocal published
            versioning.check_revision(before.latest, given.get("RevisionId"))
            sha256, current = given.get("CodeSha256"), before.latest.code.sha256
            if sha256 and sha256 != current:
                raise invalid(
                    f"CodeSHA256 ({sha256}) is different from current CodeSHA256 in $LATEST ({current}). Please try "
                    "again with the CodeSHA256 in $LATEST."
                )
            versioning.check_idle(before)
            after, published = versioning.publish(
                before, given.get("Description"), control.clock.now_ms(), control.new_id
            )
            return after

        after = await control.change(named.name, edit)
        assert published is not None, "the edit has run"
        return Answer(shapes.configuration(after, published, after.qualified(published.number)))

    async def _list(self, call: Call) -> Answer:
        named = self._control.named(call.input["FunctionName"], region=call.region)
        function = self._control.require(named, region=call.region)
        versions, marker = paged(list(function.all_versions()), call, _place)
        shown = [
            shapes.configuration(function, version, function.qualified(version.number), listed=True)
            for version in versions
        ]
        return Answer(page("Versions", shown, marker))


def _place(version: Version) -> str:
    """$LATEST, then the numbers as numbers."""
    return "0" if version.number == LATEST else version.number.zfill(12)

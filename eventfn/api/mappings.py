"""Event source mappings. What may be asked for: functions/mappings.py. What runs them: mapping/running.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventfn.api.common import page, paged
from eventfn.api.operations import Answer, Call, Handler
from eventfn.api.ports import Mappings
from eventfn.functions import mappings
from eventfn.functions.control import Control
from eventfn.functions.mappings import EventSourceMapping, Target
from eventfn.functions.refusals import invalid, missing

_PAGE = 100


class EventSourceMappings:
    def __init__(self, control: Control, running: Mappings) -> None:
        self._control = control
        self._mappings = running

    def operations(self) -> Mapping[str, Handler]:
        return {
            "CreateEventSourceMapping": self._create,
            "GetEventSourceMapping": self._get,
            "UpdateEventSourceMapping": self._update,
            "DeleteEventSourceMapping": self._delete,
            "ListEventSourceMappings": self._list,
        }

    async def _create(self, call: Call) -> Answer:
        connector = mappings.connector(mappings.kind_of(call.input))
        sight = self._mappings.sight(connector)
        target = self._target(call)
        now = self._control.clock.now_ms()
        mapping = mappings.created(call.input, target, self._control.new_id(), sight, now)
        await self._mappings.create(mapping)
        return Answer(self._shown(mapping))

    async def _get(self, call: Call) -> Answer:
        return Answer(self._shown(self._found(call)))

    async def _update(self, call: Call) -> Answer:
        mapping = self._found(call)
        sight = self._mappings.sight(mapping.type)
        target = self._target(call) if "FunctionName" in call.input else None
        now = self._control.clock.now_ms()

        def edit(before: EventSourceMapping) -> EventSourceMapping:
            return mappings.updated(before, call.input, target, sight, now)

        return Answer(self._shown(await self._mappings.update(mapping.uuid, edit)))

    async def _delete(self, call: Call) -> Answer:
        return Answer(self._shown(await self._mappings.delete(self._found(call).uuid)))

    async def _list(self, call: Call) -> Answer:
        source, name = call.input.get("EventSourceArn"), call.input.get("FunctionName")
        wanted = None if name is None else self._control.named(name, region=call.region)
        found = [
            mapping
            for mapping in self._mappings.all().values()
            if (source is None or mapping.event_source_arn == source)
            and (wanted is None or mapping.function.name == wanted.name)
            and (wanted is None or wanted.qualifier in (None, mapping.function.qualifier))
        ]
        found.sort(key=_uuid)
        shown, marker = paged(found, call, _uuid, _PAGE)
        return Answer(page("EventSourceMappings", [self._shown(mapping) for mapping in shown], marker))

    def _found(self, call: Call) -> EventSourceMapping:
        mapping = self._mappings.get(call.input["UUID"])
        if mapping is None:
            raise missing()
        return mapping

    def _target(self, call: Call) -> Target:
        """Raises Refusal when there is no such function, version or alias."""
        target = self._control.named(call.input["FunctionName"], region=call.region)
        function = self._control.get(target.name)
        if function is None or function.resolve(target.qualifier) is None:
            raise invalid("Function does not exist")
        arn = function.arn if target.qualifier is None else function.qualified(target.qualifier)
        return Target(name=target.name, qualifier=target.qualifier, arn=arn)

    def _shown(self, mapping: EventSourceMapping) -> dict[str, Any]:
        return mappings.shown(mapping, *self._mappings.state(mapping))


def _uuid(mapping: EventSourceMapping) -> str:
    return mapping.uuid

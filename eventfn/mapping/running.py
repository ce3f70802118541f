"""Which mappings there are, which of them run, and what state they are in.

    create, update, delete ─commit─▶ store ─▶ `run` ─▶ sources.map ─▶ Enabled, Disabled, gone
                                     functions that come, change and go ─▲

A change is answered once it is kept; what it does to sources comes after, and until then the mapping says Creating,
Updating, Enabling, Disabling or Deleting. A mapping whose function is not there waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Literal

import msgspec

from eventfn.clock import Clock
from eventfn.errors import ConnectorError, EventfnError
from eventfn.functions import mappings
from eventfn.functions.mappings import EventSourceMapping, FilterSight
from eventfn.functions.model import Project
from eventfn.functions.refusals import Refusal, invalid, missing
from eventfn.functions.registry import Registry
from eventfn.functions.store import Store
from eventfn.mapping.binding import bind, sight
from eventfn.plugins import Plugins
from eventfn.sources import Bound, Sources

State = Literal["Creating", "Enabling", "Enabled", "Disabling", "Disabled", "Updating", "Deleting"]

_DOCUMENTS = "mappings/"
_AFTER_A_FAULT = 5.0  # seconds

log = logging.getLogger("eventfn.mapping")


class Mappings:
    """`run` it beside the sources, once what is declared was; its mutations work from then on."""

    def __init__(
        self,
        store: Store,
        sources: Sources,
        registry: Registry,
        plugins: Plugins,
        project: Callable[[], Project],
        clock: Clock,
    ) -> None:
        self._store = store
        self._sources = sources
        self._registry = registry
        self._plugins = plugins
        self._project = project
        self._clock = clock
        self._going: dict[str, EventSourceMapping] = {}  # deleted, and not drained yet
        self._changing: dict[str, State] = {}
        self._problems: dict[str, str] = {}  # why one does not run
        self._changed = asyncio.Event()
        self._changed.set()
        self._one_at_a_time = asyncio.Lock()
        store.on_change(lambda name, before, after: self.look_again())

    def look_again(self) -> None:
        """Functions or the declaration have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            done = dict(self._changing)
            try:
                await self._sources.map(self._bound())
                for uuid, state in done.items():
                    if state == "Deleting":
                        await self._sources.forget(self._going[uuid].source)
            except EventfnError as error:
                log.error("the event source mappings are not all as they should be, trying again: %s", error)
                await self._clock.sleep(_AFTER_A_FAULT)
                self._changed.set()
                continue
            except Exception:  # a connector's, mostly: what runs does not go down over it
                log.exception("the event source mappings are not all as they should be, trying again")
                await self._clock.sleep(_AFTER_A_FAULT)
                self._changed.set()
                continue
            for uuid, state in done.items():
                if self._changing.get(uuid) == state:
                    del self._changing[uuid]
                    self._going.pop(uuid, None)

    def _bound(self) -> list[Bound]:
        """Those that are to run now."""
        found: list[Bound] = []
        self._problems.clear()
        for mapping in self.all().values():
            if mapping.uuid in self._going:
                continue
            try:
                bound = self._bind(mapping)
            except Refusal as refused:
                self._problems[mapping.uuid] = str(refused)
                log.error("the event source mapping %s cannot run: %s", mapping.uuid, refused)
                continue
            if bound is not None:
                found.append(bound)
            else:
                self._problems[mapping.uuid] = f"Function not found: {mapping.function.arn}"
        return found

    def _bind(self, mapping: EventSourceMapping) -> Bound | None:
        """None: its function is not there, or not ready. Raises Refusal."""
        target = self._registry.get(mapping.function.key)
        if target is None:
            return None
        function = msgspec.structs.replace(target.function, name=mapping.function.key)
        return Bound(function, mapping.function.arn, bind(mapping, self._project(), self._plugins))

    # --- what there is -----------------------------------------------------------------------------------------------

    def all(self) -> dict[str, EventSourceMapping]:
        """By UUID, those that are being deleted included."""
        return {**self._store.documents(_DOCUMENTS, EventSourceMapping), **self._going}

    def get(self, uuid: str) -> EventSourceMapping | None:
        return self._going.get(uuid) or self._store.document(_DOCUMENTS + uuid, EventSourceMapping)

    def state(self, mapping: EventSourceMapping) -> tuple[State, str | None]:
        """And Lambda's LastProcessingResult; None: there is none yet."""
        state: State = self._changing.get(mapping.uuid) or ("Enabled" if mapping.enabled else "Disabled")
        trouble, last_result = self._sources.state(mapping.source)
        if mapping.enabled and (problem := self._problems.get(mapping.uuid) or trouble):
            return state, f"PROBLEM: {problem}"
        return state, last_result or None

    def sight(self, connector: str) -> FilterSight:
        return sight(self._plugins, connector)

    # --- what changes ------------------------------------------------------------------------------------------------

    async def create(self, mapping: EventSourceMapping) -> None:
        """Once it is kept. Raises Refusal: there is one already, its source is not there, eventfn.toml lacks what it
        needs."""
        async with self._one_at_a_time:
            mappings.refuse_second(mapping, self.all())
            await self._reach(mapping)
            await self._store.put_document(_DOCUMENTS + mapping.uuid, mapping)
        self._is(mapping.uuid, "Creating")

    async def update(self, uuid: str, edit: Callable[[EventSourceMapping], EventSourceMapping]) -> EventSourceMapping:
        """Raises Refusal: there is none, it is being changed already; and what `edit` raises."""
        async with self._one_at_a_time:
            before = self._settled(uuid, "update")
            after = edit(before)
            mappings.refuse_second(after, self.all())
            await self._reach_again(after)
            await self._store.put_document(_DOCUMENTS + uuid, after)
        changed: State = "Updating"
        if after.enabled != before.enabled:
            changed = "Enabling" if after.enabled else "Disabling"
        self._is(uuid, changed)
        return after

    async def switch(self, source: str, enabled: bool) -> None:
        """As `update` of Enabled alone, for an operator who calls it by its trigger's name."""

        def edit(before: EventSourceMapping) -> EventSourceMapping:
            return msgspec.structs.replace(before, enabled=enabled, last_modified_ms=self._clock.now_ms())

        await self.update(source.removeprefix(mappings.PREFIX), edit)

    async def delete(self, uuid: str) -> EventSourceMapping:
        """Raises Refusal. What it has in hand comes to its end after this has returned."""
        async with self._one_at_a_time:
            mapping = self._settled(uuid, "delete")
            await self._store.put_document(_DOCUMENTS + uuid, None)
        self._going[uuid] = mapping
        self._is(uuid, "Deleting")
        return mapping

    async def tag(self, uuid: str, edit: Callable[[dict[str, str]], dict[str, str]]) -> None:
        """Raises Refusal: there is none; and what `edit` raises."""
        async with self._one_at_a_time:
            mapping = self.get(uuid)
            if mapping is None or uuid in self._going:
                raise missing()
            await self._store.put_document(_DOCUMENTS + uuid, msgspec.structs.replace(mapping, tags=edit(mapping.tags)))

    def _settled(self, uuid: str, doing: str) -> EventSourceMapping:
        mapping = self.get(uuid)
        if mapping is None:
            raise missing()
        if uuid in self._changing:
            raise mappings.in_use(doing)
        return mapping

    def _is(self, uuid: str, state: State) -> None:
        self._changing[uuid] = state
        self._changed.set()

    async def _reach(self, mapping: EventSourceMapping) -> None:
        """Looks at the source as AWS does before it makes a mapping to it. Brokers are not looked at: they would have
        to make room in their group."""
        bound = self._bind(mapping)
        if mapping.kind not in ("sqs", "kinesis", "dynamodb") or bound is None:
            return
        try:
            lease = await self._sources.probe(bound)
        except ConnectorError as error:
            raise _unreachable(mapping, error) from error
        if mapping.kind == "sqs" and lease is not None:
            mappings.refuse_short_visibility(lease, float(bound.function.timeout))

    async def _reach_again(self, mapping: EventSourceMapping) -> None:
        """As `_reach`; but one whose source has gone can be changed all the same: switched off, above all."""
        bound = self._bind(mapping)
        if mapping.kind != "sqs" or bound is None:
            return
        try:
            lease = await self._sources.probe(bound)
        except ConnectorError:
            return
        if lease is not None:
            mappings.refuse_short_visibility(lease, float(bound.function.timeout))


def _unreachable(mapping: EventSourceMapping, error: ConnectorError) -> Refusal:
    """In Lambda's words where AWS has said why, and those of the connector elsewhere."""
    code: str | None = getattr(error, "code", None) or getattr(error.__cause__, "code", None)
    if mapping.kind == "sqs":
        if code in ("NonExistentQueue", "QueueDoesNotExist"):
            return invalid(
                "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. "
                "SQS Error Message: The specified queue does not exist."
            )
        return invalid(
            f"Error occurred while ReceiveMessage. SQS Error Code: {code or 'Unreachable'}. SQS Error Message: {error}"
        )
    if code == "ResourceNotFoundException":
        return invalid(f"Stream not found: {mapping.event_source_arn}")
    return invalid(f"The event source {mapping.event_source_arn} cannot be reached: {error}")

"""What the admin listener needs of a node. The supervisor is the real one; tests have a fake.

PURE: shapes only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from eventfn.aws.sessions import Session
from eventfn.bus.queues import Redriven
from eventfn.engine.contract import Message
from eventfn.event import Outcome, ResponseStream
from eventfn.functions.control import Control
from eventfn.functions.durable import Execution
from eventfn.functions.managed import JsonObject, ManagedFunction, Version
from eventfn.functions.mappings import EventSourceMapping, FilterSight
from eventfn.functions.model import Aws
from eventfn.functions.names import Named
from eventfn.observe.metrics import Metrics
from eventfn.observe.status import QueueStatus, Status
from eventfn.trigger import QueueMessage
from eventfn.workers.contract import PoolStats


class Mappings(Protocol):
    """The event source mappings. Methods raise Refusal."""

    def all(self) -> Mapping[str, EventSourceMapping]:
        """By UUID, those that are being deleted included."""
        ...

    def get(self, uuid: str) -> EventSourceMapping | None: ...

    def state(self, mapping: EventSourceMapping) -> tuple[str, str | None]:
        """Lambda's State, and LastProcessingResult; None: there is none yet."""
        ...

    def sight(self, connector: str) -> FilterSight:
        """What this connector's filters see of a record."""
        ...

    async def create(self, mapping: EventSourceMapping) -> None:
        """Once it is kept; its source was looked for before."""
        ...

    async def update(
        self, uuid: str, edit: Callable[[EventSourceMapping], EventSourceMapping]
    ) -> EventSourceMapping: ...

    async def delete(self, uuid: str) -> EventSourceMapping:
        """What it has in hand comes to its end after this has returned."""
        ...

    async def tag(self, uuid: str, edit: Callable[[dict[str, str]], dict[str, str]]) -> None: ...


class DurableExecutions(Protocol):
    """Methods raise Refusal."""

    def settings(self, target: Named) -> JsonObject | None:
        """DurableConfig of what a request names; None: an invocation of it is an ordinary one."""
        ...

    async def begin(self, function: ManagedFunction, version: Version, payload: bytes, name: str | None) -> Execution:
        """A new one, on disk; or the one that has this name and payload already."""
        ...

    async def end(self, execution: Execution) -> Execution:
        """Waits for it. Cancelling it does not end the execution."""
        ...

    def of(self, function: str) -> Sequence[Execution]: ...

    def get(self, key: str) -> Execution: ...

    async def change(self, key: str, edit: Callable[[Execution], Execution]) -> Execution: ...


class Node(Protocol):
    """Methods raise what their counterparts of the bus do: Refused and its kinds, EngineError and its kinds."""

    @property
    def metrics(self) -> Metrics: ...

    @property
    def draining(self) -> bool: ...

    @property
    def aws(self) -> Aws: ...

    def session(self, access_key_id: str, session_token: str) -> Session | None:
        """Whose credentials these are, if this node gave them to a function."""
        ...

    @property
    def control(self) -> Control:
        """The functions of the API."""
        ...

    @property
    def mappings(self) -> Mappings: ...

    @property
    def durable(self) -> DurableExecutions: ...

    def environments(self, key: str) -> PoolStats:
        """Of one version of a function, by the pool's key."""
        ...

    def function_url(self, url_id: str, region: str) -> str:
        """Where the function URL of this id is answered."""
        ...

    async def urls_changed(self) -> None:
        """URL configs may have changed: returns once they are in force."""
        ...

    def function_names(self) -> Sequence[str]: ...

    def function_arn(self, name: str) -> str:
        """Unqualified; of a function that is not declared too, for the error's text."""
        ...

    def invoke(
        self,
        reference: str,
        payload: bytes,
        done: Callable[[Outcome], None],
        *,
        request_id: str,
        log_tail: bool,
        client_context: str | None,
        trace_id: str | None,
        stream: ResponseStream | None = None,
    ) -> str:
        """The version that runs it. `done` is called once, on the loop's thread; at once where nothing can run.
        With a `stream` what the function yields goes there first."""
        ...

    async def submit(
        self, name: str, payload: bytes, *, request_id: str, dedupe_key: str | None, trace_id: str | None
    ) -> str:
        """The id of the event that is on disk: with a `dedupe_key` seen before, of that earlier event."""
        ...

    async def queues(self) -> Sequence[QueueStatus]:
        """The named queues: those declared, those that something names, those that hold messages."""
        ...

    async def peek(self, queue: str, limit: int, after: int) -> Sequence[Message]:
        """In order of sequence, from the one behind `after`; takes nothing."""
        ...

    async def send(self, queue: str, message: QueueMessage) -> str:
        """The message's id, once it is on disk."""
        ...

    async def redrive(self, queue: str, limit: int | None) -> Redriven:
        """Sends visible messages back to where they came from."""
        ...

    async def purge(self, queue: str) -> int:
        """Drops every message; how many."""
        ...

    async def set_trigger_enabled(self, source: str, enabled: bool) -> None:
        """Once what it has in hand has come to its end. Kept over restarts. Raises Refused when there is no such
        trigger."""
        ...

    async def status(self) -> Status: ...

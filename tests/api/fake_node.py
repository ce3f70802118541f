"""A node that remembers what it was asked and answers what the test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from eventfn.aws.sessions import Session, Sessions
from eventfn.bus.queues import Redriven
from eventfn.engine.contract import Message
from eventfn.engine.memory import MemoryEngine
from eventfn.event import Outcome, OutcomeKind, ResponseStream
from eventfn.functions.control import Control
from eventfn.functions.model import Aws, Function, Project
from eventfn.functions.refusals import missing
from eventfn.functions.registry import Registry
from eventfn.functions.store import Store
from eventfn.observe.metrics import Metrics
from eventfn.observe.status import Depth, FunctionStatus, QueueStatus, Status
from eventfn.testing import FakeClock
from eventfn.trigger import QueueMessage
from eventfn.workers.contract import PoolStats, Prepared

TOKEN = "t0ken"


async def nothing_in_s3(bucket: str, key: str, version: str | None, region: str) -> bytes:
    raise missing(f"{bucket}/{key}")


def _prepared(name: str) -> Prepared:
    return Prepared(
        function=Function(name=name, handler=f"{name}.handler", code="/code"),
        arn=f"arn:aws:lambda:us-east-1:000000000000:function:{name}",
        version="1",
        task_root="/code",
        interpreter="/python",
        runtime="python3.11",
    )


class _NothingDurable:
    def settings(self, target: object) -> None:
        return None


class FakeNode:
    def __init__(self) -> None:
        self.metrics = Metrics()
        self.aws = Aws()
        engine, clock = MemoryEngine(), FakeClock()
        self.registry = Registry()
        self.registry.declare(declared := {name: _prepared(name) for name in ("hello", "thumbnail")})
        functions = {name: prepared.function for name, prepared in declared.items()}
        project = Project(folder="/project", file="/project/eventfn.toml", data="/data", functions=functions)
        self.control = Control(Store(engine, clock), self.registry, engine, clock, lambda: project, nothing_in_s3)
        self.mappings: Any = None  # nobody has asked for one yet
        self.durable: Any = _NothingDurable()
        self.sessions = Sessions()
        self.draining = False
        self.outcome = Outcome(OutcomeKind.SUCCESS, b'{"message": "hi"}', duration_ms=1.5)
        self.error: Exception | None = None
        self.held: list[Callable[[], None]] | None = None  # a list: what is invoked ends when its item is called
        self.calls: list[dict[str, Any]] = []
        self.messages: list[Message] = []

    def session(self, access_key_id: str, session_token: str) -> Session | None:
        return self.sessions.recognise(access_key_id, session_token)

    def environments(self, key: str) -> PoolStats:
        return PoolStats(0, 0, 0, 0, 0)

    def function_url(self, url_id: str, region: str) -> str:
        return f"http://{url_id}.lambda-url.{region}.localhost:8080/"

    async def urls_changed(self) -> None:
        """Nobody answers them here."""

    def function_names(self) -> Sequence[str]:
        return self.registry.names()

    def function_arn(self, name: str) -> str:
        return f"arn:aws:lambda:us-east-1:000000000000:function:{name}"

    def invoke(
        self,
        reference: str,
        payload: bytes,
        done: Callable[[Outcome], None],
        *,
        stream: ResponseStream | None = None,
        **rest: Any,
    ) -> str:
        self.registry.require(reference)
        self._note(name=reference, payload=payload, **rest)
        if self.held is None:
            done(self.outcome)
        else:
            self.held.append(lambda: done(self.outcome))
        return self.outcome.executed_version

    async def call(self, name: str, payload: bytes, **rest: Any) -> Outcome:
        """As the bus has it."""
        self.registry.require(name)
        self._note(name=name, payload=payload, **rest)
        return self.outcome

    async def submit(
        self, name: str, payload: bytes, *, request_id: str, dedupe_key: str | None, trace_id: str | None
    ) -> str:
        self.registry.require(name)
        self._note(name=name, payload=payload, request_id=request_id, dedupe_key=dedupe_key)
        return "earlier" if dedupe_key == "seen" else request_id

    async def queues(self) -> Sequence[QueueStatus]:
        return [QueueStatus("work"), QueueStatus("dead-letters", Depth(visible=2), dead_letter_for=["fn:hello"])]

    async def peek(self, queue: str, limit: int, after: int) -> Sequence[Message]:
        self._note(queue=queue, limit=limit, after=after)
        return self.messages

    async def send(self, queue: str, message: QueueMessage) -> str:
        self._note(queue=queue, message=message)
        return "message-1"

    async def redrive(self, queue: str, limit: int | None) -> Redriven:
        self._note(queue=queue, limit=limit)
        return Redriven(3, {"m4": "it does not say where it came from"})

    async def purge(self, queue: str) -> int:
        self._note(queue=queue)
        return 2

    async def status(self) -> Status:
        self._note()
        function = FunctionStatus(
            name="hello",
            arn=self.function_arn("hello"),
            handler="hello.handler",
            runtime="python3.11",
            memory_size=128,
            timeout=3,
        )
        return Status(
            version="0.1.0",
            python="3.11.7",
            pid=1,
            started_ms=1,
            now_ms=2,
            folder="/p",
            data="/p/.eventfn",
            functions=[function],
            queues=list(await self.queues()),
        )

    def _note(self, **call: Any) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error

    async def set_trigger_enabled(self, source: str, enabled: bool) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append({"source": source, "enabled": enabled})

"""Lambda's InvokeWithResponseStream: chunks as the function makes them, in an event stream.

What belongs here: from a function's chunks to messages, and who waits for whom. Not here: the messages' bytes
(event_stream), how an answer is sent (lambda_api).
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec

from eventfn.api import event_stream
from eventfn.api.answers import REQUEST_ID
from eventfn.api.common import named
from eventfn.api.operations import Answer, Call, Handler
from eventfn.api.payloads import client_context, json_event, refuse_unless_it_ran
from eventfn.api.ports import Node
from eventfn.event import Buffer, Outcome

_ENOUGH = 65_536  # bytes that wait for a caller to take them, until the function is held back
_MOST_IN_A_MESSAGE = 1_048_576  # SDKs refuse messages of more than 16 MB


class Streaming:
    def __init__(self, node: Node) -> None:
        self._node = node

    def operations(self) -> Mapping[str, Handler]:
        return {"InvokeWithResponseStream": self._invoke}

    async def _invoke(self, call: Call) -> Answer:
        payload = json_event(call.input.get("Payload", b""))
        context = client_context(call.input.get("ClientContext"))
        control, target = self._node.control, named(self._node.control, call)
        control.require_version(target, region=call.region, shown="$LATEST")
        if call.input.get("InvocationType") == "DryRun":
            return Answer(status=204)
        taken = Taken()
        version = self._node.invoke(
            target.reference,
            payload,
            taken.ended,
            request_id=call.request_id,
            log_tail=call.input.get("LogType") == "Tail",
            client_context=context,
            trace_id=call.headers.get("X-Amzn-Trace-Id"),
            stream=taken,
        )
        try:
            await taken.begun()
        except asyncio.CancelledError:
            taken.leave()
            raise
        if taken.outcome is not None:
            refuse_unless_it_ran(taken.outcome)
        headers = {
            "Content-Type": event_stream.CONTENT_TYPE,
            "X-Amz-Executed-Version": version,
            REQUEST_ID: call.request_id,
        }
        return Answer(_messages(taken), headers=headers)


class Taken:
    """Implements event.ResponseStream: what the function has made, until the caller has taken it."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self._chunks: deque[Buffer] = deque()
        self._size = 0
        self._streams = False
        self._gone = False
        self._resume: Callable[[], None] | None = None
        self._changed = asyncio.Event()

    # --- the function's side -----------------------------------------------------------------------------------------

    def begin(self, content_type: str | None) -> None:
        self._streams = True
        self._changed.set()

    def write(self, chunk: Buffer) -> None:
        if not self._gone:
            self._chunks.append(chunk)
            self._size += len(chunk)
            self._changed.set()

    @property
    def full(self) -> bool:
        return self._size >= _ENOUGH

    @property
    def gone(self) -> bool:
        return self._gone

    def on_room(self, resume: Callable[[], None]) -> None:
        self._resume = resume

    def ended(self, outcome: Outcome) -> None:
        if outcome.ok and outcome.payload and not self._streams:
            self.write(outcome.payload)
        self.outcome = outcome
        self._changed.set()

    # --- the caller's side -------------------------------------------------------------------------------------------

    async def begun(self) -> None:
        """Returns when there is something to say: the function streams, or is at its end."""
        await self._changed.wait()

    async def chunks(self) -> AsyncIterator[Buffer]:
        """All of them, as they come; several in one where they come faster than they are taken."""
        while True:
            self._changed.clear()
            while self._chunks:
                was_full = self.full
                chunk = self._next()
                if was_full and not self.full and self._resume is not None:
                    self._resume()
                yield chunk
            if self.outcome is not None and not self._chunks:
                return
            if not self._changed.is_set():
                await self._changed.wait()

    def leave(self) -> None:
        """The caller takes no more."""
        self._gone = True
        self._chunks.clear()
        self._size = 0
        if self._resume is not None:
            self._resume()

    def _next(self) -> Buffer:
        some = [self._chunks.popleft()]
        size = len(some[0])
        while self._chunks and size + len(self._chunks[0]) <= _MOST_IN_A_MESSAGE:
            some.append(self._chunks.popleft())
            size += len(some[-1])
        self._size -= size
        return some[0] if len(some) == 1 else b"".join(some)


async def _messages(taken: Taken) -> AsyncIterator[bytes]:
    try:
        async for chunk in taken.chunks():
            yield event_stream.event("PayloadChunk", "application/octet-stream", chunk)
        outcome = taken.outcome
        assert outcome is not None
        yield event_stream.event("InvokeComplete", "application/json", msgspec.json.encode(_completed(outcome)))
    finally:
        taken.leave()


def _completed(outcome: Outcome) -> dict[str, str]:
    said: dict[str, str] = {}
    if not outcome.ok:
        said["ErrorCode"] = "Unhandled"
        said["ErrorDetails"] = outcome.payload.decode("utf-8", "replace") or outcome.error_message or ""
    if outcome.log_tail:
        said["LogResult"] = base64.b64encode(outcome.log_tail).decode()
    return said

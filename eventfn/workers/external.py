"""An environment whose runtime is a program of its own: a conversation over Lambda's Runtime API.

What is common to all environments, their processes, deadlines and log lines, is environment.py's. Here a request has
two ends: the caller has his answer as soon as it is posted, and the environment is free when everybody in it has asked
for the next event. Until then its time counts, and END and REPORT wait.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from eventfn.clock import Clock
from eventfn.event import Invocation, Outcome, OutcomeKind
from eventfn.workers import failures, wire
from eventfn.workers.child import frames
from eventfn.workers.contract import LogSink, Prepared
from eventfn.workers.environment import Environment, InitFailed, NotStarted, Owner, Request
from eventfn.workers.failures import Failure
from eventfn.workers.launching import Launched
from eventfn.workers.local_api.http import Server
from eventfn.workers.local_api.runtime import Event, Reported, Runtime
from eventfn.workers.names import Names

_LAST_TURNS = 64  # of its share, for what it has posted before it ended: 32 MB at most


class External(Environment):
    def __init__(
        self, prepared: Prepared, owner: Owner, clock: Clock, sink: LogSink, names: Names, *, provisioned: bool
    ) -> None:
        super().__init__(prepared, owner, clock, sink, names, provisioned=provisioned)
        self.capacity = 1  # one event at a time, whatever the function says
        self._runtime = Runtime(self)
        self._server: Server | None = None
        self._up: asyncio.Future[None] = self._loop.create_future()  # its runtime has asked for the first event
        self._answer: Outcome | None = None  # to the request that is not over yet
        self._suffix = ""  # of its REPORT

    # --- starting ----------------------------------------------------------------------------------------------------

    def _open_doors(self, launched: Launched) -> None:
        targets = () if launched.relayed is None else launched.relayed.targets
        listeners = self._listeners(1 + len(targets))
        if not listeners:
            raise NotStarted("environment not started: it has handed over no socket for the Runtime API")
        try:
            self._server = Server(listeners.pop(0), self._runtime)
        except ValueError as error:
            for listener in listeners:
                listener.close()
            raise NotStarted(f"environment not started: {error}") from None
        if launched.relayed is not None:
            self._open_relay(listeners, targets)

    async def _initialised(self) -> None:
        await self._up

    def _take(self, answer: wire.Answer) -> None:
        """From the environment before it is a program, or about why it cannot become one."""
        if answer.kind == frames.INIT_ERROR and not answer.payload:
            self._init_failed(InitFailed(Failure(*answer.error)))
        else:
            super()._take(answer)

    def _init_failed(self, error: Exception) -> None:
        super()._init_failed(error)
        if not self._up.done():
            self._up.set_exception(error)
            self._up.exception()  # also when nobody waits for it any more

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel ends where the program begins."""
        self._channel_open = False

    # --- running -----------------------------------------------------------------------------------------------------

    def _send(self, number: int, request: Request) -> None:
        invocation = request.invocation
        self._runtime.give(
            Event(
                request_id=invocation.request_id,
                payload=whole(invocation),
                deadline_ms=int((time.time() + self._timeout) * 1000),  # its clock is the machine's
                arn=invocation.invoked_arn,
                trace_id=invocation.trace_id or "",
                client_context=invocation.client_context or "",
            )
        )

    def runtime_ready(self) -> None:
        if not self._up.done():
            self._up.set_result(None)
        else:
            self._over()

    def responded(self, payload: bytes) -> None:
        self._answer_with(OutcomeKind.SUCCESS, payload)

    def failed(self, error: Reported) -> None:
        # The function reported it: REPORT has no status then, as in Lambda.
        self._answer_with(OutcomeKind.FUNCTION_ERROR, error.payload, error.error_type, error.message)

    def response_too_large(self) -> None:
        failure = failures.response_too_large()
        self._suffix = f"Status: error\tError Type: {failure.error_type}"
        (request,) = self.requests.values()
        body = failure.body(request.invocation.request_id)
        self._answer_with(OutcomeKind.FUNCTION_ERROR, body, failure.error_type, failure.text)

    def init_failed(self, error: Reported) -> None:
        self._logs.drain()
        self._init_failed(InitFailed(failures.reported(error.error_type, error.message, error.payload)))

    def _answer_with(
        self, kind: OutcomeKind, payload: bytes, error_type: str | None = None, message: str | None = None
    ) -> None:
        """The caller does not wait until everything is over, unless he wants the log of it."""
        (request,) = self.requests.values()
        if self._process is not None:
            self._peak_kb = max(self._peak_kb, self._process.memory_kb())
        milliseconds = (self._clock.monotonic() - request.started) * 1000
        self._answer = Outcome(
            kind,
            payload,
            request.invocation.request_id,
            error_type,
            message,
            milliseconds,
            self._init_ms,
            -(-self._peak_kb // 1024),
        )
        if request.tail is None:
            self._owner.finished(request, self._answer)

    def _over(self) -> None:
        """Everybody has asked for the next event."""
        ((number, request),) = self.requests.items()
        del self.requests[number]
        self._logs.drain()
        self._logs.finish_line()
        self.idle_since = now = self._clock.monotonic()
        self._say_over(request, (now - request.started) * 1000, self._suffix)
        if not self.ended:
            self._owner.freed(self)

    def _say_over(self, request: Request, milliseconds: float, suffix: str) -> None:
        assert self._answer is not None
        answer, self._answer, self._suffix = self._answer, None, ""
        init_ms, self._init_ms = self._init_ms, None
        tail = self._say_end(request, milliseconds, init_ms, answer.max_memory_mb, suffix)
        if request.tail is not None:
            self._owner.finished(request, msgspec.structs.replace(answer, log_tail=tail))

    def _fail(self, number: int, failure: Failure, milliseconds: float | None = None, status: str = "") -> None:
        if self._answer is None:
            super()._fail(number, failure, milliseconds, status)
            return
        # What was answered stays so: what came to an end like this is what followed.
        request = self.requests.pop(number)
        ran = (self._clock.monotonic() - request.started) * 1000
        suffix = status or f"Status: error\tError Type: {failure.error_type}"
        self._say_over(request, ran if milliseconds is None else milliseconds, suffix)

    # --- ending ------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        self.kill()  # as Lambda does where no extension has anything to put away

    def _exited(self) -> None:
        if self._server is not None:
            self._server.share.catch_up(_LAST_TURNS)
        super()._exited()

    def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        super()._end()

    def abandon(self) -> list[Request]:
        requests = super().abandon()
        if self._answer is None:
            return requests
        return [request for request in requests if request.tail is not None]


def whole(invocation: Invocation) -> bytes:
    """The event in one piece."""
    apart = invocation.apart
    if apart is None:
        return invocation.payload
    event: dict[str, Any] = msgspec.json.decode(invocation.payload)
    context = event["requestContext"]
    context["requestId"] = invocation.request_id
    context["time"] = apart.time
    context["timeEpoch"] = apart.time_epoch
    if len(apart.body):
        event["body"] = str(apart.body, "utf-8")
    return msgspec.json.encode(event)

"""An environment with Lambda's local APIs: its runtime is a program of its own, or has extensions beside it.

A program speaks the Runtime API; a Python handler with extensions is talked to by frames, as ever. What is common to
all environments, their processes, deadlines and log lines, is environment.py's. Here a request has two ends: the caller
has his answer as soon as it is posted, and the environment is free when everybody in it has asked for the next event.
Until then its time counts, and END and REPORT wait.
"""

from __future__ import annotations

import asyncio
import math
import signal
import socket
import time
import uuid
from typing import Any

import msgspec

from eventfn.clock import Clock
from eventfn.event import Buffer, Invocation, Outcome, OutcomeKind, ResponseStream
from eventfn.workers import failures, lines, wire
from eventfn.workers.child import frames
from eventfn.workers.contract import LogSink, Prepared
from eventfn.workers.environment import Environment, InitFailed, NotStarted, Owner
from eventfn.workers.failures import Failure
from eventfn.workers.keeping import RUNTIME, Keeping
from eventfn.workers.launching import First, Launch, Launched
from eventfn.workers.local_api import extensions, runtime, telemetry
from eventfn.workers.local_api.api import Api
from eventfn.workers.local_api.delivery import Delivery
from eventfn.workers.local_api.extensions import Extension, Extensions
from eventfn.workers.local_api.http import Server
from eventfn.workers.local_api.runtime import Event, Reported, Runtime
from eventfn.workers.local_api.telemetry import Subscriber, Telemetry
from eventfn.workers.logpipe import LogPipe
from eventfn.workers.names import Names
from eventfn.workers.relay import OwnApi
from eventfn.workers.request import Request
from eventfn.workers.runtimes import family, telling

_SHUTDOWN = 2.0  # seconds that external extensions have, Lambda's, and of these
_SHUTDOWN_OF_THE_RUNTIME = 0.3
# Seconds that an answer waits for the runtime to ask for the next event, which mostly takes less than a thousandth:
# whoever had it and asked again at once would find no environment free, and have another one started.
_HOLD = 0.005
_LAST_TURNS = 64  # of its share, for what it has posted before it ended: 32 MB at most


class External(Environment):
    def __init__(
        self,
        prepared: Prepared,
        owner: Owner,
        clock: Clock,
        sink: LogSink,
        names: Names,
        own_api: OwnApi | None,
        *,
        provisioned: bool,
    ) -> None:
        super().__init__(prepared, owner, clock, sink, names, own_api, provisioned=provisioned)
        self.capacity = 1  # one event at a time, whatever the function says
        self._by_frames = family(prepared.runtime) == "python"
        self._runtime = Runtime(self)
        self._handler_waits = False  # of a Python handler: it is imported, and has no request
        account = prepared.arn.split(":")[4]
        facts = extensions.Facts(prepared.function.name, prepared.number, prepared.function.handler, account)
        self._extensions = Extensions(prepared.extensions, facts, lambda: str(uuid.uuid4()), self)
        # Nobody is reached in there but by the keeper.
        subscribed = self._subscribed if prepared.extensions else None
        self._telemetry = Telemetry(self._extensions, self._iso_now, subscribed, self._gathered)
        self._deliveries: dict[Subscriber, Delivery] = {}
        self._awake = asyncio.Event()
        self._keeping: Keeping | None = None
        self._extension_logs: LogPipe | None = None
        self._began = 0.0
        self._runtime_runs = True
        self._status_at_end: int | None = None  # of the handler, whose channel has not ended yet
        self._shutdown: extensions.Reason | None = None  # why it is going
        self._told: list[Extension] = []  # extensions that put away what they have
        self._runtime_timer: asyncio.TimerHandle | None = None
        self._server: Server | None = None
        self._up: asyncio.Future[None] = self._loop.create_future()  # its runtime has asked for the first event
        self._answer: Outcome | None = None  # to the request that is not over yet
        self._hold: asyncio.TimerHandle | None = None  # until its caller gets it all the same
        self._caller_knows = False
        self._suffix = ""  # of its REPORT

    # --- starting ----------------------------------------------------------------------------------------------------

    def _open_doors(self, launched: Launched) -> None:
        targets = () if launched.relayed is None else launched.relayed.targets
        listeners = self._listeners(1 + len(targets))
        if not listeners:
            raise NotStarted("environment not started: it has handed over no socket for the Runtime API")
        try:
            self._server = Server(
                listeners.pop(0),
                Api(
                    (
                        (runtime.ROOT, self._runtime),
                        (extensions.ROOT, self._extensions),
                        (telemetry.TELEMETRY, self._telemetry),
                        (telemetry.LOGS, self._telemetry),
                    )
                ),
            )
        except ValueError as error:
            for listener in listeners:
                listener.close()
            raise NotStarted(f"environment not started: {error}") from None
        if launched.relayed is not None:
            self._open_relay(listeners, targets)
        if self._keeping is not None:
            try:
                self._extension_logs = LogPipe(self._keeping.open(), self._log_of_extensions)
                self._extension_logs.follow()
            except OSError as error:
                raise NotStarted(f"environment not started: {error}") from None

    def _launch(self, launch: Launch, first: First | None) -> Launched:
        launched = super()._launch(launch, first)
        if launched.control is not None:
            self._runtime_runs = False  # until the extensions have registered
            self._keeping = Keeping(launched.control, self._process_ended)
        return launched

    async def _initialised(self) -> None:
        await self._up

    def _take(self, answer: wire.Answer) -> None:
        """From the environment before its runtime runs, or about why it does not."""
        if answer.kind == frames.INIT_ERROR:
            self._init_failed(InitFailed(failures.reported(*answer.error, answer.payload)))
        elif answer.kind == frames.READY and self._by_frames and self._ready.done() and not self._up.done():
            self._handler_waits = True
            self.runtime_ready()
        else:
            super()._take(answer)

    def _init_failed(self, error: Exception) -> None:
        super()._init_failed(error)
        if not self._up.done():
            self._up.set_exception(error)
            self._up.exception()  # also when nobody waits for it any more

    def eof_received(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel ends where the program begins, or with the Python handler."""
        self._channel_open = False
        if self._status_at_end is not None:
            self._runtime_ended(self._status_at_end)

    # --- running -----------------------------------------------------------------------------------------------------

    def _send(self, number: int, request: Request, flag: int = 0) -> None:
        invocation = request.invocation
        event = Event(
            request_id=invocation.request_id,
            payload=b"" if self._by_frames else whole(invocation),
            deadline_ms=int((time.time() + self._timeout) * 1000),  # its clock is the machine's
            arn=invocation.invoked_arn,
            trace_id=invocation.trace_id or "",
            client_context=invocation.client_context or "",
        )
        facts = {"requestId": invocation.request_id, "version": self.prepared.number}
        self._telemetry.tell("platform.start", facts)
        if self._by_frames:
            self._handler_waits = False
            super()._send(number, request)
        else:
            self._runtime.give(event)
        self._extensions.invoke(event)

    def runtime_ready(self) -> None:
        if not self._up.done():
            self._telemetry.tell("platform.initRuntimeDone", self._init_facts() | {"status": "success"})
        self._extensions.close_registration()
        self._check_ready()

    def extension_ready(self) -> None:
        self._check_ready()

    def extensions_registered(self) -> None:
        if self._keeping is not None and not self._runtime_runs:
            self._runtime_runs = True
            self._keeping.start_runtime()

    def extension_failed(self, name: str, error_type: str) -> None:
        if self._shutdown is None:
            self._crashed(failures.extension_failed(name, error_type))

    def _check_ready(self) -> None:
        waits = self._handler_waits if self._by_frames else self._runtime.state == runtime.READY
        if not waits or not self._extensions.ready or self._shutdown is not None:
            return
        if self._up.done():
            if self._answer is not None:
                self._over()
            return
        for extension in self._extensions.all:
            self.journal.say(self.journal.lines.extension(extension.name, extension.events))
            facts = {"name": extension.name, "state": "Ready", "events": list(extension.events)}
            self._telemetry.tell("platform.extension", facts)
        self._telemetry.tell(
            "platform.initReport", self._init_facts() | {"metrics": {"durationMs": self._since_start()}}
        )
        self._telemetry.close_subscription()
        self._up.set_result(None)

    def _answered(self, answer: wire.Answer) -> None:
        """By a Python handler."""
        request = self.requests.get(answer.number)
        if request is None or self._answer is not None:
            self._break_protocol(f"an answer to request {answer.number}, which is not in flight")
            return
        if answer.body and request.invocation.apart is None:
            self._break_protocol("a body that nobody asked for")
            return
        self._logs.drain()
        self._peak_kb = max(self._peak_kb, answer.peak_kb)
        self._handler_waits = True
        if answer.kind == frames.RESULT:
            self._answer_with(OutcomeKind.SUCCESS, answer.payload, body=answer.body)
        else:
            self._answer_with(OutcomeKind.FUNCTION_ERROR, answer.payload, *answer.error)
        self._check_ready()

    def responded(self, payload: bytes) -> None:
        self._answer_with(OutcomeKind.SUCCESS, payload)

    def failed(self, error: Reported) -> None:
        # The function reported it: REPORT has no status then, as in Lambda.
        self._answer_with(OutcomeKind.FUNCTION_ERROR, error.payload, error.error_type, error.message)

    def stream(self) -> ResponseStream | None:
        (request,) = self.requests.values()
        return request.stream

    def response_too_large(self, limit: int) -> None:
        failure = failures.response_too_large(limit)
        self._suffix = f"Status: error\tError Type: {failure.error_type}"
        (request,) = self.requests.values()
        body = failure.body(request.invocation.request_id)
        self._answer_with(OutcomeKind.FUNCTION_ERROR, body, failure.error_type, failure.text)

    def init_failed(self, error: Reported) -> None:
        self._logs.drain()
        self._init_failed(InitFailed(failures.reported(error.error_type, error.message, error.payload)))

    def _answer_with(
        self,
        kind: OutcomeKind,
        payload: bytes,
        error_type: str | None = None,
        message: str | None = None,
        body: Buffer = b"",
    ) -> None:
        """The caller does not wait until everything is over, unless he wants the log of it."""
        (request,) = self.requests.values()
        if self._process is not None:
            self._peak_kb = max(self._peak_kb, self._process.memory_kb(kept=self._keeping is not None))
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
            body=body,
        )
        status = "success" if kind is OutcomeKind.SUCCESS else "error"
        self._tell_runtime_done(request, milliseconds, status, len(payload) + len(body))
        self._caller_knows = False
        if request.tail is None:
            self._hold = self._loop.call_later(_HOLD, self._tell_caller, request)

    def _tell_caller(self, request: Request) -> None:
        assert self._answer is not None
        self._caller_knows = True
        self._owner.finished(request, self._answer)

    def _over(self) -> None:
        """Everybody has asked for the next event."""
        ((number, request),) = self.requests.items()
        self._logs.drain()
        self._logs.finish_line()  # of this request: it stands in its log tail
        del self.requests[number]
        self.idle_since = now = self._clock.monotonic()
        answer = self._say_over(request, (now - request.started) * 1000, self._suffix)
        if not self.ended:
            self._owner.freed(self)
        if answer is not None:
            self._owner.finished(request, answer)

    def _say_over(self, request: Request, milliseconds: float, suffix: str) -> Outcome | None:
        """END and REPORT; what its caller is still to be told."""
        assert self._answer is not None
        answer, self._answer, self._suffix = self._answer, None, ""
        self._tell_report(request, milliseconds, answer.init_ms, suffix)
        init_ms, self._init_ms = self._init_ms, None
        failed = answer.kind is not OutcomeKind.SUCCESS
        tail = self.journal.say_end(request, milliseconds, init_ms, answer.max_memory_mb, suffix, failed=failed)
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        if self._caller_knows:
            return None
        return answer if request.tail is None else msgspec.structs.replace(answer, log_tail=tail)

    def _fail(self, number: int, failure: Failure, milliseconds: float | None = None, status: str = "") -> None:
        self._runtime.forget()
        if self._answer is None:
            request = self.requests[number]
            ran = (self._clock.monotonic() - request.started) * 1000 if milliseconds is None else milliseconds
            init_ms = self._init_ms
            super()._fail(number, failure, milliseconds, status)
            suffix = status or "Status: error"
            self._tell_runtime_done(request, ran, "timeout" if suffix.endswith("timeout") else "error", 0)
            self._tell_report(request, ran, init_ms, suffix)
            return
        # What was answered stays so: what came to an end like this is what followed.
        request = self.requests.pop(number)
        ran = (self._clock.monotonic() - request.started) * 1000
        suffix = status or f"Status: error\tError Type: {failure.error_type}"
        answer = self._say_over(request, ran if milliseconds is None else milliseconds, suffix)
        if answer is not None:
            self._owner.finished(request, answer)

    # --- telemetry ---------------------------------------------------------------------------------------------------

    async def start(
        self,
        launch: Launch,
        init_timeout: float,
        phase: str = "init",
        *,
        restored: bool = False,
        first: Request | None = None,
    ) -> None:
        self._began = self._loop.time()
        version, arn = telling.version_and_arn(self.prepared)
        function = self.prepared.function
        facts = {"runtimeVersion": version, "runtimeVersionArn": arn, "functionName": function.name}
        facts |= {"functionVersion": self.prepared.number, "instanceId": self.journal.stream}
        memory = {"instanceMaxMemory": int(function.memory_size) << 20}
        self._telemetry.tell("platform.initStart", self._init_facts() | facts | memory)
        await super().start(launch, init_timeout, phase, restored=restored, first=first)

    def _init_facts(self) -> dict[str, Any]:
        kind = "provisioned-concurrency" if self.provisioned else "on-demand"
        return {"initializationType": kind, "phase": "init"}

    def _since_start(self) -> float:
        return round((self._loop.time() - self._began) * 1000, 3)

    def _iso_now(self) -> str:
        return lines.moment(self._clock.now_ms())

    def _tell_runtime_done(self, request: Request, milliseconds: float, status: str, produced: int) -> None:
        metrics = {"durationMs": round(milliseconds, 3), "producedBytes": produced}
        facts = {"requestId": request.invocation.request_id, "status": status, "metrics": metrics}
        self._telemetry.tell("platform.runtimeDone", facts)

    def _tell_report(self, request: Request, milliseconds: float, init_ms: float | None, suffix: str) -> None:
        metrics = {
            "durationMs": round(milliseconds, 3),
            "billedDurationMs": math.ceil(milliseconds + (init_ms or 0.0)),
            "memorySizeMB": int(self.prepared.function.memory_size),
            "maxMemoryUsedMB": -(-self._peak_kb // 1024),
        }
        if init_ms is not None:
            metrics["initDurationMs"] = round(init_ms, 3)
        status = "timeout" if suffix.endswith("timeout") else "error" if suffix else "success"
        request_id = request.invocation.request_id
        self._telemetry.tell("platform.end", {"requestId": request_id})
        self._telemetry.tell("platform.report", {"requestId": request_id, "metrics": metrics, "status": status})

    def _log_printed(self, line: str) -> None:
        super()._log_printed(line)
        self._telemetry.tell("function", line)

    def _log_of_extensions(self, line: str) -> None:
        self.journal.say(line)
        self._telemetry.tell("extension", line)

    def _subscribed(self, subscriber: Subscriber) -> None:
        for other in [each for each in self._deliveries if each.extension is subscriber.extension]:
            self._deliveries.pop(other).close()
        self._deliveries[subscriber] = Delivery(subscriber, self._telemetry, self._dial)

    def _gathered(self, subscriber: Subscriber) -> None:
        self._deliveries[subscriber].gathered()

    async def _dial(self, port: int) -> socket.socket:
        while self._frozen:
            self._awake.clear()
            await self._awake.wait()
        assert self._keeping is not None
        return await self._keeping.dial(port)

    def _thaw(self) -> None:
        super()._thaw()
        self._awake.set()

    # --- ending ------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        if self._keeping is not None:
            self._shut_down("spindown")
        elif self._extensions.all:
            super().end()  # a part of its process has registered: a moment, to put away what it has
        else:
            self.kill()  # as Lambda does where nobody has asked for more

    def _give_up(self) -> None:
        self._shut_down("timeout")

    def _crashed(self, failure: Failure) -> None:
        """A process of it has ended that others would have gone on with."""
        self._cause = failure
        self._takes_no_more()
        self._logs.drain()
        self._fail_all(failure)
        self._init_failed(InitFailed(failure))
        self._shut_down("failure")

    def _shut_down(self, reason: extensions.Reason) -> None:
        """The runtime ends, then the extensions hear of it and have their time, then all of it ends."""
        self._takes_no_more()
        keeping, process = self._keeping, self._process
        if keeping is None or process is None or process.exit_code is not None:
            self.kill()
            return
        if self._shutdown is not None:
            return
        self._shutdown = reason
        self._frozen = False
        self._awake.set()
        process.thaw()
        self._last_moment = self._loop.call_later(_SHUTDOWN, self.kill)
        if not self._runtime_runs:
            self._tell_extensions()
        elif reason == "spindown":
            keeping.signal(RUNTIME, signal.SIGTERM)
            self._runtime_timer = self._loop.call_later(
                _SHUTDOWN_OF_THE_RUNTIME, keeping.signal, RUNTIME, signal.SIGKILL
            )
        else:
            keeping.signal(RUNTIME, signal.SIGKILL)

    def _tell_extensions(self) -> None:
        assert self._shutdown is not None
        left = 0.0 if self._last_moment is None else self._last_moment.when() - self._loop.time()
        self._told = self._extensions.shut_down(self._shutdown, int((time.time() + left) * 1000))
        for delivery in self._deliveries.values():
            delivery.hurry()
        self._check_put_away()

    def _check_put_away(self) -> None:
        if all(each.ended for each in self._told):
            self.kill()

    def _process_ended(self, number: int, status: int, most_kb: int) -> None:
        """One of those that the keeper has started."""
        if number != RUNTIME:
            if not 0 < number <= len(self._extensions.all):
                return
            self._extensions.all[number - 1].ended = True
            if self._shutdown is None:
                self._crashed(failures.extension_crashed(status))
            else:
                self._check_put_away()
            return
        self._peak_kb = max(self._peak_kb, most_kb)
        if self._by_frames and self._channel_open:
            self._status_at_end = status  # its last answer may still be in the channel
        else:
            self._runtime_ended(status)

    def _runtime_ended(self, status: int) -> None:
        self._runtime_runs, self._status_at_end = False, None
        if self._runtime_timer is not None:
            self._runtime_timer.cancel()
        if self._shutdown is not None:
            self._tell_extensions()
            return
        assert self._server is not None
        self._server.share.catch_up(_LAST_TURNS)
        group = None if self._process is None else self._process.group
        if status == -signal.SIGKILL and group is not None and group.oom_kills():
            self._crashed(failures.out_of_memory())
        else:
            self._crashed(failures.exited(status))

    def _exited(self) -> None:
        if self._server is not None:
            self._server.share.catch_up(_LAST_TURNS)
        super()._exited()

    def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        for delivery in self._deliveries.values():
            delivery.close()
        if self._keeping is not None:
            self._keeping.close()
        if self._extension_logs is not None:
            self._extension_logs.close()
        if self._runtime_timer is not None:
            self._runtime_timer.cancel()
        super()._end()

    def abandon(self) -> list[Request]:
        requests = super().abandon()
        if self._hold is not None:
            self._hold.cancel()
        return [] if self._answer is not None and self._caller_knows else requests


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

"""What a runtime may say when: the states of Lambda's Runtime API. PURE.

    Started ──next──▶ Ready ──an event──▶ Running ──response, error──▶ RuntimeResponseSentState ──next──▶ Ready
      └──init/error──▶ InitError

Source: contract/execution-environment.md, section 1. The names are said in answers to what comes in the wrong state.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Protocol

import msgspec

from eventfn.event import MAX_STREAMED_RESPONSE, MAX_SYNC_RESPONSE, ResponseStream
from eventfn.workers.local_api import answers
from eventfn.workers.local_api.answers import Answer
from eventfn.workers.local_api.http import Exchange

STARTED, INIT_ERROR, READY, RUNNING = "Started", "InitError", "Ready", "Running"
RESPONDING, RESPONDED = "InvocationResponse", "RuntimeResponseSentState"
_ERROR_RESPONSE, _RESTORE_READY, _RESTORE_ERROR = "InvocationErrorResponse", "RestoreReady", "RuntimeRestoreErrorState"

ROOT = "/2018-06-01/runtime/"
_SMALL = 65_536  # bytes of a body that is nobody's answer
_MODE = "lambda-runtime-function-response-mode"
_ERROR_TYPE_HEADER = "lambda-runtime-function-error-type"
_ERROR_TRAILER = "lambda-runtime-function-error-body"  # base64 of an error object
_ERROR_TYPE = re.compile(r"(Runtime|Function)\.[A-Z][a-zA-Z]+")


class Event(msgspec.Struct, frozen=True):
    """An invocation, as `next` gives it out."""

    request_id: str
    payload: bytes
    deadline_ms: int  # since the epoch
    arn: str
    trace_id: str = ""
    client_context: str = ""  # JSON text

    def answer(self) -> Answer:
        facts = (
            ("Lambda-Runtime-Aws-Request-Id", self.request_id),
            ("Lambda-Runtime-Deadline-Ms", str(self.deadline_ms)),
            ("Lambda-Runtime-Invoked-Function-Arn", self.arn),
            ("Lambda-Runtime-Trace-Id", self.trace_id),
            ("Lambda-Runtime-Client-Context", self.client_context),
        )
        return Answer(200, self.payload, tuple((name, _in_one_line(value)) for name, value in facts if value))


class Reported(msgspec.Struct, frozen=True):
    """An error in the runtime's own words."""

    error_type: str
    message: str
    payload: bytes


class Listener(Protocol):
    """Whoever keeps the environment."""

    def runtime_ready(self) -> None:
        """It has called `next`: its init is over, or its request."""
        ...

    def stream(self) -> ResponseStream | None:
        """Who takes the answer while it is made, if anybody does."""
        ...

    def responded(self, payload: bytes) -> None: ...
    def response_too_large(self, limit: int) -> None: ...
    def failed(self, error: Reported) -> None: ...
    def init_failed(self, error: Reported) -> None: ...


class Runtime:
    def __init__(self, listener: Listener) -> None:
        self.state = STARTED
        self._listener = listener
        self._event: Event | None = None
        self._next: Exchange | None = None  # waits for an event
        self._responding: Exchange | None = None  # the one whose body is taken in
        self._stream: ResponseStream | None = None  # where that body goes at once
        self._streamed = 0  # bytes
        self._routes: dict[tuple[str, str], Callable[[Exchange], None]] = {
            ("GET", "invocation/next"): self._take_next,
            ("POST", "init/error"): self._take_init_error,
            ("GET", "restore/next"): lambda exchange: exchange.answer(answers.wrong_state(self.state, _RESTORE_READY)),
            ("POST", "restore/error"): lambda exchange: exchange.answer(
                answers.wrong_state(self.state, _RESTORE_ERROR)
            ),
        }

    # --- from the supervisor -----------------------------------------------------------------------------------------

    def give(self, event: Event) -> None:
        """The next event. Only while it is ready."""
        assert self.state == READY
        self.state = RUNNING
        self._event = event
        if self._next is not None:
            waiting, self._next = self._next, None
            waiting.answer(event.answer())

    def forget(self) -> None:
        """Nobody waits for an answer to that event any more."""
        self._stream = None

    # --- from the runtime --------------------------------------------------------------------------------------------

    def begins(self, exchange: Exchange) -> None:
        what = _answer_of(exchange)
        if what is None:
            exchange.room = _SMALL
        elif self._may_respond(what[0]) is None:
            self._responding = exchange
            exchange.room = MAX_SYNC_RESPONSE
            streams = what[1] == "response" and exchange.headers.get(_MODE) == "streaming"
            if streams and (stream := self._listener.stream()) is not None:
                self._begin_stream(exchange, stream)

    def arrived(self, exchange: Exchange) -> None:
        if (what := _answer_of(exchange)) is not None:
            self._take_response(exchange, *what)
            return
        route = self._routes.get((exchange.method, exchange.path.removeprefix(ROOT)))
        if route is not None:
            route(exchange)
        else:
            exchange.answer(answers.not_found())

    def lost(self, exchange: Exchange) -> None:
        if self._next is exchange:
            self._next = None
        if self._responding is exchange:
            self._responding = None
            if exchange.on_chunk is not None and self.state == RUNNING:
                self.state = RESPONDED
                self._stream = None
                text = "the answer's connection ended before the answer did"
                self._listener.failed(_error("Runtime.TruncatedResponse", text))

    # --- an answer that comes while it is made -----------------------------------------------------------------------

    def _begin_stream(self, exchange: Exchange, stream: ResponseStream) -> None:
        self._stream, self._streamed = stream, 0

        def take(chunk: bytes) -> None:
            self._streamed += len(chunk)
            if self._stream is not stream:
                return  # too much has come, or nobody waits for it any more
            if self._streamed > MAX_STREAMED_RESPONSE:
                self._stream = None
                self.state = RESPONDED
                self._listener.response_too_large(MAX_STREAMED_RESPONSE)
                return
            stream.write(chunk)
            if stream.full and not stream.gone:
                exchange.pause()

        exchange.on_chunk = take
        stream.on_room(exchange.resume)
        stream.begin(exchange.headers.get("content-type"))

    def _end_stream(self, exchange: Exchange) -> None:
        self._stream = None
        if self.state != RUNNING:
            exchange.answer(answers.too_large())
            return
        self.state = RESPONDED
        exchange.answer(answers.accepted())
        error_type = exchange.trailers.get(_ERROR_TYPE_HEADER)
        if error_type is None:
            self._listener.responded(b"")
            return
        try:
            payload = base64.b64decode(exchange.trailers.get(_ERROR_TRAILER, ""), validate=True)
        except binascii.Error:
            payload = b""
        self._listener.failed(reported(payload, error_type))

    # --- one call each -----------------------------------------------------------------------------------------------

    def _take_next(self, exchange: Exchange) -> None:
        if self.state == RUNNING:
            assert self._event is not None
            exchange.answer(self._event.answer())  # again, as it was: the answer may not have reached it
        elif self.state in (STARTED, READY, RESPONDED):
            if self._next is not None:
                self._next.answer(answers.wrong_state(self.state, READY))  # the later one counts
            self._next = exchange
            if self.state != READY:
                self.state = READY
                self._event = None
                self._listener.runtime_ready()
        else:
            exchange.answer(answers.wrong_state(self.state, READY))

    def _take_init_error(self, exchange: Exchange) -> None:
        if self.state != STARTED:
            exchange.answer(answers.wrong_state(self.state, INIT_ERROR))
            return
        self.state = INIT_ERROR
        exchange.answer(answers.accepted())
        self._listener.init_failed(reported(bytes(exchange.body), exchange.headers.get(_ERROR_TYPE_HEADER, "")))

    def _take_response(self, exchange: Exchange, request_id: str, kind: str) -> None:
        mine = self._responding is exchange
        if mine:
            self._responding = None
            if exchange.on_chunk is not None:
                self._end_stream(exchange)
                return
        refused = self._may_respond(request_id, _ERROR_RESPONSE if kind == "error" else RESPONDING)
        if refused is not None or not mine:
            exchange.answer(refused or answers.wrong_state(RESPONDING, RESPONDING))
            return
        mode = exchange.headers.get(_MODE, "")
        if mode and mode != "streaming":
            self.state = RESPONDED
            exchange.answer(answers.wrong_response_mode())
            self._listener.failed(_error("Runtime.InvalidResponseModeHeader", f"Invalid response mode header: {mode}"))
            return
        self.state = RESPONDED
        if exchange.too_large:
            exchange.answer(answers.too_large())
            self._listener.response_too_large(MAX_SYNC_RESPONSE)
            return
        exchange.answer(answers.accepted())
        if kind == "error":
            self._listener.failed(reported(bytes(exchange.body), exchange.headers.get(_ERROR_TYPE_HEADER, "")))
        else:
            self._listener.responded(bytes(exchange.body))

    def _may_respond(self, request_id: str, to: str = RESPONDING) -> Answer | None:
        """What to answer if it may not."""
        if self._event is None or request_id != self._event.request_id:
            return answers.wrong_request_id()
        if self.state != RUNNING or self._responding is not None:
            return answers.wrong_state(self.state if self.state != RUNNING else RESPONDING, to)
        return None


def _answer_of(exchange: Exchange) -> tuple[str, str] | None:
    """(request id, "response" or "error"), if it answers an event."""
    parts = exchange.path.removeprefix(ROOT).split("/")
    if exchange.method == "POST" and len(parts) == 3 and parts[0] == "invocation" and parts[2] in ("response", "error"):
        return parts[1], parts[2]
    return None


class _ErrorObject(msgspec.Struct):
    errorType: str = ""  # noqa: N815 - its name in the error object
    errorMessage: str = ""  # noqa: N815


def reported(payload: bytes, header: str) -> Reported:
    """The error object's own words; where it has none, the header's, which says more than a type that nobody knows."""
    try:
        found = msgspec.json.decode(payload, type=_ErrorObject)
    except (msgspec.MsgspecError, RecursionError):
        found = _ErrorObject()
    error_type = found.errorType or error_type_of(header)
    if not _is_json(payload):
        return _error(error_type, found.errorMessage)
    return Reported(error_type, found.errorMessage, payload)


def _error(error_type: str, message: str) -> Reported:
    return Reported(error_type, message, msgspec.json.encode({"errorType": error_type, "errorMessage": message}))


def error_type_of(header: str) -> str:
    """What the platform's own lines call it."""
    if _ERROR_TYPE.fullmatch(header):
        return header
    return "Function.Unknown" if header.startswith("Function.") else "Runtime.Unknown"


def _is_json(payload: bytes) -> bool:
    try:
        msgspec.json.decode(payload, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _in_one_line(value: str) -> str:
    # JSON text may have line ends between its tokens; in a header they would begin another one.
    return value.replace("\r", " ").replace("\n", " ")

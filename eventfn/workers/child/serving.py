"""One request after the other: a blocking loop for `def` handlers, an event loop for `async def` handlers."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import resource
import socket
from collections.abc import Callable
from typing import Any

from eventfn.workers.child import frames, logs, results
from eventfn.workers.child.context import Facts, LambdaContext
from eventfn.workers.child.loading import Handler
from eventfn.workers.child.results import Fault

_TRACE = "_X_AMZN_TRACE_ID"


def choose(handler: Handler, settings: dict[str, Any]) -> Callable[[], None]:
    """The loop that serves this handler. Raises Fault when the handler cannot do what the settings ask for."""
    many: int = settings["concurrency"]
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004 - its kind is asked, not whether it is callable
        return lambda: asyncio.run(_serve_concurrently(handler))
    if many > 1:
        message = (
            f"functions.{settings['function']}.concurrency_per_environment is {many}, but handler "
            f"'{settings['handler']}' is not async: declare it `async def`, or set concurrency_per_environment = 1"
        )
        raise Fault("Runtime.InvalidConcurrency", message)
    return lambda: _serve_blocking(handler)


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _answer(number: int, payload: bytes, request_id: str) -> tuple[bytes, bytes]:
    if len(payload) > frames.MAX_PAYLOAD:
        return _failed(number, results.too_large(request_id))
    return b'["result",%d,%d]' % (number, _peak_kb()), payload


def _failed(number: int, failure: results.Failure) -> tuple[bytes, bytes]:
    return failure.header("error", number, _peak_kb()), failure.payload


def _serve_blocking(handler: Handler) -> None:
    facts, encoder, trace, pid = Facts(), results.Encoder(), _Trace(), os.getpid()
    while (frame := frames.read(frames.CHANNEL)) is not None:
        (_, number, request_id, left, arn, client_context, trace_id), payload = frame
        logs.request_id.set(request_id)
        trace.set(trace_id)
        try:
            context = LambdaContext(facts, request_id, left, arn, client_context)
            header, answer = _answer(number, encoder.encode(handler(results.decode(payload), context)), request_id)
        except Exception as error:
            failure = results.describe(error, request_id)
            logs.log_failure(failure)
            header, answer = _failed(number, failure)
        if os.getpid() != pid:
            os._exit(0)  # the handler forked, and this is the copy: only one may answer
        logs.flush()
        frames.write(frames.CHANNEL, header, answer)


class _Trace:
    """The variable with the trace id of the latest request: a process has one environment."""

    def __init__(self) -> None:
        self._set: str | None = None

    def set(self, trace_id: str | None) -> None:
        if trace_id == self._set:  # nearly always: none, as before
            return
        self._set = trace_id
        if trace_id is None:
            os.environ.pop(_TRACE, None)
        else:
            os.environ[_TRACE] = trace_id


async def _serve_concurrently(handler: Handler) -> None:
    loop = asyncio.get_running_loop()
    # A copy: the event loop closes its own on the way out, and the channel is to end with the process.
    channel = socket.socket(fileno=os.dup(frames.CHANNEL))
    await loop.create_connection(lambda: _Server(handler), sock=channel)
    await loop.create_future()  # until the channel ends, or a handler wants to leave


class _Server(asyncio.Protocol):
    """Many requests in flight over the one channel, each a task with its own context variables."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._facts = Facts()
        self._encoder = results.Encoder()
        self._trace = _Trace()
        self._buffer = bytearray()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._leaving = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._leaving:
            os._exit(0)  # the supervisor is gone, or wants this environment gone: nobody is left to answer to

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= frames.PREFIX.size:
            header_size, payload_size = frames.PREFIX.unpack_from(self._buffer)
            middle = frames.PREFIX.size + header_size
            if len(self._buffer) < middle + payload_size:
                return
            header = json.loads(self._buffer[frames.PREFIX.size : middle])
            payload = bytes(self._buffer[middle : middle + payload_size])
            del self._buffer[: middle + payload_size]
            self._take(header, payload)

    def _take(self, header: list[Any], payload: bytes) -> None:
        number: int = header[1]
        if header[0] == "cancel":
            if number in self._tasks:
                self._tasks[number].cancel()
            return
        task = asyncio.get_running_loop().create_task(self._handle(number, header[2:], payload))
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._tasks.pop(number))

    async def _handle(self, number: int, facts: list[Any], payload: bytes) -> None:
        request_id, left, arn, client_context, trace_id = facts
        logs.request_id.set(request_id)
        self._trace.set(trace_id)
        try:
            context = LambdaContext(self._facts, request_id, left, arn, client_context)
            result = await self._handler(results.decode(payload), context)
            header, answer = _answer(number, self._encoder.encode(result), request_id)
        except (Exception, asyncio.CancelledError) as error:
            if self._leaving:
                raise
            failure = results.describe(error, request_id)
            logs.log_failure(failure)
            header, answer = _failed(number, failure)
        except BaseException:
            # sys.exit: the event loop passes it on, cancelling the rest. They are answered by the process's end.
            self._leaving = True
            raise
        logs.flush()
        self._transport.write(frames.join(header, answer))

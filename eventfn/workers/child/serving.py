"""One request after the other: a blocking loop for `def` handlers, an event loop for `async def` handlers."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import resource
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from eventfn.workers.child import frames, logs, results, streaming
from eventfn.workers.child.context import Facts, LambdaContext
from eventfn.workers.child.events import HttpEvents
from eventfn.workers.child.gate import GATE, Gate
from eventfn.workers.child.inbox import Inbox
from eventfn.workers.child.loading import Handler
from eventfn.workers.child.results import Fault, Iterates
from eventfn.workers.child.streaming import Flow
from eventfn.workers.child.trace import Trace

_MOST_TOOK = 0xFFFF_FFFF  # microseconds that a frame can say


class Serve(NamedTuple):
    """`loop` runs until the channel ends, from the request that is there already, if there is one. Whether requests may
    come `ahead`."""

    loop: Callable[[frames.Frame | None], None]
    ahead: bool = False


def choose(handler: Handler, settings: dict[str, Any]) -> Serve:
    """How this handler is served. Raises Fault when the handler cannot do what the settings ask for."""
    many: int = settings["concurrency"]
    kinds = handler, getattr(handler, "__call__", None)  # noqa: B004 - its kind is asked, not whether it is callable
    if any(inspect.iscoroutinefunction(each) for each in kinds):
        return Serve(functools.partial(_serve_in_a_loop, handler))
    if any(inspect.isasyncgenfunction(each) for each in kinds):

        async def begun(event: object, context: object) -> Any:
            return handler(event, context)

        return Serve(functools.partial(_serve_in_a_loop, begun))
    if many > 1:
        message = (
            f"functions.{settings['function']}.concurrency_per_environment is {many}, but handler "
            f"'{settings['handler']}' is not async: declare it `async def`, or set concurrency_per_environment = 1"
        )
        raise Fault("Runtime.InvalidConcurrency", message)
    gate = Gate(GATE) if settings["gate"] else None
    return Serve(functools.partial(_serve_blocking, handler, gate), ahead=gate is not None)


class Runtime:
    """What both loops do with a request before its handler is called, and after."""

    def __init__(self) -> None:
        self._facts = Facts()
        self._encoder = results.Encoder()
        self._events = HttpEvents()
        self._trace = Trace()

    def begin(self, frame: frames.Frame) -> tuple[Any, LambdaContext]:
        """The event and its context. Raises Fault."""
        kind, _, milliseconds_left, header, payload, body = frame
        is_http = kind == frames.REQUEST
        request_id, arn, trace_id, *own = header.split("\n", 4 if is_http else 3)
        logs.request_id.set(request_id)
        self._trace.set(trace_id)
        context = LambdaContext(self._facts, request_id, milliseconds_left, arn, "" if is_http else own[0])
        if is_http:
            return self._events.event(payload, body, request_id, own[0], int(own[1])), context
        return results.decode(payload), context

    def answer(self, frame: frames.Frame, result: object, began: int = 0) -> tuple[bytes, bytes]:
        """A frame, and the body that follows it. `began`: when the request was taken up, in nanoseconds; 0: not told.
        Raises Fault, Iterates."""
        kind, number, _, header, _, _ = frame
        if kind == frames.REQUEST:
            payload, body = self._encoder.encode_apart(result)
        else:
            payload, body = self._encoder.encode(result), b""
        if len(payload) + len(body) > frames.MAX_PAYLOAD:
            return _failed(number, results.too_large(_request_id(header)))
        logged, peak_kb = logs.flush(), _peak_kb()
        took = (time.monotonic_ns() - began) // 1000 if began else 0
        if took > _MOST_TOOK:
            took = 0
        prefix = frames.PREFIX.pack(frames.RESULT, logged, number, peak_kb, took, 0, len(payload), len(body))
        if len(body) < frames.LARGE:
            return prefix + payload + body, b""
        return prefix + payload, body

    def encode(self, value: object) -> bytes:
        return self._encoder.encode(value)

    def failure(self, frame: frames.Frame, error: BaseException) -> tuple[bytes, bytes]:
        _, number, _, header, _, _ = frame
        failure = results.describe(error, _request_id(header))
        logs.log_failure(failure)
        return _failed(number, failure)


def _request_id(header: str) -> str:
    return header.partition("\n")[0]


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _failed(number: int, failure: results.Failure) -> tuple[bytes, bytes]:
    logged = logs.flush()
    header, payload = failure.header, failure.payload
    return frames.join(frames.ERROR, header, payload, number=number, amount=_peak_kb(), flag=logged), b""


def _serve_blocking(handler: Handler, gate: Gate | None, first: frames.Frame | None) -> None:
    runtime, pid = Runtime(), os.getpid()
    inbox = Inbox(frames.CHANNEL, gate)
    while (frame := first or inbox.next_request()) is not None:
        first = None
        began = time.monotonic_ns()
        try:
            try:
                event, context = runtime.begin(frame)
                answer = runtime.answer(frame, handler(event, context), began)
            except Iterates as found:
                if frame[0] == frames.STREAM:
                    streaming.send(found.pieces, Flow(frame[1], runtime.encode), inbox)
                    answer = runtime.answer(frame, b"", began)
                else:
                    answer = runtime.answer(frame, streaming.join(found.pieces), began)
        except Exception as error:
            answer = runtime.failure(frame, error)
        if os.getpid() != pid:
            os._exit(0)  # the handler forked, and this is the copy: only one may answer
        if gate is not None and answer[0][1]:
            # What stands in the log pipe is this request's only as long as no other one is begun.
            gate.hold_back()
        frames.write(frames.CHANNEL, *answer)


def _serve_in_a_loop(handler: Handler, first: frames.Frame | None) -> None:
    asyncio.run(_serve_concurrently(handler, first))


async def _serve_concurrently(handler: Handler, first: frames.Frame | None) -> None:
    loop = asyncio.get_running_loop()
    # A copy: the event loop closes its own on the way out, and the channel is to end with the process.
    channel = socket.socket(fileno=os.dup(frames.CHANNEL))
    _, server = await loop.create_connection(lambda: _Server(handler), sock=channel)
    if first is not None:
        server.take(first)
    await loop.create_future()  # until the channel ends, or a handler wants to leave


class _Flow(Flow):
    """One of many that share the channel: it waits without holding up the others."""

    def __init__(self, number: int, encode: streaming.Encode) -> None:
        super().__init__(number, encode)
        self._changed = asyncio.Event()

    def heed(self, frame: frames.Frame) -> None:
        super().heed(frame)
        self._changed.set()

    async def has_room(self) -> None:
        while self.full and not self.gone:
            self._changed.clear()
            await self._changed.wait()


class _Server(asyncio.Protocol):
    """Many requests in flight over the one channel, each a task with its own context variables."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._runtime = Runtime()
        self._buffer = bytearray()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._flows: dict[int, _Flow] = {}
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
        while len(self._buffer) >= frames.SIZE:
            frame, size = frames.cut(self._buffer)
            if frame is None:
                return
            del self._buffer[:size]
            self.take(frame)

    def take(self, frame: frames.Frame) -> None:
        kind, number = frame[:2]
        if kind > frames.STREAM:
            self._heed(frame)
            return
        task = asyncio.get_running_loop().create_task(self._handle(frame))
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._tasks.pop(number))

    def _heed(self, frame: frames.Frame) -> None:
        """What is said of a request that is under way, or was."""
        kind, number = frame[:2]
        flow = self._flows.get(number)
        if flow is not None:
            flow.heed(frame)
        if number in self._tasks and (kind == frames.CANCEL or (kind == frames.GONE and flow is not None)):
            self._tasks[number].cancel()

    async def _handle(self, frame: frames.Frame) -> None:
        try:
            try:
                event, context = self._runtime.begin(frame)
                answer = self._runtime.answer(frame, await self._handler(event, context))
            except Iterates as found:
                answer = self._runtime.answer(frame, await self._iterate(frame, found.pieces))
        except (Exception, asyncio.CancelledError) as error:
            if self._leaving:
                raise
            answer = self._runtime.failure(frame, error)
        except BaseException:
            # sys.exit: the event loop passes it on, cancelling the rest. They are answered by the process's end.
            self._leaving = True
            raise
        self._transport.writelines(answer)

    async def _iterate(self, frame: frames.Frame, pieces: streaming.Pieces) -> object:
        """Sends or joins them; what is left to answer."""
        try:
            if frame[0] != frames.STREAM:
                joined = streaming.Joined()
                async for piece in streaming.steps(pieces):
                    joined.add(piece)
                return joined.answer()
            number = frame[1]
            flow = self._flows[number] = _Flow(number, self._runtime.encode)
            try:
                await self._send(flow, pieces)
            except asyncio.CancelledError:
                if not flow.gone:
                    raise
            finally:
                del self._flows[number]
            return b""
        finally:
            await streaming.closed(pieces)

    async def _send(self, flow: _Flow, pieces: streaming.Pieces) -> None:
        async for piece in streaming.steps(pieces):
            rest = flow.take(piece)
            while flow.due(rest):
                await flow.has_room()
                if flow.gone:
                    return
                begin, chunk, rest = flow.cut(rest)
                self._transport.write(begin + chunk)

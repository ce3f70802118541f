"""What one environment says in its function's log: START, END and REPORT of its requests, what the platform has to
tell, what the function printed; and the end of all that, for callers who asked for it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping

from eventfn.clock import Clock
from eventfn.workers import json_lines, lines
from eventfn.workers.contract import LogSink, Prepared
from eventfn.workers.json_lines import JsonLines
from eventfn.workers.lines import PlatformLines
from eventfn.workers.request import NEVER, Request
from eventfn.workers.runtimes import telling

_TAIL = 4096  # bytes of log that a caller may ask for


# A request that is over: it, when, how many milliseconds, those of its init, MB used, what follows, whether it failed.
# A plain tuple, as one with names takes three times as long to make.
_Over = tuple[Request, int, float, float | None, int, str, bool]


class Journal:
    """`requests` are those that run, now and later: whatever is said belongs to them.

    END and REPORT are said a turn of the loop after the answer, which is on its way by then, those of all requests that
    ended in the meantime together. Whatever else is said comes behind them.
    """

    def __init__(
        self, prepared: Prepared, sink: LogSink, clock: Clock, requests: Mapping[int, Request], *, provisioned: bool
    ) -> None:
        self.stream = lines.log_stream(clock.now_ms(), prepared.number, uuid.uuid4().hex)
        self.lines, self._is_wanted = _format(prepared, self.stream, clock, provisioned=provisioned)
        self._is_text = self.lines is lines  # then no line is empty
        self._name = prepared.function.name
        self._version = prepared.number
        # A plain number: what a subclass of int does takes longer.
        self._memory_mb = int(prepared.function.memory_size)
        self._sink = sink
        self._clock = clock
        self._requests = requests
        self._over: list[_Over] = []  # whose END and REPORT are not said yet
        self._loop = asyncio.get_running_loop()

    def say(self, message: str) -> None:
        if not message:
            return  # a line that the log's format or level has not
        self.say_over()
        for request in self._requests.values():
            self.say_start(request)
        self._sink.write(self._name, self.stream, self._clock.now_ms(), message)
        for request in self._requests.values():
            _add(request.tail, message)

    def say_printed(self, line: str) -> None:
        if self._is_wanted is None or self._is_wanted(line):
            self.say(line)

    def say_start(self, request: Request) -> None:
        """Unless it is said. It is held back for a moment: mostly it is written together with END and REPORT."""
        if request.start_due < NEVER:
            self.say_over()
            request.start_due = NEVER
            start = self.lines.start(request.invocation.request_id, self._version)
            if start:
                self._sink.write(self._name, self.stream, request.started_ms, start)
                _add(request.tail, start)

    def say_end(
        self,
        request: Request,
        milliseconds: float,
        init_ms: float | None,
        used_mb: int,
        suffix: str,
        *,
        failed: bool,
    ) -> bytes:
        """END and REPORT, in a moment. The log's tail, if the caller wants it: then now."""
        over = self._over
        over.append((request, self._clock.now_ms(), milliseconds, init_ms, used_mb, suffix, failed))
        if request.tail is not None:
            self.say_over()
            return bytes(request.tail)[-_TAIL:]
        if len(over) == 1:
            self._loop.call_soon(self.say_over)
        return b""

    def say_over(self) -> None:
        """What is still to be said of requests that are over."""
        if not self._over:
            return
        over, self._over = self._over, []
        version, memory_mb, lines = self._version, self._memory_mb, self.lines
        told: list[tuple[int, str]] = []
        for request, now_ms, milliseconds, init_ms, used_mb, suffix, failed in over:
            request_id = request.invocation.request_id
            if request.start_due < NEVER:
                told.append((request.started_ms, lines.start(request_id, version)))
            end = lines.end(request_id)
            report = lines.report(request_id, milliseconds, memory_mb, used_mb, init_ms, suffix, failed=failed)
            told += (now_ms, end), (now_ms, report)
            if end:
                _add(request.tail, end)
            _add(request.tail, report)
        if not self._is_text:
            told = [each for each in told if each[1]]
        if told:
            self._sink.write_all(self._name, self.stream, told)


def _format(
    prepared: Prepared, stream: str, clock: Clock, *, provisioned: bool
) -> tuple[PlatformLines, Callable[[str], bool] | None]:
    """How the platform writes into the function's log, and which of the function's own lines are kept; None: all."""
    function = prepared.function
    wished = function.logging_config
    if wished.log_format == "Text":
        return lines, None
    initialization = telling.initialization(provisioned=provisioned, snapshot=function.snap_start)
    platform = JsonLines(
        function=function.name,
        arn=prepared.arn,
        version=prepared.number,
        stream=stream,
        memory_mb=int(function.memory_size),
        initialization=initialization,
        level=wished.system_log_level,
        now_ms=clock.now_ms,
    )
    return platform, json_lines.wanted(wished.application_log_level)


def _add(tail: bytearray | None, message: str) -> None:
    if tail is not None:
        tail += message.encode() + b"\n"
        if len(tail) > 2 * _TAIL:
            del tail[:-_TAIL]

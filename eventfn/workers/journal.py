"""What one environment says in its function's log: START, END and REPORT of its requests, what the platform has to
tell, what the function printed; and the end of all that, for callers who asked for it."""

from __future__ import annotations

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


class Journal:
    """`requests` are those that run, now and later: whatever is said belongs to them."""

    def __init__(
        self, prepared: Prepared, sink: LogSink, clock: Clock, requests: Mapping[int, Request], *, provisioned: bool
    ) -> None:
        self.stream = lines.log_stream(clock.now_ms(), prepared.number, uuid.uuid4().hex)
        self.lines, self._is_wanted = _format(prepared, self.stream, clock, provisioned=provisioned)
        self._name = prepared.function.name
        self._version = prepared.number
        # A plain number: what a subclass of int does takes longer.
        self._memory_mb = int(prepared.function.memory_size)
        self._sink = sink
        self._clock = clock
        self._requests = requests

    def say(self, message: str) -> None:
        if not message:
            return  # a line that the log's format or level has not
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
        """END and REPORT. The log's tail, if the caller wants it."""
        request_id = request.invocation.request_id
        end = self.lines.end(request_id)
        report = self.lines.report(request_id, milliseconds, self._memory_mb, used_mb, init_ms, suffix, failed=failed)
        now_ms = self._clock.now_ms()
        told = [(now_ms, end), (now_ms, report)]
        if request.start_due < NEVER:
            told.insert(0, (request.started_ms, self.lines.start(request_id, self._version)))
        if not end:  # in text all of them are there
            told = [each for each in told if each[1]]
        if told:
            self._sink.write_all(self._name, self.stream, told)
        if request.tail is None:
            return b""
        ending = f"{end}\n{report}\n" if end else f"{report}\n"
        return (bytes(request.tail) + ending.encode())[-_TAIL:]


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

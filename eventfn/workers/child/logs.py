"""What a function writes: stdout and stderr into the log pipe, logging as Lambda's Python client sets it up.

One line is one log event. Lines that belong together (a traceback) are joined with a carriage return, which the
supervisor turns back into a line feed.
"""

from __future__ import annotations

import contextlib
import contextvars
import fcntl
import io
import json
import logging
import os
import sys
import termios
import time

from eventfn.workers.child.results import Failure

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("aws_request_id", default="")


_as_json = False
_pipe = 1  # the log pipe
_waiting = bytearray(4)  # how many bytes wait in it, as an int


def set_up() -> None:
    # The zygote's own stream objects stand on other files; each line is written at once, so that a crash loses none.
    sys.stdout = sys.__stdout__ = _lines_to(1)  # type: ignore[misc]  # a constant to type checkers only
    sys.stderr = sys.__stderr__ = _lines_to(2)  # type: ignore[misc]  # likewise
    handler = _StdoutHandler()
    handler.setFormatter(_Formatter())
    logging.getLogger().addHandler(handler)


def use_format() -> None:
    """Once the environment's variables are there: they may say JSON, and from which level on."""
    global _as_json
    if os.environ.get("AWS_LAMBDA_LOG_FORMAT") != "JSON":
        return
    _as_json = True
    root = logging.getLogger()
    for handler in root.handlers:
        if isinstance(handler, _StdoutHandler):
            handler.setFormatter(_JsonFormatter())
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "INFO")
    root.setLevel("DEBUG" if level == "TRACE" else level)


def keep_pipe() -> None:
    """Once 1 and 2 are the log pipe: a function may put something else in their place."""
    global _pipe
    if _pipe != 1:  # of the environment that this one is a copy of
        os.close(_pipe)
    _pipe = os.dup(1)


def _lines_to(descriptor: int) -> io.TextIOWrapper:
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True)


def flush() -> bool:
    """Before an answer: its lines come before it. Whether something may wait in the log pipe, by whomever it was
    written: processes that the function started and C code write there too."""
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - once per request, where contextlib.suppress costs as much as the flush
            stream.flush()  # a function may have closed or replaced either
        except (OSError, ValueError, AttributeError):
            pass
    try:
        fcntl.ioctl(_pipe, termios.FIONREAD, _waiting)
    except OSError:
        return True
    return any(_waiting)


def waiting() -> int:
    """After `flush`: how many bytes waited in the log pipe."""
    return int.from_bytes(_waiting, sys.byteorder)


def log_failure(failure: Failure) -> None:
    """An uncaught exception as one event, its indentation kept by no-break spaces."""
    if _as_json:
        facts = json.loads(failure.payload)
        _write(json.dumps({"timestamp": _moment(time.time()), "level": "ERROR", **facts}))
        return
    head = f"[ERROR] {failure.error_type}: {failure.message}" if failure.message else f"[ERROR] {failure.error_type}"
    lines = [head]
    if failure.trace:
        lines.append("Traceback (most recent call last):")
        lines += [_indented(line) for frame in failure.trace for line in frame.rstrip("\n").split("\n")]
    _write("\r".join(lines).replace("\n", "\r"))


def _write(event: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed: the answer still says what happened
        sys.stdout.write(event + "\n")


def _indented(line: str) -> str:
    text = line.lstrip(" ")
    return "\u00a0" * (len(line) - len(text)) + text


class _StdoutHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stdout.write(self.format(record).replace("\n", "\r") + "\n")
        except Exception:
            self.handleError(record)


class _Formatter(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        form = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"
        super().__init__(form, "%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        record.aws_request_id = request_id.get()
        return super().format(record)


class _JsonFormatter(logging.Formatter):
    """Lambda's, one object for each record; what a call gives as `extra` is part of it."""

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, object] = {
            "timestamp": _moment(record.created),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "requestId": request_id.get(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            facts |= {
                "errorType": record.exc_info[0].__name__,
                "errorMessage": str(record.exc_info[1]),
                "stackTrace": self.formatException(record.exc_info).split("\n"),
                "location": f"{record.pathname}:{record.funcName}:{record.lineno}",
            }
        facts |= {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD | facts.keys()}
        return json.dumps({name: value for name, value in facts.items() if value != ""}, default=str)


_OF_EVERY_RECORD = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "aws_request_id"}


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}Z"

"""The platform's lines in a log whose LogFormat is JSON: one object a line, as far as SystemLogLevel has them.

PURE; the clock is passed in. The text format, whose functions have the same names, is lines.py. An empty text is no
line. Source: contract/invocation.md, section 9.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

_LEVELS = {"DEBUG": 0, "INFO": 1, "WARN": 2}
_APPLICATION_LEVELS = {
    name: rank
    for rank, names in enumerate(
        (("TRACE",), ("DEBUG",), ("INFO",), ("WARN", "WARNING"), ("ERROR",), ("FATAL", "CRITICAL"))
    )
    for name in names
}
_INFO = _APPLICATION_LEVELS["INFO"]
_encode = msgspec.json.Encoder().encode


class JsonLines:
    """Of one environment. `stream` is its log stream, `memory_mb` its function's."""

    def __init__(
        self,
        function: str,
        arn: str,
        version: str,
        stream: str,
        memory_mb: int,
        initialization: str,
        level: str,
        now_ms: Callable[[], int],
    ) -> None:
        self._function = function
        self._arn = arn
        self._version = version
        self._stream = stream
        self._memory_mb = memory_mb
        self._initialization = initialization
        self._least = _LEVELS[level]
        self._now_ms = now_ms

    def init_start(self, version: str, arn: str) -> str:
        return self._started("platform.initStart", "init", version, arn)

    def restore_start(self, version: str, arn: str) -> str:
        return self._started("platform.restoreStart", "restore", version, arn)

    def _started(self, kind: str, phase: str, version: str, arn: str) -> str:
        facts = {
            "initializationType": self._initialization,
            "phase": phase,
            "runtimeVersion": version,
            "runtimeVersionArn": arn,
            "functionName": self._function,
            "functionVersion": self._version,
            "instanceId": self._stream,
            "instanceMaxMemory": self._memory_mb << 20,
        }
        return self._line("INFO", kind, facts)

    def init_report(self, milliseconds: float, phase: str, status: str, error_type: str | None) -> str:
        facts: dict[str, Any] = {"initializationType": self._initialization, "phase": phase, "status": status}
        if error_type:
            facts["errorType"] = error_type
        return self._line("WARN", "platform.initReport", facts | {"metrics": {"durationMs": round(milliseconds, 3)}})

    def restore_report(self, milliseconds: float) -> str:
        facts = {"status": "success", "metrics": {"durationMs": round(milliseconds, 3)}}
        return self._line("INFO", "platform.restoreReport", facts)

    def extension(self, name: str, events: Iterable[str]) -> str:
        return self._line("DEBUG", "platform.extension", {"name": name, "state": "Ready", "events": list(events)})

    def start(self, request_id: str, version: str) -> str:
        facts = {"requestId": request_id, "functionArn": self._arn, "version": version}
        return self._line("INFO", "platform.start", facts)

    def end(self, request_id: str) -> str:
        """There is none: `report` says it."""
        return ""

    def report(
        self,
        request_id: str,
        milliseconds: float,
        memory_mb: int,
        used_mb: int,
        init_ms: float | None,
        suffix: str = "",
        *,
        failed: bool = False,
    ) -> str:
        metrics = {
            "durationMs": round(milliseconds, 3),
            "billedDurationMs": math.ceil(milliseconds + (init_ms or 0)),
            "memorySizeMB": memory_mb,
            "maxMemoryUsedMB": used_mb,
        }
        if init_ms is not None:
            metrics["initDurationMs"] = round(init_ms, 3)
        said = dict(part.split(": ", 1) for part in suffix.split("\t") if ": " in part)
        status = said.get("Status", "failure" if failed else "success")
        facts: dict[str, Any] = {"requestId": request_id, "metrics": metrics, "status": status}
        if "Error Type" in said:
            facts["errorType"] = said["Error Type"]
        return self._line("INFO" if status == "success" else "WARN", "platform.report", facts)

    def timed_out(self, now_ms: int, request_id: str, seconds: float) -> str:
        """There is none: the status of `report` says it."""
        return ""

    def _line(self, level: str, kind: str, facts: dict[str, Any]) -> str:
        if _LEVELS[level] < self._least:
            return ""
        now_ms = self._now_ms()
        moment = datetime.fromtimestamp(now_ms // 1000, UTC)
        time = f"{moment:%Y-%m-%dT%H:%M:%S}.{now_ms % 1000:03d}Z"
        return _encode({"time": time, "type": kind, "record": facts}).decode()


class _Levelled(msgspec.Struct):
    level: str = ""


_decode = msgspec.json.Decoder(_Levelled).decode


def wanted(level: str) -> Callable[[str], bool]:
    """Whether a line that a function has written is of this ApplicationLogLevel, or above. What is no JSON object with
    a level passes, as in Lambda."""
    least = _APPLICATION_LEVELS[level]

    def is_wanted(line: str) -> bool:
        if not line.startswith("{"):
            return True
        try:
            said = _decode(line).level.upper()
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return True
        return not said or _APPLICATION_LEVELS.get(said, _INFO) >= least

    return is_wanted

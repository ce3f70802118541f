"""The platform's lines in a function's log, in Lambda's text format. PURE.

Source: contract/invocation.md, section 9. Milliseconds have two decimals; billed ones are rounded up and count the
init of a cold start.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Protocol


class PlatformLines(Protocol):
    """Of one format: this module is the one of text, JsonLines that of JSON. An empty text is no line."""

    def init_start(self, version: str, arn: str) -> str: ...
    def init_report(self, milliseconds: float, phase: str, status: str, error_type: str | None) -> str: ...
    def restore_start(self, version: str, arn: str) -> str: ...
    def restore_report(self, milliseconds: float) -> str: ...
    def extension(self, name: str, events: Iterable[str]) -> str: ...
    def start(self, request_id: str, version: str) -> str: ...
    def end(self, request_id: str) -> str: ...
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
    ) -> str: ...
    def timed_out(self, now_ms: int, request_id: str, seconds: float) -> str: ...


def log_stream(now_ms: int, version: str, token: str) -> str:
    return f"{_utc(now_ms):%Y/%m/%d}/[{version}]{token}"


def init_start(version: str, arn: str) -> str:
    return f"INIT_START Runtime Version: {version}\tRuntime Version ARN: {arn}"


def init_report(milliseconds: float, phase: str, status: str, error_type: str | None) -> str:
    suffix = f"\tError Type: {error_type}" if error_type else ""
    return f"INIT_REPORT Init Duration: {milliseconds:.2f} ms\tPhase: {phase}\tStatus: {status}{suffix}"


def restore_start(version: str, arn: str) -> str:
    return f"RESTORE_START Runtime Version: {version}\tRuntime Version ARN: {arn}"


def restore_report(milliseconds: float) -> str:
    return f"RESTORE_REPORT Restore Duration: {milliseconds:.2f} ms"


def extension(name: str, events: Iterable[str]) -> str:
    return f"EXTENSION\tName: {name}\tState: Ready\tEvents: [{', '.join(events)}]"


def start(request_id: str, version: str) -> str:
    return f"START RequestId: {request_id} Version: {version}"


def end(request_id: str) -> str:
    return f"END RequestId: {request_id}"


def report(
    request_id: str,
    milliseconds: float,
    memory_mb: int,
    used_mb: int,
    init_ms: float | None,
    suffix: str = "",
    *,
    failed: bool = False,
) -> str:
    """`failed`: the function has reported an error, of which the text format says nothing here."""
    billed = math.ceil(milliseconds if init_ms is None else milliseconds + init_ms)
    init = "" if init_ms is None else f"Init Duration: {init_ms:.2f} ms\t"
    return (
        f"REPORT RequestId: {request_id}\tDuration: {milliseconds:.2f} ms\tBilled Duration: {billed} ms\t"
        f"Memory Size: {memory_mb} MB\tMax Memory Used: {used_mb} MB\t{init}{suffix}"
    )


def timed_out(now_ms: int, request_id: str, seconds: float) -> str:
    return f"{moment(now_ms)} {request_id} Task timed out after {seconds:.2f} seconds\n"


def moment(now_ms: int) -> str:
    return _utc(now_ms).strftime("%Y-%m-%dT%H:%M:%S.") + f"{now_ms % 1000:03d}Z"


def _utc(now_ms: int) -> datetime:
    return datetime.fromtimestamp(now_ms // 1000, UTC)

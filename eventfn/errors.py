"""Every error that eventfn raises on purpose, named for whoever must act on it.

    ConfigError       your file           the operator mends eventfn.toml, or the Python file that declares
    HandlerError      your function       its author mends the code
    ConnectorError    the outside         a server, a network, a disk that is not eventfn's
    Refused           the caller          slow down, or send something else
    EngineError       the data folder     the operator frees space, stops the other process, upgrades
    EventfnBug        us                  please report it

What belongs here: the classes and the facts that they carry. What does not: how an error is shown (cli/, api/).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class EventfnError(Exception):
    """The root of the tree. Anything else that comes out of eventfn is a bug."""


class Problem(msgspec.Struct, frozen=True):
    """One mistake in what the operator declared, with all that is needed to mend it."""

    file: str
    line: int | None
    key: str  # dotted, as in the file: functions.thumbnail.timeout
    message: str  # what was expected, and what stands there
    hint: str | None = None  # "did you mean 'timeout'?"

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        text = f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"
        return text if self.hint is None else f"{text} ({self.hint})"


class ConfigError(EventfnError):
    """Your file: every mistake in it at once, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class HandlerError(EventfnError):
    """Your function failed, for callers that want an exception and not an Outcome (eventfn.testing, the CLI)."""

    def __init__(self, error_type: str, message: str, payload: bytes) -> None:
        self.error_type = error_type
        self.payload = payload
        super().__init__(f"{error_type}: {message}")


class ConnectorError(EventfnError):
    """The outside: a source or a destination cannot be reached or refuses. The host retries it with back-off."""


class Backoff(ConnectorError):
    """Raised by a connector that knows when to come back: the host waits `after` seconds, not its own back-off."""

    def __init__(self, after: float, reason: str = "") -> None:
        self.after = max(0.0, after)  # in this order it is 0 for what is not a number, too
        super().__init__(reason or f"asked to come back after {after:g} s")


class Refused(EventfnError):
    """The caller: this request is not taken. Nothing was kept of it, nothing will happen because of it."""


class FunctionNotFound(Refused):
    """No function of that name is declared."""

    def __init__(self, name: str, hint: str | None = None) -> None:
        self.name = name
        super().__init__(f"Function not found: {name}" + (f" ({hint})" if hint else ""))


class FunctionNotReady(Refused):
    """It is there, and cannot be invoked in its state: Lambda's Pending or Failed."""

    def __init__(self, name: str, state: str, why: str | None = None) -> None:
        self.name = name
        self.state = state
        super().__init__(
            why
            or "The operation cannot be performed at this time. The function is currently in the following state: "
            + state
        )


class RuntimeVersionMissing(FunctionNotReady):
    """It may run on one version of its runtime only, which is not on the machine any more: Lambda's InvalidRuntime."""


class RecursiveInvocation(Refused):
    """A function has invoked itself too often in one chain, and must not: 400."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            "Lambda has detected your function being invoked in a recursive loop with other AWS resources and stopped "
            "your function's invocation."
        )


class Throttled(Refused):
    """No capacity now: 429. `reason` is Lambda's, `retry_after` is in seconds."""

    def __init__(self, reason: str, retry_after: int = 1) -> None:
        self.reason = reason
        self.retry_after = retry_after
        super().__init__("Rate Exceeded.")


class PayloadTooLarge(Refused):
    """An event over its limit: 413."""

    def __init__(self, size: int, limit: int, operation: str = "InvokeFunction") -> None:
        self.size = size
        self.limit = limit
        super().__init__(f"Request must be smaller than {limit} bytes for the {operation} operation")


class ShuttingDown(Refused):
    """The node is draining: 503, come back to another node or later."""


class EngineError(EventfnError):
    """The data folder, or the server behind the engine, cannot do what it must. Nothing of the call was kept."""


class EngineFull(EngineError):
    """No space left for the data folder: 503. What was kept before is intact."""


class DataFolderLocked(EngineError):
    """Another process has this data folder open."""


class DataFolderUnusable(EngineError):
    """The data folder is damaged, newer than this eventfn, or not ours to write. It was left untouched."""


class Fenced(EngineError):
    """Somebody else has claimed this message since: the late answer is refused and nothing of the commit was kept."""


class EventfnBug(EventfnError):
    """Ours. The message says what was thought impossible."""

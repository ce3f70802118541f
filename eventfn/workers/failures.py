"""What it is called when an environment fails its request: Lambda's error types and texts. PURE.

Source: contract/invocation.md, section 2.
"""

from __future__ import annotations

import signal

import msgspec

from eventfn.event import MAX_SYNC_RESPONSE

EXIT_ERROR = "Runtime.ExitError"
OUT_OF_MEMORY = "Runtime.OutOfMemory"
EXTENSION_CRASH = "Extension.Crash"
TIMED_OUT = "Sandbox.Timedout"


class Failure(msgspec.Struct, frozen=True):
    """What a request gets that its environment could not answer."""

    error_type: str
    text: str
    names_request: bool = True  # whether Lambda puts the request's id before the text
    payload: bytes | None = None  # the error object, when the environment sent one

    def message(self, request_id: str) -> str:
        return f"RequestId: {request_id} Error: {self.text}" if self.names_request else self.text

    def body(self, request_id: str) -> bytes:
        """The error object."""
        if self.payload is not None:
            return self.payload
        return msgspec.json.encode({"errorType": self.error_type, "errorMessage": self.message(request_id)})

    @property
    def crash(self) -> bool:
        return self.error_type in (EXIT_ERROR, OUT_OF_MEMORY, EXTENSION_CRASH)


def reported(error_type: str, message: str, payload: bytes) -> Failure:
    """An init failure, in the runtime's own words: without an error object, of a runtime that never ran."""
    if not payload:
        return Failure(error_type, message)
    return Failure(error_type, message, names_request=False, payload=payload)


def timed_out(seconds: float) -> Failure:
    return Failure(TIMED_OUT, f"Task timed out after {seconds:.2f} seconds")


def extension_crashed(code: int) -> Failure:
    """From an exit code as os.waitstatus_to_exitcode gives it."""
    return Failure(EXTENSION_CRASH, f"exit code {code}" if code >= 0 else f"signal: {_signal_name(-code)}")


def extension_failed(name: str, error_type: str) -> Failure:
    return Failure(error_type, f"extension {name} cannot go on")


def sibling_timed_out() -> Failure:
    text = "Runtime ended: another request of this environment timed out and did not give the event loop back"
    return Failure(EXIT_ERROR, text)


def broke_protocol(what: str) -> Failure:
    return Failure(EXIT_ERROR, f"Runtime sent what is not a response: {what}")


def response_too_large(limit: int = MAX_SYNC_RESPONSE) -> Failure:
    text = f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
    return Failure("Function.ResponseSizeTooLarge", text, names_request=False)


def out_of_memory() -> Failure:
    return Failure(OUT_OF_MEMORY, "Runtime exited with error: signal: killed")


def exited(code: int) -> Failure:
    """From an exit code as os.waitstatus_to_exitcode gives it."""
    if code == 0:
        return Failure(EXIT_ERROR, "Runtime exited without providing a reason")
    if code > 0:
        return Failure(EXIT_ERROR, f"Runtime exited with error: exit status {code}")
    return Failure(EXIT_ERROR, f"Runtime exited with error: signal: {_signal_name(-code)}")


def _signal_name(number: int) -> str:
    return (signal.strsignal(number) or f"signal {number}").lower()

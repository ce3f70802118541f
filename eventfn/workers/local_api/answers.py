"""What the local APIs answer, word for word. PURE.

Source: contract/execution-environment.md, sections 1 to 3; the texts that it leaves out are those of Amazon's runtime
interface emulator.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from eventfn.event import MAX_SYNC_RESPONSE, Buffer


class Answer(NamedTuple):
    status: int
    body: Buffer = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"


_OK = b'{"status":"OK"}\n'


def accepted() -> Answer:
    return Answer(202, _OK)


def error(status: int, kind: str, message: str) -> Answer:
    return Answer(status, msgspec.json.encode({"errorMessage": message, "errorType": kind}) + b"\n")


def wrong_state(of: str, to: str) -> Answer:
    text = f"State transition from {of} to {to} failed for runtime. Error: State transition is not allowed"
    return error(403, "InvalidStateTransition", text)


def wrong_request_id() -> Answer:
    return error(400, "InvalidRequestID", "Invalid request ID")


def too_large() -> Answer:
    text = f"Exceeded maximum allowed payload size ({MAX_SYNC_RESPONSE} bytes)."
    return error(413, "RequestEntityTooLarge", text)


def wrong_response_mode() -> Answer:
    return error(400, "Runtime.InvalidResponseModeHeader", "Invalid response mode header")


def not_found() -> Answer:
    return Answer(404, b"404 page not found\n", content_type="text/plain; charset=utf-8")

"""What an invocation through the API carries, checked, and what it is answered with when nothing ran."""

from __future__ import annotations

import base64

import msgspec

from eventfn.api.errors import ApiError, invalid_content, too_many
from eventfn.event import Outcome, OutcomeKind

MAX_CLIENT_CONTEXT = 3583  # bytes of base64


def json_event(body: bytes) -> bytes:
    """The event: any JSON value; nothing at all is {}. It is looked at and not decoded: the function does that."""
    if not body:
        return b"{}"
    try:
        body.decode()
        msgspec.json.decode(body, type=msgspec.Raw)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise invalid_content(
            f"Could not parse request body into json: Could not parse payload into json: {error}"
        ) from error
    return body


def client_context(given: str | None) -> str | None:
    """JSON text, from X-Amz-Client-Context."""
    if given is None:
        return None
    if len(given) > MAX_CLIENT_CONTEXT:
        raise invalid_content(f"Client context must be no more than {MAX_CLIENT_CONTEXT} bytes.")
    try:
        text = base64.b64decode(given, validate=True).decode()
        msgspec.json.decode(text, type=msgspec.Raw)
    except (ValueError, RecursionError) as error:  # not base64, not UTF-8, not JSON, or nested without end
        raise invalid_content(f"Client context must be a valid Base64-encoded JSON object: {error}") from error
    return text


def refuse_unless_it_ran(outcome: Outcome) -> None:
    """Raises ApiError."""
    match outcome.kind:
        case OutcomeKind.SUCCESS | OutcomeKind.FUNCTION_ERROR:
            return
        case OutcomeKind.THROTTLED:
            raise too_many(outcome.error_message or "ConcurrentInvocationLimitExceeded", outcome.retry_after or 1)
        case OutcomeKind.SYSTEM_ERROR:
            message = outcome.error_message or "An internal error occurred."
            raise ApiError(500, "ServiceException", {"Type": "Service", "Message": message})

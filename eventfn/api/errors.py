"""Every error of the admin listener, in one place: exception -> Lambda's status, code, body and headers.

Not here: how aiohttp sends one (telling.py), whose import a start does not wait for.
Source of codes and bodies: Lambda's service model (functions-api: error table) and its recorded answers.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from eventfn.api.service_model import service_model
from eventfn.errors import (
    EngineError,
    EngineFull,
    FunctionNotFound,
    FunctionNotReady,
    PayloadTooLarge,
    RecursiveInvocation,
    Refused,
    RuntimeVersionMissing,
    ShuttingDown,
    Throttled,
)
from eventfn.functions.refusals import Refusal

RETRY_AFTER_STOP = 5  # seconds: about what a restart takes

log = logging.getLogger(__name__)


class ApiError(Exception):
    """An answer that is decided where it is raised. `body` holds the members of the JSON object in Lambda's order."""

    def __init__(self, status: int, code: str, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.code = code
        self.body = body
        self.headers = {"x-amzn-ErrorType": code, **(headers or {})}
        super().__init__(f"{status} {code}")


def lambda_error(
    code: str, message: str | None, *, typed: bool = True, headers: Mapping[str, str] | None = None, **members: Any
) -> ApiError:
    """The answer that the service model has for `code`: its status, and its spelling of "message".

    `typed=False` leaves the member "Type" out, as some recorded answers do. `members` stand before the others.
    """
    status, spelling, kind = _known(code)
    body = {**members, "Type": kind, spelling: message} if typed and kind else {**members, spelling: message}
    return ApiError(status, code, body, headers)


# Those that the service model does not have, from recorded answers: status, spelling, type.
_OUTSIDE_THE_MODEL: dict[str, tuple[int, str, str | None]] = {
    "AccessDeniedException": (403, "Message", None),
    "ExpiredTokenException": (403, "Message", None),
    "IncompleteSignatureException": (403, "Message", None),
    "InvalidSignatureException": (403, "Message", None),
    "MissingAuthenticationTokenException": (403, "Message", None),
    "RequestEntityTooLargeException": (413, "message", None),
    "SerializationException": (400, "Message", None),
    "UnknownOperationException": (404, "Message", None),
    "UnrecognizedClientException": (403, "Message", None),
    "ValidationException": (400, "message", None),
}


def _known(code: str) -> tuple[int, str, str | None]:
    if code in _OUTSIDE_THE_MODEL:
        return _OUTSIDE_THE_MODEL[code]
    shape = service_model().shapes[code]
    assert shape.error is not None, code
    spelling = "Message" if "Message" in shape.members else "message"
    return shape.error.http_status_code, spelling, "User" if shape.error.sender_fault else "Service"


def not_found(message: str) -> ApiError:
    return lambda_error("ResourceNotFoundException", message)


def conflict(message: str) -> ApiError:
    return lambda_error("ResourceConflictException", message)


def invalid_content(message: str) -> ApiError:
    return lambda_error("InvalidRequestContentException", message)


def invalid_parameter(message: str, *, typed: bool = True) -> ApiError:
    return lambda_error("InvalidParameterValueException", message, typed=typed)


def access_denied(message: str | None) -> ApiError:
    return lambda_error("AccessDeniedException", message)


def serialization(message: str) -> ApiError:
    """A body or a parameter whose type is not the service model's."""
    return lambda_error("SerializationException", message)


def unknown_operation(message: str) -> ApiError:
    return lambda_error("UnknownOperationException", message)


def too_large(message: str) -> ApiError:
    return lambda_error("RequestEntityTooLargeException", message)


def validation(violations: Sequence[str]) -> ApiError:
    """Each violation is "Value 'x' at 'functionName' failed to satisfy constraint: Member must ..."."""
    count = f"{len(violations)} validation error{'' if len(violations) == 1 else 's'} detected"
    return lambda_error("ValidationException", f"{count}: {'; '.join(violations)}")


def did_you_mean(name: str, known: list[str]) -> str:
    """ " (did you mean 'x'?)", or nothing."""
    close = difflib.get_close_matches(name, known, 1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def unavailable(message: str, retry_after: int) -> ApiError:
    body = {"Type": "Service", "Message": message}
    return ApiError(503, "ServiceException", body, _retry_after(retry_after))


def too_many(reason: str, retry_after: int) -> ApiError:
    headers = _retry_after(retry_after)
    return lambda_error("TooManyRequestsException", "Rate Exceeded.", headers=headers, Reason=reason)


def _retry_after(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}


def api_error(error: Exception) -> ApiError:
    """What the caller is told about `error`. What is not his to mend is logged, and he gets no detail of it."""
    match error:
        case ApiError():
            return error
        case Refusal():
            return lambda_error(error.code, error.message, typed=error.typed)
        case FunctionNotFound():
            return not_found(str(error))
        case RuntimeVersionMissing():
            return lambda_error("InvalidRuntimeException", str(error))
        case FunctionNotReady():
            return conflict(str(error))
        case RecursiveInvocation():
            return lambda_error("RecursiveInvocationException", str(error))
        case Throttled():
            return too_many(error.reason, error.retry_after)
        case PayloadTooLarge():
            return too_large(str(error))
        case ShuttingDown():
            return unavailable(str(error), RETRY_AFTER_STOP)
        case Refused():
            return invalid_parameter(str(error))
        case EngineFull():
            return unavailable(f"the data folder has no space left: {error}", RETRY_AFTER_STOP)
        case EngineError():
            log.error("the data folder failed a request: %s", error)
            return unavailable(f"the data folder failed: {error}", RETRY_AFTER_STOP)
        case _:
            log.error("a request to the admin listener failed", exc_info=error)
            return ApiError(500, "ServiceException", {"Type": "Service", "Message": "An internal error occurred."})

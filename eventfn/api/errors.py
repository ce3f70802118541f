"""Every error of the admin listener, in one place: exception -> Lambda's status, code, body and headers.

Source of codes and bodies: Lambda's service model (functions-api: error table) and its recorded answers.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from eventfn.errors import EngineError, EngineFull, FunctionNotFound, PayloadTooLarge, Refused, ShuttingDown, Throttled
from eventfn.event import MAX_SYNC_REQUEST

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


def not_found(message: str) -> ApiError:
    return ApiError(404, "ResourceNotFoundException", {"Type": "User", "Message": message})


def invalid_content(message: str) -> ApiError:
    return ApiError(400, "InvalidRequestContentException", {"Type": "User", "message": message})


def invalid_parameter(message: str) -> ApiError:
    return ApiError(400, "InvalidParameterValueException", {"Type": "User", "message": message})


def did_you_mean(name: str, known: list[str]) -> str:
    """ " (did you mean 'x'?)", or nothing."""
    close = difflib.get_close_matches(name, known, 1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def unavailable(message: str, retry_after: int) -> ApiError:
    return ApiError(503, "ServiceException", {"Type": "Service", "Message": message}, _retry_after(retry_after))


def too_many(reason: str, retry_after: int) -> ApiError:
    body = {"Reason": reason, "Type": "User", "message": "Rate Exceeded."}
    return ApiError(429, "TooManyRequestsException", body, _retry_after(retry_after))


def _retry_after(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}


def api_error(error: Exception) -> ApiError:
    """What the caller is told about `error`. What is not his to mend is logged, and he gets no detail of it."""
    match error:
        case ApiError():
            return error
        case FunctionNotFound():
            return not_found(str(error))
        case Throttled():
            return too_many(error.reason, error.retry_after)
        case PayloadTooLarge():
            return ApiError(413, "RequestEntityTooLargeException", {"message": str(error)})
        case ShuttingDown():
            return unavailable(str(error), RETRY_AFTER_STOP)
        case Refused():
            return invalid_parameter(str(error))
        case EngineFull():
            return unavailable(f"the data folder has no space left: {error}", RETRY_AFTER_STOP)
        case EngineError():
            log.error("the data folder failed a request: %s", error)
            return unavailable(f"the data folder failed: {error}", RETRY_AFTER_STOP)
        case web.HTTPRequestEntityTooLarge():
            return api_error(PayloadTooLarge(0, MAX_SYNC_REQUEST))
        case web.HTTPException():
            code = "UnknownOperationException" if error.status == 404 else error.reason.replace(" ", "")
            allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
            return ApiError(error.status, code, {"message": f"{error.status} {error.reason}"}, allow)
        case _:
            log.error("a request to the admin listener failed", exc_info=error)
            return ApiError(500, "ServiceException", {"Type": "Service", "Message": "An internal error occurred."})


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost middleware but one: below it everything may raise."""
    try:
        return await handler(request)
    except Exception as error:
        answer = api_error(error)
    body = msgspec.json.encode(answer.body)
    return web.Response(status=answer.status, body=body, headers=answer.headers, content_type="application/json")

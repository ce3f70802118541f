"""Errors as aiohttp sends them, its own among them."""

from __future__ import annotations

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from eventfn.api.errors import ApiError, api_error
from eventfn.errors import PayloadTooLarge
from eventfn.event import MAX_SYNC_REQUEST


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost middleware but one: below it everything may raise."""
    try:
        return await handler(request)
    except Exception as error:
        return told(error)


def told(error: Exception) -> web.Response:
    answer = as_api_error(error)
    body = msgspec.json.encode(answer.body)
    return web.Response(status=answer.status, body=body, headers=answer.headers, content_type="application/json")


def as_api_error(error: Exception) -> ApiError:
    match error:
        case web.HTTPRequestEntityTooLarge():
            return api_error(PayloadTooLarge(0, MAX_SYNC_REQUEST))
        case web.HTTPException():
            code = "UnknownOperationException" if error.status == 404 else error.reason.replace(" ", "")
            allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
            return ApiError(error.status, code, {"message": f"{error.status} {error.reason}"}, allow)
        case _:
            return api_error(error)

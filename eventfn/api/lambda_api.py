"""Lambda's API on aiohttp: a request of any of its operations becomes a Call, an Answer becomes a response.

The operations are those of the service model, each handled by a resource (operations.Resource). Not here: who may ask
(app, identity), what the admin listener answers besides (app).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping

import msgspec
from aiohttp import web

from eventfn.api.answers import REQUEST_ID
from eventfn.api.errors import too_large, unknown_operation
from eventfn.api.identity import root
from eventfn.api.inputs import parse
from eventfn.api.operations import Answer, Call, Handler, Resource
from eventfn.api.ports import Node
from eventfn.api.router import Match, Router
from eventfn.api.service_model import service_model
from eventfn.api.validation import validate
from eventfn.errors import EventfnBug
from eventfn.event import MAX_SYNC_REQUEST

# In bytes, of the whole body: Lambda's for those that carry code, which is base64 in JSON.
_WITH_CODE = frozenset({"CreateFunction", "UpdateFunctionCode", "PublishLayerVersion"})
_MAX_WITH_CODE = 70_167_211

_DAY = r"\d{4}-\d\d-\d\d"  # every operation's path begins with the day of its making


def is_api(path: str) -> bool:
    return re.match(f"/{_DAY}/", path, re.ASCII) is not None


class LambdaApi:
    def __init__(self, node: Node, resources: Iterable[Resource]) -> None:
        self._node = node
        self._model = service_model()
        self._router = Router(self._model.operations.values())
        self._handlers: dict[str, Handler] = {}
        for resource in resources:
            for name, handler in resource.operations().items():
                if name not in self._model.operations or name in self._handlers:
                    raise EventfnBug(f"{type(resource).__name__} handles {name}: it is unknown, or another one does")
                self._handlers[name] = handler

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", f"/{{day:{_DAY}}}/{{rest:.*}}", self.answer)]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        query = {key: request.query.getall(key) for key in request.query}
        match = self._router.find(request.method, request.rel_url.raw_path, query)
        if match is None:
            raise unknown_operation(f"{request.method} {request.path} is no operation of Lambda's API")
        name = match.operation.name
        handler = self._handlers.get(name)
        if handler is None:
            raise unknown_operation(f"{name} is not supported: docs/lambda-api.md says what is")
        body = await _body(request, name)
        call = self._call(request, match, query, body)
        return await _sent(request, call, await handler(call), match.operation.status)

    def _call(self, request: web.Request, match: Match, query: Mapping[str, list[str]], body: bytes) -> Call:
        given = parse(self._model, match.operation, match.labels, query, request.headers, body)
        validate(self._model, match.operation, given)
        return Call(
            operation=match.operation.name,
            input=given,
            principal=root(self._node.aws.account),
            region=self._node.aws.region,
            request_id=str(uuid.uuid4()),
            base_url=f"{request.scheme}://{request.host}",
            headers=request.headers,
        )


async def _body(request: web.Request, operation: str) -> bytes:
    """Raises ApiError before it has read what is too much."""
    limit = _MAX_WITH_CODE if operation in _WITH_CODE else MAX_SYNC_REQUEST
    refused = f"Request must be smaller than {limit} bytes for the {operation} operation"
    if (request.content_length or 0) > limit:
        raise too_large(refused)
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise too_large(refused)
    return bytes(body)


async def _sent(request: web.Request, call: Call, answer: Answer, status: int) -> web.StreamResponse:
    headers = {REQUEST_ID: call.request_id, **answer.headers}
    status = answer.status or status
    match answer.body:
        case None:
            return web.Response(status=status, headers=headers)
        case bytes():
            return web.Response(status=status, headers=headers, body=answer.body)
        case AsyncIterator():
            return await _streamed(request, status, headers, answer.body)
        case _:
            headers.setdefault("Content-Type", "application/json")
            return web.Response(status=status, headers=headers, body=msgspec.json.encode(answer.body))


async def _streamed(
    request: web.Request, status: int, headers: dict[str, str], chunks: AsyncIterator[bytes]
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    try:
        await response.prepare(request)
        async for chunk in chunks:
            await response.write(chunk)  # waits while the caller is slower
        await response.write_eof()
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
    return response

"""Lambda's API on aiohttp: a request of any of its operations becomes a Call, an Answer becomes a response.

The operations are those of the service model, each handled by a resource (operations.Resource). Not here: who may ask
(app, identity), what the admin listener answers besides (app).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any

import msgspec
from aiohttp import web

from eventfn.api.answers import REQUEST_ID
from eventfn.api.authorization import authorize, may_everything
from eventfn.api.errors import unknown_operation
from eventfn.api.hosts import require_loopback
from eventfn.api.identity import Callers
from eventfn.api.inputs import of_message, of_target
from eventfn.api.operations import Answer, Call, Handler, Resource
from eventfn.api.ports import Node
from eventfn.api.router import Router
from eventfn.api.service_model import Operation, service_model
from eventfn.api.signatures import Request
from eventfn.api.telling import told
from eventfn.api.validation import validate
from eventfn.errors import EventfnBug, PayloadTooLarge
from eventfn.event import MAX_SYNC_REQUEST

# In bytes, of the whole body: Lambda's for those that carry code, which is base64 in JSON.
_WITH_CODE = frozenset({"CreateFunction", "UpdateFunctionCode", "PublishLayerVersion"})
_MAX_WITH_CODE = 70_167_211
_SAID = {"Invoke": "InvokeFunction"}  # as errors call it

_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"  # every operation's path begins with the day of its making
API_ROUTE = f"/{{day:{_DAY}}}/{{rest:.*}}"  # aiohttp's
_IS_API = re.compile(f"/{_DAY}/")


def is_api(path: str) -> bool:
    return _IS_API.match(path) is not None


_NO_NETWORK = "127.0.0.1"  # the address of who has come through none: a function
_MOST_KNOWN = 4096  # targets of requests
_LONGEST_KNOWN = 512


class _Target(msgspec.Struct, frozen=True):
    """What a method, a path and a query mean. `known`: what they say of the input was found right before."""

    operation: Operation
    labels: dict[str, str]
    query: dict[str, list[str]]
    said: dict[str, Any] = {}
    known: bool = False


class LambdaApi:
    """`respond` is the whole of it: who asks, whether he may, what he is answered."""

    def __init__(self, node: Node, resources: Iterable[Resource], identities: Callers, *, loopback: bool) -> None:
        self._node = node
        self._identities = identities
        self._loopback = loopback
        self._model = service_model()
        self._router = Router(self._model.operations.values())
        self._known: dict[tuple[str, str], _Target] = {}
        self._handlers: dict[str, Handler] = {}
        for resource in resources:
            for name, handler in resource.operations().items():
                if name not in self._model.operations or name in self._handlers:
                    raise EventfnBug(f"{type(resource).__name__} handles {name}: it is unknown, or another one does")
                self._handlers[name] = handler

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        request_id = str(uuid.uuid4())
        try:
            return await self._answered(request, request_id)
        except Exception as error:
            response = told(error)
            response.headers[REQUEST_ID] = request_id
            return response

    async def _answered(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if self._loopback:
            require_loopback(host)
        asked = sent(request)
        claim = self._identities.claim(asked)
        target = self._known.get((request.method, request.raw_path)) or self._look_up(request, asked)
        operation = target.operation
        body = await _body(request, operation.name)
        caller = self._identities.prove(claim, msgspec.structs.replace(asked, body=body) if claim.signed else asked)
        handler = self._handlers.get(operation.name)
        if handler is None:
            raise unknown_operation(f"{operation.name} is not supported: docs/lambda-api.md says what is")
        said = target.said if target.known else of_target(self._model, operation, target.labels, target.query)
        given = {**said, **of_message(self._model, operation, request.headers, body)}
        validate(self._model, operation, given, target.said)
        self._remember(request, target, said)
        call = Call(
            operation=operation.name,
            input=given,
            principal=caller.principal,
            region=caller.region,
            request_id=request_id,
            base_url=f"{request.scheme}://{host}",
            headers=request.headers,
        )
        if not may_everything(call.principal, self._node.aws.account):
            control = self._node.control
            authorize(call, control, control.clock.now_ms() / 1000, request.remote or _NO_NETWORK)
        return await _sent(request, call, await handler(call), operation.status)

    def _look_up(self, request: web.BaseRequest, asked: Request) -> _Target:
        query = {key: request.query.getall(key) for key in request.query}
        match = self._router.find(request.method, asked.path, query)
        if match is None:
            raise unknown_operation(f"{request.method} {request.path} is no operation of Lambda's API")
        return _Target(match.operation, match.labels, query)

    def _remember(self, request: web.BaseRequest, target: _Target, said: dict[str, Any]) -> None:
        """Path and query of a target whose input was right: the hot path is a look-up."""
        if target.known or len(request.raw_path) > _LONGEST_KNOWN:
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[request.method, request.raw_path] = _Target(
            target.operation, target.labels, target.query, said, known=True
        )


def sent(request: web.BaseRequest) -> Request:
    """What is signed of it, but for its body."""
    path, _, query = request.raw_path.partition("?")
    return Request(method=request.method, path=path, query=query, headers=list(request.headers.items()))


async def _body(request: web.BaseRequest, operation: str) -> bytes:
    """Raises ApiError before it has read what is too much."""
    limit = _MAX_WITH_CODE if operation in _WITH_CODE else MAX_SYNC_REQUEST
    announced = request.content_length or 0
    if announced > limit:
        raise PayloadTooLarge(announced, limit, _SAID.get(operation, operation))
    if not request.can_read_body:
        return b""
    body = await request.content.readany()
    if len(body) == announced:  # all of it, and mostly: no copy
        return body
    whole = bytearray(body)
    async for chunk in request.content.iter_any():
        whole += chunk
        if len(whole) > limit:
            raise PayloadTooLarge(len(whole), limit, _SAID.get(operation, operation))
    return bytes(whole)


async def _sent(request: web.BaseRequest, call: Call, answer: Answer, status: int) -> web.StreamResponse:
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
    request: web.BaseRequest, status: int, headers: dict[str, str], chunks: AsyncIterator[bytes]
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

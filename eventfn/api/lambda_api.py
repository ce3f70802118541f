"""Lambda's API: a request of any of its operations becomes a Call, an Answer becomes a response.

The operations are those of the service model, each handled by a resource (operations.Resource). Not here: who may ask
(app, identity), Invoke's way past aiohttp (shortcut), what the admin listener answers besides (app).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeAlias

import msgspec
from aiohttp import web

from eventfn.api.answers import REQUEST_ID, Reply
from eventfn.api.authorization import authorize, may_everything
from eventfn.api.errors import unknown_operation
from eventfn.api.hosts import require_loopback
from eventfn.api.identity import Callers, Claim
from eventfn.api.inputs import of_message, of_target
from eventfn.api.operations import Answer, Call, Done, Handler, Prompt, Resource
from eventfn.api.plain import Plain
from eventfn.api.ports import Node
from eventfn.api.router import Router
from eventfn.api.service_model import Operation, service_model
from eventfn.api.signatures import Request
from eventfn.api.telling import as_api_error
from eventfn.api.validation import unbound, validate
from eventfn.bus.ids import new_id
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


Asked: TypeAlias = web.BaseRequest | Plain  # all but the body

_NO_NETWORK = "127.0.0.1"  # the address of who has come through none: a function
_MOST_KNOWN = 4096  # targets of requests
_LONGEST_KNOWN = 512


class _Target(msgspec.Struct, frozen=True):
    """What a method, a path and a query mean. `known`: what they say of the input was found right before."""

    operation: Operation
    labels: dict[str, str]
    query: dict[str, list[str]]
    said: dict[str, Any] = {}
    right: frozenset[str] = frozenset()  # the members that need no look: those of `said`, and those that are unbound
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
        self._prompt: dict[str, Prompt] = {}
        for resource in resources:
            if isinstance(resource, Prompt):
                self._prompt[resource.prompt] = resource
            for name, handler in resource.operations().items():
                if name not in self._model.operations or name in self._handlers:
                    raise EventfnBug(f"{type(resource).__name__} handles {name}: it is unknown, or another one does")
                self._handlers[name] = handler

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        request_id = new_id()
        try:
            claim, target, asked = self._open(request)
            body = await _body(request, target.operation.name)
            call, handler = self._call(request, claim, target, asked, body, request_id)
            answer = await handler(call)
            if isinstance(answer.body, AsyncIterator):
                return await _streamed(request, _reply(call, answer, target.operation.status), answer.body)
            reply = _reply(call, answer, target.operation.status)
        except Exception as error:
            reply = _refusal(error, request_id)
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)

    def begin(self, request: Asked, body: bytes, done: Callable[[Reply], None]) -> Coroutine[Any, Any, None] | None:
        """`respond`, for a whole body of at most MAX_SYNC_REQUEST and an operation that streams no answer. `done` is
        called once: perhaps at once, perhaps later, or, where something is returned, while that is awaited."""
        request_id = new_id()
        try:
            claim, target, asked = self._open(request)
            call, handler = self._call(request, claim, target, asked, body, request_id)
            status = target.operation.status

            def answered(answer: Answer | Exception) -> None:
                done(_refusal(answer, request_id) if isinstance(answer, Exception) else _reply(call, answer, status))

            prompt = self._prompt.get(call.operation)
            if prompt is not None and prompt.begin(call, answered):
                return None
        except Exception as error:
            done(_refusal(error, request_id))
            return None
        return _awaited(handler(call), answered)

    def _open(self, request: Asked) -> tuple[Claim, _Target, Request]:
        """What can be said before the body is read."""
        if self._loopback:
            require_loopback(request.headers.get("Host", ""))
        asked = sent(request)
        claim = self._identities.claim(asked)
        return claim, self._known.get((request.method, request.raw_path)) or self._look_up(request, asked), asked

    def _call(
        self, request: Asked, claim: Claim, target: _Target, asked: Request, body: bytes, request_id: str
    ) -> tuple[Call, Handler]:
        """Proven, parsed, valid and allowed."""
        operation = target.operation
        caller = self._identities.prove(claim, msgspec.structs.replace(asked, body=body) if claim.signed else asked)
        handler = self._handlers.get(operation.name)
        if handler is None:
            raise unknown_operation(f"{operation.name} is not supported: docs/lambda-api.md says what is")
        said = target.said if target.known else of_target(self._model, operation, target.labels, target.query)
        given = {**said, **of_message(self._model, operation, request.headers, body)}
        validate(self._model, operation, given, target.right)
        self._remember(request, target, said)
        call = Call(
            operation=operation.name,
            input=given,
            principal=caller.principal,
            region=caller.region,
            request_id=request_id,
            base_url=f"{request.scheme}://{request.headers.get('Host', '')}",
            headers=request.headers,
        )
        if not may_everything(call.principal, self._node.aws.account):
            control = self._node.control
            authorize(call, control, control.clock.now_ms() / 1000, request.remote or _NO_NETWORK)
        return call, handler

    def _look_up(self, request: Asked, asked: Request) -> _Target:
        query = {key: request.query.getall(key) for key in request.query}
        match = self._router.find(request.method, asked.path, query)
        if match is None:
            raise unknown_operation(f"{request.method} {request.path} is no operation of Lambda's API")
        return _Target(match.operation, match.labels, query)

    def _remember(self, request: Asked, target: _Target, said: dict[str, Any]) -> None:
        """Path and query of a target whose input was right: the hot path is a look-up."""
        if target.known or len(request.raw_path) > _LONGEST_KNOWN:
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        right = frozenset({*said, *unbound(self._model, target.operation)})
        self._known[request.method, request.raw_path] = _Target(
            target.operation, target.labels, target.query, said, right, known=True
        )


def sent(request: Asked) -> Request:
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


async def _awaited(answer: Awaitable[Answer], done: Done) -> None:
    try:
        found = await answer
    except Exception as error:
        done(error)
    else:
        done(found)


def _reply(call: Call, answer: Answer, status: int) -> Reply:
    """Of an answer that streams: all but its body."""
    headers = {REQUEST_ID: call.request_id, **answer.headers}
    body = answer.body
    if body is None or isinstance(body, AsyncIterator):
        body = b""
    elif not isinstance(body, bytes):
        headers.setdefault("Content-Type", "application/json")
        body = msgspec.json.encode(body)
    return Reply(answer.status or status, headers, body)


def _refusal(error: Exception, request_id: str) -> Reply:
    refused = as_api_error(error)
    headers = {**refused.headers, "Content-Type": "application/json", REQUEST_ID: request_id}
    return Reply(refused.status, headers, msgspec.json.encode(refused.body))


async def _streamed(request: web.BaseRequest, reply: Reply, chunks: AsyncIterator[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    try:
        await response.prepare(request)
        async for chunk in chunks:
            await response.write(chunk)  # waits while the caller is slower
        await response.write_eof()
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
    return response

"""What the admin listener answers: who may ask, what can be asked, how an error is told.

Every request carries `Authorization: Bearer <token>`, except those of PUBLIC, which tell nothing about events; one to
Lambda's API may carry an AWS signature instead.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import uuid
from collections.abc import Awaitable, Callable, Iterable

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from eventfn.api.answers import REQUEST_ID
from eventfn.api.authorization import authorize_identity
from eventfn.api.cloudwatch_logs import CloudWatchLogs, is_logs
from eventfn.api.errors import access_denied
from eventfn.api.hosts import require_loopback
from eventfn.api.identity import Callers, FunctionIdentities, Identities
from eventfn.api.lambda_api import API_ROUTE, LambdaApi, is_api, sent
from eventfn.api.locations import PREFIX, Locations
from eventfn.api.operations import Resource
from eventfn.api.ports import Node
from eventfn.api.queues import Queues
from eventfn.api.resources import resources as every_resource
from eventfn.api.shortcut import Shortcuts
from eventfn.api.status import StatusPages
from eventfn.api.telling import errors
from eventfn.api.triggers import Triggers
from eventfn.event import MAX_SYNC_REQUEST

PUBLIC = frozenset({"/healthz", "/metrics"})
LOGS = "logs"  # CloudWatch Logs' name in signatures and permissions
_Respond = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
_BACKLOG = 128  # connections that wait to be taken, as aiohttp has it
CLOSE_SECONDS = 1.0  # the node has drained by then: what is left is an answer on its way


def application(
    node: Node, token: str, *, loopback: bool = True, resources: Iterable[Resource] | None = None
) -> web.Application:
    """`loopback`: it listens on a loopback address, so only loopback names are right in a Host header. `resources` of
    Lambda's API: all of them, unless a test brings its own."""
    return _parts(node, token, loopback, resources)[0]


def _parts(
    node: Node, token: str, loopback: bool, resources: Iterable[Resource] | None = None
) -> tuple[web.Application, LambdaApi]:
    clock = node.control.clock
    identities = Identities(token, lambda: node.aws, node.session, lambda: clock.now_ms() / 1000, loopback=loopback)
    locations = Locations(node.control)
    if resources is None:
        resources = every_resource(node, locations, loopback=loopback)
    lambda_api = LambdaApi(node, resources, identities, loopback=loopback)
    app = _chain(lambda_api, _check_host(loopback), _check_identity(node, identities))
    for part in (Queues(node), StatusPages(node), Triggers(node), CloudWatchLogs(node), locations):
        app.add_routes(part.routes())
    return app, lambda_api


def for_functions(
    node: Node, *, loopback: bool, resources: Iterable[Resource] | None = None
) -> tuple[web.Application, Callable[[_Respond], _Respond]]:
    """What functions are answered, on connections that are theirs alone: Lambda's API and the reading of logs, for who
    signs with what the function was given. None of the node's own pages. And the way past it for Lambda's API."""
    clock = node.control.clock
    identities = FunctionIdentities(lambda: node.aws, node.session, lambda: clock.now_ms() / 1000)
    if resources is None:
        resources = every_resource(node, Locations(node.control), loopback=loopback)
    lambda_api = LambdaApi(node, resources, identities, loopback=loopback)
    app = _chain(lambda_api, _check_host(loopback), _check_function(node, identities))
    app.add_routes(CloudWatchLogs(node).routes())
    return app, functools.partial(_past, lambda_api)


def _chain(lambda_api: LambdaApi, *checks: Middleware) -> web.Application:
    app = web.Application(client_max_size=MAX_SYNC_REQUEST, middlewares=[_name_the_request, errors, *checks])
    app.add_routes([web.route("*", API_ROUTE, lambda_api.respond)])
    return app


class Serving:
    """Answers on sockets that are listening already, until `cleanup`."""

    def __init__(self, app: web.Application, lambda_api: LambdaApi) -> None:
        self._lambda_api = lambda_api
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_SECONDS)
        self._servers: list[asyncio.Server] = []
        self.shortcuts: Shortcuts | None = None

    async def start(self, sockets: Iterable[socket.socket]) -> None:
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        server.request_handler = _past(self._lambda_api, server.request_handler)
        self.shortcuts = Shortcuts(self._lambda_api, server)
        loop = asyncio.get_running_loop()
        self._servers = [await loop.create_server(self.shortcuts, sock=each, backlog=_BACKLOG) for each in sockets]

    async def cleanup(self) -> None:
        for server in self._servers:
            server.close()
        if self.shortcuts is not None:
            await asyncio.gather(self.shortcuts.close(CLOSE_SECONDS), self._runner.cleanup())


async def serving(
    node: Node,
    token: str,
    sockets: Iterable[socket.socket],
    *,
    loopback: bool,
    resources: Iterable[Resource] | None = None,
) -> Serving:
    """`resources` as of `application`."""
    found = Serving(*_parts(node, token, loopback, resources))
    await found.start(sockets)
    return found


def _past(lambda_api: LambdaApi, application: _Respond) -> _Respond:
    """What aiohttp has read for Lambda's API goes past the application's routes and middlewares, which do nothing for
    it that it does not do itself. With `Expect` the application answers 100 first."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if is_api(request.raw_path) and "Expect" not in request.headers:
            return await lambda_api.respond(request)
        return await application(request)

    return handle


# --- what every request passes, from the outside in -------------------------------------------------------------------


@web.middleware
async def _name_the_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    answer = await handler(request)
    if not answer.prepared:  # what Lambda's API and an invocation answer have said their own
        answer.headers.setdefault(REQUEST_ID, str(uuid.uuid4()))
    return answer


def _check_host(loopback: bool) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if loopback:
            require_loopback(request.headers.get("Host", ""))
        return await handler(request)

    return check


def is_public(path: str) -> bool:
    """What needs no token: what tells nothing about events, and code, whose location is signed itself."""
    return path in PUBLIC or path.startswith(PREFIX)


def _check_identity(node: Node, identities: Identities) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_public(request.path) or is_api(request.path):  # Lambda's API asks who it is itself
            return await handler(request)
        if is_logs(request):
            await _check_reader(node, identities, request)
        elif not identities.has_token(request.headers.get("Authorization")):
            message = "this needs the header 'Authorization: Bearer <token>', with the token in <data>/node.json"
            raise access_denied(message)
        return await handler(request)

    return check


def _check_function(node: Node, identities: FunctionIdentities) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_logs(request):
            await _check_reader(node, identities, request)
        elif not is_api(request.path):
            raise access_denied("functions reach Lambda's API here, and nothing else")
        return await handler(request)

    return check


async def _check_reader(node: Node, identities: Callers, request: web.Request) -> None:
    """Of logs. Raises ApiError."""
    asked = sent(request)
    claim = identities.claim(asked, LOGS)
    caller = identities.prove(claim, msgspec.structs.replace(asked, body=await request.read()))
    action = request.headers["X-Amz-Target"].rpartition(".")[2]
    resource = f"arn:aws:logs:{caller.region}:{node.aws.account}:*"
    authorize_identity(caller.principal, node.aws.account, f"{LOGS}:{action}", resource)

"""What the admin listener answers: who may ask, what can be asked, how an error is told.

Every request carries `Authorization: Bearer <token>`, except those of PUBLIC, which tell nothing about events; one to
Lambda's API may carry an AWS signature instead.
"""

from __future__ import annotations

import hmac
import socket
import uuid
from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from eventfn.api.answers import REQUEST_ID
from eventfn.api.cloudwatch_logs import CloudWatchLogs, is_logs
from eventfn.api.errors import ApiError, errors
from eventfn.api.invocations import Invocations
from eventfn.api.lambda_api import LambdaApi, is_api
from eventfn.api.listener import is_loopback
from eventfn.api.locations import PREFIX, Locations
from eventfn.api.operations import Resource
from eventfn.api.ports import Node
from eventfn.api.queues import Queues
from eventfn.api.resources import resources as every_resource
from eventfn.api.status import StatusPages
from eventfn.api.triggers import Triggers
from eventfn.event import MAX_SYNC_REQUEST

PUBLIC = frozenset({"/healthz", "/metrics"})
SIGNED = "AWS4-HMAC-SHA256 "  # how an Authorization header with an AWS signature begins
CLOSE_SECONDS = 1.0  # the node has drained by then: what is left is an answer on its way


def application(
    node: Node, token: str, *, loopback: bool = True, resources: Iterable[Resource] | None = None
) -> web.Application:
    """`loopback`: it listens on a loopback address, so only loopback names are right in a Host header. `resources` of
    Lambda's API: all of them, unless a test brings its own."""
    app = web.Application(
        client_max_size=MAX_SYNC_REQUEST,
        middlewares=[_name_the_request, errors, _check_host(loopback), _check_token(token, loopback)],
    )
    locations = Locations(node.control)
    if resources is None:
        resources = every_resource(node, locations, loopback=loopback)
    lambda_api = LambdaApi(node, resources)
    own = Invocations(node), Queues(node), StatusPages(node), Triggers(node)
    for part in (*own, CloudWatchLogs(node), locations, lambda_api):
        app.add_routes(part.routes())
    return app


async def serving(node: Node, token: str, sockets: Iterable[socket.socket], *, loopback: bool) -> web.AppRunner:
    """Answers on sockets that are listening already; the runner's `cleanup` ends that."""
    app = application(node, token, loopback=loopback)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_SECONDS)
    await runner.setup()
    for listening in sockets:
        await web.SockSite(runner, listening).start()
    return runner


# --- what every request passes, from the outside in -------------------------------------------------------------------


@web.middleware
async def _name_the_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    answer = await handler(request)
    if not answer.prepared:  # what Lambda's API and an invocation answer have said their own
        answer.headers.setdefault(REQUEST_ID, str(uuid.uuid4()))
    return answer


def _check_host(loopback: bool) -> Middleware:
    """A web page that has its own name resolved to 127.0.0.1 must not get to read from here (DNS rebinding). On any
    other address the operator has opened it on purpose, under names that only he knows."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if loopback and not is_loopback(name.strip("[]").lower()):
            raise ApiError(403, "AccessDeniedException", {"Message": "the Host header must name a loopback address"})
        return await handler(request)

    return check


def is_public(path: str) -> bool:
    """What needs no token: what tells nothing about events, and code, whose location is signed itself."""
    return path in PUBLIC or path.startswith(PREFIX)


def _check_token(token: str, loopback: bool) -> Middleware:
    expected = f"Bearer {token}".encode()

    def signed(request: web.Request) -> bool:
        """On loopback any signature is taken: that it has the header shows that no web page has sent it, which would
        have had to ask first (CORS)."""
        ours = is_api(request.path) or is_logs(request)
        return loopback and ours and request.headers.get("Authorization", "").startswith(SIGNED)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if is_public(request.path) or signed(request):
            return await handler(request)
        if not hmac.compare_digest(given, expected):
            message = "this needs the header 'Authorization: Bearer <token>', with the token in <data>/node.json"
            raise ApiError(403, "AccessDeniedException", {"Message": message})
        return await handler(request)

    return check

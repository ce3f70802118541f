"""Lambda's Invoke: POST /2015-03-31/functions/{name}/invocations (RequestResponse, Event, DryRun)."""

from __future__ import annotations

import base64
import re
import uuid

from aiohttp import web

from eventfn.api.answers import REQUEST_ID
from eventfn.api.errors import did_you_mean, invalid_parameter, not_found
from eventfn.api.payloads import client_context, json_event, refuse_unless_it_ran
from eventfn.api.ports import Node
from eventfn.errors import PayloadTooLarge
from eventfn.event import MAX_ASYNC_REQUEST

LATEST = "$LATEST"
MAX_LOG_TAIL = 4096  # bytes
IDEMPOTENCY_KEY = "Idempotency-Key"  # ours, for Event: within the window an event with this key is accepted once
DURATION = "X-Eventfn-Duration-Ms"  # ours: Lambda tells the duration in the log only

# The forms in which Lambda takes a function: name, name:qualifier, account:function:name[:qualifier], the whole ARN.
_NAMED = re.compile(
    r"(?:arn:aws[a-z-]*:lambda:[a-z0-9-]+:)?(?:\d{12}:)?(?:function:)?"
    r"(?P<name>[A-Za-z0-9_.-]+)(?::(?P<qualifier>[A-Za-z0-9$_-]+))?"
)


class Invocations:
    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/2015-03-31/functions/{name}/invocations", self._invoke)]

    async def _invoke(self, request: web.Request) -> web.Response:
        name = _function(request, self._node)
        match request.headers.get("X-Amz-Invocation-Type", "RequestResponse"):
            case "RequestResponse":
                return await self._request_response(request, name)
            case "Event":
                return await self._event(request, name)
            case "DryRun":
                return web.Response(status=204)
            case other:
                raise invalid_parameter(
                    f"1 validation error detected: Value '{other}' at 'invocationType' failed to satisfy constraint: "
                    "Member must satisfy enum value set: [Event, RequestResponse, DryRun]"
                )

    async def _request_response(self, request: web.Request, name: str) -> web.Response:
        request_id, trace_id = str(uuid.uuid4()), request.headers.get("X-Amzn-Trace-Id")
        outcome = await self._node.invoke(
            name,
            json_event(await request.read()),
            request_id=request_id,
            log_tail=request.headers.get("X-Amz-Log-Type") == "Tail",
            client_context=client_context(request.headers.get("X-Amz-Client-Context")),
            trace_id=trace_id,
        )
        refuse_unless_it_ran(outcome)
        headers = {
            REQUEST_ID: request_id,
            "X-Amz-Executed-Version": outcome.executed_version,
            "x-amzn-Remapped-Content-Length": "0",
            DURATION: f"{outcome.duration_ms:.2f}",
        }
        if not outcome.ok:
            headers["X-Amz-Function-Error"] = "Unhandled"
        if outcome.log_tail:
            headers["X-Amz-Log-Result"] = base64.b64encode(outcome.log_tail[-MAX_LOG_TAIL:]).decode()
        if trace_id is not None:
            headers["X-Amzn-Trace-Id"] = trace_id
        return web.Response(body=outcome.payload, headers=headers, content_type="application/json")

    async def _event(self, request: web.Request, name: str) -> web.Response:
        body = await request.read()
        if len(body) > MAX_ASYNC_REQUEST:
            raise PayloadTooLarge(len(body), MAX_ASYNC_REQUEST)
        dedupe_key = request.headers.get(IDEMPOTENCY_KEY)
        request_id = await self._node.submit(
            name, json_event(body), request_id=str(uuid.uuid4()), dedupe_key=dedupe_key
        )
        return web.Response(status=202, headers={REQUEST_ID: request_id})


def _function(request: web.Request, node: Node) -> str:
    """The reference of the function that the path and ?Qualifier= name. Raises ApiError as Lambda answers."""
    given = request.match_info["name"]
    named = _NAMED.fullmatch(given)
    if named is None:
        raise invalid_parameter(f"1 validation error detected: Value '{given}' at 'functionName' names no function")
    name, qualifier = named["name"], named["qualifier"]
    asked = request.query.get("Qualifier")
    if qualifier is not None and asked is not None and asked != qualifier:
        raise invalid_parameter("The derived qualifier from the function name does not match the specified qualifier.")
    qualifier = qualifier or asked
    reference = name if qualifier is None else f"{name}:{qualifier}"
    known = list(node.function_names())
    if name not in known or (qualifier not in (None, LATEST) and reference not in node.control.registry):
        hint = "" if name in known else did_you_mean(name, known)
        raise not_found(f"Function not found: {node.function_arn(name)}:{qualifier or LATEST}{hint}")
    return reference

"""Function URLs: which host names one, who may call it, what its event says of him.

    http://<id>.lambda-url.<region>.localhost:PORT/any/path

PURE. Source: contract/invocation.md, section 4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from eventfn.event import Outcome
from eventfn.trigger import FunctionUrl, UrlCaller, UrlRequest
from eventfn_http import cors, responses
from eventfn_http.events import PeerText, RouteText
from eventfn_http.head import Head
from eventfn_http.responses import JSON, Response

_HOST = re.compile(r"([a-z0-9]+)\.lambda-url\.([a-z0-9-]+)\.[^:]+(?::\d*)?", re.ASCII | re.IGNORECASE)
_FORBIDDEN = (
    "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)
_DENIED = JSON + b"x-amzn-ErrorType: AccessDeniedException\r\n"
UNKNOWN = Response(403, _DENIED, b'{"Message":null}')


class UrlTable:
    """Frozen: other URLs make another one."""

    def __init__(self, urls: Iterable[FunctionUrl] = ()) -> None:
        self._urls = {(url.id, url.region): url for url in urls}

    def find(self, host: str) -> FunctionUrl | Response | None:
        """The URL; a refusal for one that there is not; None for another kind of host."""
        named = _HOST.fullmatch(host)
        if named is None:
            return None
        return self._urls.get((named[1].lower(), named[2].lower()), UNKNOWN)


def forbidden(message: str | None) -> Response:
    return Response(403, _DENIED, msgspec.json.encode({"Message": message or _FORBIDDEN}))


def request(head: Head, peer: PeerText, body: bytes | bytearray) -> UrlRequest:
    headers = [*head.headers.items()]
    if head.cookies:
        headers.append(("cookie", "; ".join(head.cookies)))
    return UrlRequest(head.method, head.path, head.query, headers, bytes(body), peer.address)


def route_text(url: FunctionUrl, caller: UrlCaller | None) -> RouteText:
    if caller is None:
        return RouteText("$default", "anonymous", url.id)
    authorizer = {
        "iam": {
            "accessKey": caller.access_key,
            "accountId": caller.account,
            "callerId": caller.user_id,
            "cognitoIdentity": None,
            "principalOrgId": None,
            "userArn": caller.arn,
            "userId": caller.user_id,
        }
    }
    return RouteText("$default", caller.account, url.id, authorizer)


def finished(url: FunctionUrl, head: Head) -> Callable[[Response], Response]:
    """What is done to every response of the function's, in the end."""
    allowed = url.cors
    if allowed is None:
        return lambda response: response
    return lambda response: cors.with_cors(allowed, head, response)


def respond(url: FunctionUrl, outcome: Outcome) -> Response:
    """Of an answer in one piece. Where the URL streams it is sent as it is."""
    return responses.as_it_is(outcome) if url.streams else responses.respond(outcome)

"""A request as Lambda's function URL event, payload format 2.0, as JSON bytes. PURE.

Source: AWS Lambda developer guide, "Invoking Lambda function URLs", with API Gateway's routeKey and pathParameters.
The bytes are put together by hand: half the cost of encoding a structure, and this is the dearest step of a request.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from urllib.parse import unquote_plus

import msgspec

from eventfn.event import Apart
from eventfn_http.head import Head

_json = msgspec.json.Encoder().encode

_EPOCH = datetime(1970, 1, 1)  # naive, since everything here is UTC
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TEXTUAL = ("text", "json", "xml", "javascript")


class RouteText:
    """What is the same in every event of a route: its key ("GET /items/{id}") and the account, quoted once."""

    __slots__ = ("account", "opening", "route_key")

    def __init__(
        self, route_key: str, account: str, api: str = "eventfn", authorizer: Mapping[str, object] | None = None
    ) -> None:
        """`account` is "anonymous" where anybody may call; `authorizer` says who does."""
        key = _json(route_key)
        self.opening = b'{"version":"2.0","routeKey":%b,"rawPath":' % key
        self.account = b',"requestContext":{"accountId":%b,"apiId":%b,' % (_json(account), _json(api))
        if authorizer is not None:
            self.account += b'"authorizer":%b,' % _json(authorizer)
        self.route_key = b'","routeKey":%b,"stage":"$default","time":"' % key


class PeerText:
    """What is the same in every event of a connection: who calls, and where."""

    __slots__ = ("address", "port", "source_ip")

    def __init__(self, address: str, port: str) -> None:
        """`address` is the caller's, `port` the one that he called."""
        self.address = address
        self.port = port
        self.source_ip = b'","sourceIp":%b,"userAgent":' % _json(address)


def event(
    route: RouteText,
    peer: PeerText,
    head: Head,
    parameters: Mapping[str, str],
    body: bytes | bytearray,
    request_id: str,
    time: str,
    now_ms: int,
) -> bytes:
    """All of it. `time` is `common_log_time` of `now_ms`, which the caller keeps for a second."""
    text, ending = _text(body, head)
    ending = ending.replace(b'""', _json(text.decode()), 1) if text else ending
    return _whole(route, peer, head, parameters, request_id, time, now_ms, ending)


def event_apart(
    route: RouteText,
    peer: PeerText,
    head: Head,
    parameters: Mapping[str, str],
    body: bytes | bytearray,
    time: str,
    now_ms: int,
) -> tuple[bytes, Apart]:
    """The same in two parts: what it has in common with the next one of the same head, remembered, and what not."""
    if body and body.isascii() and (payload := head.texts.get(peer.address)) is not None:
        return payload, Apart(body, time, now_ms)
    text, ending = _text(body, head)
    payload = head.events.get((peer.address, ending))
    if payload is None:
        if len(head.events) >= _MOST_EVENTS:
            head.events.clear()
            head.texts.clear()
        payload = _whole(route, peer, head, parameters, "", "", 0, ending)
        head.events[peer.address, ending] = payload
        if ending is _TEXT:
            head.texts[peer.address] = payload
    return payload, Apart(text, time, now_ms)


_MOST_EVENTS = 64  # remembered for one head: of as many callers
_WITHOUT_BODY = b',"isBase64Encoded":false}'
_TEXT = b',"body":"","isBase64Encoded":false}'
_BASE64 = b',"body":"","isBase64Encoded":true}'


def _text(body: bytes | bytearray, head: Head) -> tuple[bytes | bytearray, bytes]:
    """The body as UTF-8 text, and how its event ends."""
    if not body:
        return b"", _WITHOUT_BODY
    if is_text(head.headers.get("content-type", "")):
        if body.isascii():
            return body, _TEXT
        try:
            body.decode()
        except UnicodeDecodeError:
            pass  # compressed, or in another character set: only base64 carries it unharmed
        else:
            return body, _TEXT
    return base64.b64encode(body), _BASE64


def _whole(
    route: RouteText,
    peer: PeerText,
    head: Head,
    parameters: Mapping[str, str],
    request_id: str,
    time: str,
    now_ms: int,
    ending: bytes,
) -> bytes:
    return b"".join(
        (
            _opening(route, peer, head),
            request_id.encode(),
            route.route_key,
            time.encode(),
            b'","timeEpoch":%d}' % now_ms,
            b',"pathParameters":' + _json(parameters) if parameters else b"",
            ending,
        )
    )


def _opening(route: RouteText, peer: PeerText, head: Head) -> bytes:
    """Like Lambda's front door it adds the x-forwarded headers: the caller's address goes behind those that a proxy has
    listed, port and protocol are set where no proxy did.
    """
    headers = dict(head.headers)
    forwarded = headers.get("x-forwarded-for")
    headers["x-forwarded-for"] = peer.address if forwarded is None else f"{forwarded}, {peer.address}"
    headers.setdefault("x-forwarded-port", peer.port)
    headers.setdefault("x-forwarded-proto", "http")
    path = _json(head.path)
    query = head.query
    return b"".join(
        (
            route.opening,
            path,
            b',"rawQueryString":',
            _json(query),
            b',"cookies":' + _json(head.cookies) if head.cookies else b"",
            b',"headers":',
            _json(headers),
            _query_parameters(query) if query else b"",
            route.account,
            _domain(head.host),
            b',"http":{"method":"',
            head.method.encode(),
            b'","path":',
            path,
            b',"protocol":"HTTP/',
            head.version.encode(),
            peer.source_ip,
            _json(headers.get("user-agent", "")),
            b'},"requestId":"',
        )
    )


def _query_parameters(query: str) -> bytes:
    """Decoded, those of one name joined with ','."""
    found: dict[str, str] = {}
    for part in query.split("&"):
        if not part:
            continue
        name, _, value = part.partition("=")
        if "%" in part or "+" in part:
            name, value = unquote_plus(name), unquote_plus(value)
        found[name] = f"{found[name]},{value}" if name in found else value
    return b',"queryStringParameters":' + _json(found) if found else b""


@lru_cache(maxsize=256)
def is_text(content_type: str) -> bool:
    """The contract's rule: anything else, and no content type at all, travels as base64."""
    content_type = content_type.lower()
    return any(word in content_type for word in _TEXTUAL)


@lru_cache(maxsize=256)
def _domain(host: str) -> bytes:
    name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
    return b'"domainName":%b,"domainPrefix":%b' % (_json(name), _json(name.partition(".")[0]))


def common_log_time(seconds: int) -> str:
    """12/Mar/2020:19:03:58 +0000. By hand, since strftime speaks the locale's language."""
    at = _EPOCH + timedelta(seconds=seconds)
    return f"{at.day:02}/{_MONTHS[at.month - 1]}/{at.year:04}:{at:%H:%M:%S} +0000"


def http_date(seconds: int) -> bytes:
    """Thu, 12 Mar 2020 19:03:58 GMT (RFC 9110 section 5.6.7)."""
    at = _EPOCH + timedelta(seconds=seconds)
    return f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTHS[at.month - 1]} {at.year:04} {at:%H:%M:%S} GMT".encode()

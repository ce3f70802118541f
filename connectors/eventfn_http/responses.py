"""How an invocation ended, as an HTTP response. PURE.

The mapping is Lambda's for function URLs in BUFFERED mode (AWS Lambda developer guide, "Invoking Lambda function
URLs": response payloads). The payload is decoded only where the mapping has to look: one pass over an object, none
over anything else.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import msgspec

from eventfn.event import Buffer, Outcome, OutcomeKind

STATUS_LINES = {code: f"HTTP/1.1 {code} \r\n".encode() for code in range(200, 600)}
STATUS_LINES.update({status: f"HTTP/1.1 {status} {status.phrase}\r\n".encode() for status in HTTPStatus})
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 section 5.6.2
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 section 5.5: what no header value may hold
# How the answer is framed and how long the connection lives is ours to say: a handler's word would break it.
_OURS = frozenset(("connection", "content-length", "date", "keep-alive", "transfer-encoding", "upgrade"))

_SUCCESS = OutcomeKind.SUCCESS  # to CPython 3.11 a member of an enum is an expensive attribute

JSON = b"content-type: application/json\r\n"
OCTETS = b"content-type: application/octet-stream\r\n"
TEXT = b"content-type: text/plain; charset=utf-8\r\n"


class Response(msgspec.Struct, frozen=True):
    """`lines` are complete header lines, checked, without those that belong to the connection."""

    status: int
    lines: bytes
    body: Buffer

    @property
    def has_body(self) -> bool:
        """RFC 9110 sections 15.3.5 and 15.4.5."""
        return self.status not in (204, 304)


class _Envelope(msgspec.Struct):
    """What a handler may return for an HTTP request; without statusCode it is just a JSON object."""

    statusCode: int | str | msgspec.UnsetType | None = msgspec.UNSET  # noqa: N815 - Lambda's names
    headers: dict[str, str | int | float | bool | None] | None = None
    cookies: list[str] | None = None
    isBase64Encoded: bool = False  # noqa: N815


class _Answer(_Envelope):
    """As nearly all are: decoded in one pass, which matters when the body is a megabyte."""

    body: str | None = None


class _JsonAnswer(_Envelope):
    """The body is a JSON value of another kind."""

    body: msgspec.Raw = msgspec.Raw()


class _Probe(msgspec.Struct):
    statusCode: Any = msgspec.UNSET  # noqa: N815


class _Invalid(ValueError):
    """The handler returned what cannot be an HTTP response."""


# RecursionError: JSON that is nested deeper than anybody here can follow.
_NOT_A_RESPONSE = (_Invalid, msgspec.DecodeError, UnicodeError, RecursionError)

_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_json_answer = msgspec.json.Decoder(_JsonAnswer).decode
_decode_probe = msgspec.json.Decoder(_Probe).decode
_decode_text = msgspec.json.Decoder(str).decode


def message(status: int, text: str, lines: bytes = b"") -> Response:
    """An answer of ours, in API Gateway's shape: {"message": text}."""
    return Response(status, JSON + lines, msgspec.json.encode({"message": text}))


INTERNAL_SERVER_ERROR = Response(502, TEXT, b"Internal Server Error")
SERVICE_UNAVAILABLE = message(503, "Service Unavailable")
UNAUTHORIZED = message(401, "Unauthorized", b"www-authenticate: Bearer\r\n")
NOT_FOUND = message(404, "Not Found")


def unrouted(allowed: Sequence[str]) -> Response:
    """No route for this path and method; `allowed` are the methods that the path does answer."""
    if not allowed:
        return NOT_FOUND
    return message(405, "Method Not Allowed", f"allow: {', '.join(allowed)}\r\n".encode())


def throttled(retry_after: int | None) -> Response:
    return message(429, "Too Many Requests", b"retry-after: %d\r\n" % (1 if retry_after is None else retry_after))


def accepted(request_id: str) -> Response:
    """An asynchronous route's answer, once the event is on disk."""
    return Response(202, JSON, msgspec.json.encode({"requestId": request_id}))


def respond(outcome: Outcome) -> Response:
    """The answer to whoever waits for this outcome."""
    kind = outcome.kind
    if kind is _SUCCESS:
        try:
            return _mapped(outcome.payload) if not outcome.body else _with_body(outcome.payload, outcome.body)
        except _NOT_A_RESPONSE:
            return INTERNAL_SERVER_ERROR
    if kind is OutcomeKind.FUNCTION_ERROR:
        return INTERNAL_SERVER_ERROR
    if kind is OutcomeKind.THROTTLED:
        return throttled(outcome.retry_after)
    return SERVICE_UNAVAILABLE


def as_it_is(outcome: Outcome) -> Response:
    """Without the mapping: an answer in one piece where the URL streams."""
    return Response(200, JSON, outcome.payload) if outcome.kind is _SUCCESS else respond(outcome)


def prelude(said: bytes) -> Response | None:
    """Status (200 where it says none) and headers of a response whose body is streamed; None: they cannot be one's."""
    try:
        head = _decode_envelope(said)
        status = 200 if head.statusCode in (msgspec.UNSET, None) else _status(head.statusCode)
        return Response(status, _lines(head, OCTETS), b"")
    except _NOT_A_RESPONSE:
        return None


def content_type(value: str) -> bytes | None:
    """The header's line; None: it cannot be one."""
    try:
        return f"content-type: {_checked(value)}\r\n".encode()
    except _Invalid:
        return None


def _mapped(payload: bytes) -> Response:
    if payload[:1] != b"{":
        first = payload.lstrip()[:1]
        if first == b'"':
            return Response(200, JSON, _decode_text(payload).encode())
        if first != b"{":
            return Response(200, JSON, msgspec.json.format(payload, indent=-1))
    try:
        answer: _Answer | _JsonAnswer = _decode_answer(payload)
    except msgspec.ValidationError:
        answer = _second_look(payload)
    if answer.statusCode is msgspec.UNSET:
        return Response(200, JSON, msgspec.json.format(payload, indent=-1))
    return Response(_status(answer.statusCode), _lines(answer), _content(answer))


def _with_body(payload: bytes, body: Buffer) -> Response:
    """The body has come apart: what is left is the same in most answers of a function."""
    remembered = len(payload) <= _LONGEST_REMEMBERED
    status, lines, is_base64 = (_remembered_envelope if remembered else _envelope)(payload)
    return Response(status, lines, _from_base64(body) if is_base64 else body)


def _envelope(payload: bytes) -> tuple[int, bytes, bool]:
    answer = _decode_envelope(payload)
    return _status(answer.statusCode), _lines(answer), answer.isBase64Encoded


_remembered_envelope = lru_cache(maxsize=256)(_envelope)  # bounded in both ways, since handlers choose it
_LONGEST_REMEMBERED = 1024


def _second_look(payload: bytes) -> _Answer | _JsonAnswer:
    try:
        return _decode_json_answer(payload)
    except msgspec.ValidationError:
        if _decode_probe(payload).statusCode is not msgspec.UNSET:
            raise
        return _Answer()  # an object of the handler's own that happens to have a key such as "headers"


def _status(code: int | str | msgspec.UnsetType | None) -> int:
    """A final status: an interim one (1xx) would leave the caller waiting for the real one."""
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        code = int(code)
    if not isinstance(code, int) or not 200 <= code <= 599:
        raise _Invalid(code)
    return code


def _content(answer: _Answer | _JsonAnswer) -> bytes:
    if isinstance(answer, _JsonAnswer):
        if answer.isBase64Encoded:
            raise _Invalid("body")
        return msgspec.json.format(bytes(answer.body), indent=-1)
    text = answer.body
    if text is None:
        return b""
    return _from_base64(text.encode()) if answer.isBase64Encoded else text.encode()


def _from_base64(text: Buffer) -> bytes:
    try:
        # Strict, but for the line breaks that base64.encodebytes makes.
        return binascii.a2b_base64(b"".join(bytes(text).split()), strict_mode=True)
    except ValueError as error:
        raise _Invalid("body") from error


def _lines(answer: _Envelope, otherwise: bytes = JSON) -> bytes:
    """`otherwise`: the content type, where it names none."""
    headers = answer.headers
    if not headers and not answer.cookies:
        return otherwise
    lines: list[bytes] = []
    typed = False
    for name, value in (headers or {}).items():
        line, is_type = _line(name, value)
        typed = typed or is_type
        lines.append(line)
    lines += [f"set-cookie: {_checked(cookie)}\r\n".encode() for cookie in answer.cookies or ()]
    encoded = b"".join(lines)
    return encoded if typed else otherwise + encoded


def _line(name: str, value: str | int | float | bool | None) -> tuple[bytes, bool]:
    """The header's line, empty where there is none or it is ours to write, and whether it is the content type.

    Raises _Invalid.
    """
    if not _TOKEN.fullmatch(name):
        raise _Invalid(name)
    lower = name.lower()
    if value is None or lower in _OURS:
        return b"", False
    return f"{name}: {_checked(value)}\r\n".encode(), lower == "content-type"


def _checked(value: str | int | float | bool) -> str:
    """Raises _Invalid for a line break or another control character: it would end the header and begin another."""
    if not isinstance(value, str):
        return ("true" if value else "false") if isinstance(value, bool) else str(value)
    if _FORBIDDEN.search(value):
        raise _Invalid(value)
    return value

"""CORS of function URLs: answered here, and never left to the function. PURE.

Source: Fetch standard, section 3.2 (CORS protocol), and for the headers that a function URL sends
contract/invocation.md, section 4.
"""

from __future__ import annotations

from eventfn.trigger import Cors
from eventfn_http.head import Head
from eventfn_http.responses import Response

_OURS = b"access-control-"


def is_preflight(head: Head) -> bool:
    return head.method == "OPTIONS" and "origin" in head.headers and "access-control-request-method" in head.headers


def preflight(cors: Cors, head: Head) -> Response:
    """A browser asks whether its page may send such a request. The function is not asked."""
    lines = _origin(cors, head.headers["origin"])
    if lines:
        lines += _listed("access-control-allow-methods", cors.allow_methods)
        lines += _listed("access-control-allow-headers", cors.allow_headers)
        if cors.max_age is not None:
            lines += b"access-control-max-age: %d\r\n" % cors.max_age
    return Response(200, lines + b"vary: Origin\r\n", b"")


def with_cors(cors: Cors, head: Head, response: Response) -> Response:
    """The function's own words about other origins do not count."""
    lines = b"".join(
        line + b"\r\n"
        for line in response.lines.split(b"\r\n")[:-1]
        if not line.lower().startswith(_OURS) and line.lower() != b"vary: origin"
    )
    origin = head.headers.get("origin")
    if origin is not None and (allowed := _origin(cors, origin)):
        lines += allowed + _listed("access-control-expose-headers", cors.expose_headers)
    return Response(response.status, lines + b"vary: Origin\r\n", response.body)


def _origin(cors: Cors, origin: str) -> bytes:
    if "*" not in cors.allow_origins and origin not in cors.allow_origins:
        return b""
    if "*" in cors.allow_origins and not cors.allow_credentials:
        return b"access-control-allow-origin: *\r\n"
    credentials = b"access-control-allow-credentials: true\r\n" if cors.allow_credentials else b""
    return f"access-control-allow-origin: {origin}\r\n".encode() + credentials


def _listed(name: str, values: tuple[str, ...]) -> bytes:
    return f"{name}: {','.join(values)}\r\n".encode() if values else b""

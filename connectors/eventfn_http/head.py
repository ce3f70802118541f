"""What a request says before its body, and which requests are refused for it. PURE.

llhttp (under httptools) has parsed the syntax, strictly: it refuses bare line feeds, folded headers, control
characters, a Content-Length that is not one number, Content-Length together with Transfer-Encoding. What it lets
through is judged here: RFC 9112 sections 3 (target, Host) and 6 (framing), RFC 9110 section 10.1.1 (Expect).
"""

from __future__ import annotations

import re

from eventfn_http.routes import METHODS

_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+;=%:\[\]-]*")  # RFC 3986 host and port, without what would make it a list
_METHODS = {name.encode(): name for name in METHODS}

# Header names as they come, lower-cased once. Bounded, since clients choose them.
_NAMES: dict[bytes, str] = {}
_MOST_NAMES = 1024


class Refusal(Exception):
    """This request, and all that follows it on its connection, is answered with `status` and a close."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


class Head:
    """`path` and `query` are as on the wire; `headers` have lower-case names, repeated ones joined with ','."""

    __slots__ = (
        "chunked",
        "cookies",
        "events",
        "expects_continue",
        "headers",
        "host",
        "length",
        "method",
        "path",
        "query",
        "texts",
        "version",
    )

    method: str
    path: str
    query: str
    version: str  # "1.1" or "1.0"
    host: str
    headers: dict[str, str]
    cookies: list[str]
    length: int  # of the body; 0 when there is none or it is chunked
    chunked: bool
    expects_continue: bool
    events: dict[tuple[str, bytes], bytes]  # kept here by events.py, for when the same head comes again
    texts: dict[str, bytes]  # likewise: of those, what a caller's ASCII text goes with


def read_head(method: bytes, target: bytes, version: str, lines: list[tuple[bytes, bytes]]) -> Head:
    """Raises Refusal."""
    head = Head()
    head.events = {}
    head.texts = {}
    known = _METHODS.get(method)
    if known is None:
        raise Refusal(501, f"The method {method.decode('latin-1')} is not supported")
    head.method = known
    if version != "1.1" and version != "1.0":
        raise Refusal(505, f"HTTP/{version} is not supported, only 1.1 and 1.0")
    head.version = version

    headers: dict[str, str] = {}
    head.headers = headers
    head.cookies = []
    for raw_name, raw_value in lines:
        name = _NAMES.get(raw_name) or _remember(raw_name)
        try:
            value = raw_value.decode().strip(" \t")
        except UnicodeDecodeError:
            value = raw_value.decode("latin-1").strip(" \t")
        if name in headers:
            if name == "host":
                raise Refusal(400, "More than one Host header")
            headers[name] += (";" if name == "cookie" else ",") + value
        else:
            headers[name] = value
    if "cookie" in headers:
        head.cookies = [cookie for part in headers.pop("cookie").split(";") if (cookie := part.strip())]

    host = headers.get("host")
    if target[:1] == b"/":
        if host is None:
            if version == "1.1":
                raise Refusal(400, "The Host header is missing")
            host = ""
    else:
        host, target = _absolute(target)  # RFC 9112 3.2.2: its authority counts, not the Host header
        headers["host"] = host
    if not _HOST.fullmatch(host):
        raise Refusal(400, "The Host header is not a host")
    head.host = host
    if b"#" in target:
        raise Refusal(400, "A fragment (#) does not belong into a request")
    head.path, _, head.query = target.decode("ascii").partition("?")

    length = headers.get("content-length")
    head.length = 0 if length is None else int(length)
    coding = headers.get("transfer-encoding")
    head.chunked = coding is not None
    if coding is not None:
        if version == "1.0":
            raise Refusal(400, "Transfer-Encoding does not belong into HTTP/1.0")
        if coding.lower() != "chunked":
            raise Refusal(501, f"The transfer encoding {coding!r} is not supported, only chunked")
    expect = headers.get("expect")
    head.expects_continue = False
    if expect is not None and version == "1.1":
        if expect.lower() != "100-continue":
            raise Refusal(417, f"The expectation {expect!r} is not supported, only 100-continue")
        head.expects_continue = True
    return head


def _remember(raw: bytes) -> str:
    name = raw.decode("ascii").lower()
    if len(_NAMES) < _MOST_NAMES:
        _NAMES[raw] = name
    return name


def _absolute(target: bytes) -> tuple[str, bytes]:
    """ "http://host/path" as (host, path). Raises Refusal for the asterisk and anything else that is no path."""
    scheme, colon, rest = target.partition(b"://")
    if not colon or scheme.lower() not in (b"http", b"https"):
        raise Refusal(400, "The request's target is not a path")
    end = next((at for at, char in enumerate(rest) if char in b"/?#"), len(rest))
    authority, path = rest[:end], rest[end:]
    if not authority or b"@" in authority:
        raise Refusal(400, "The request's target names no host")
    return authority.decode("ascii"), path if path[:1] == b"/" else b"/" + path

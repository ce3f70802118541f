"""Which requests are plain: an Invoke, wholly as any SDK writes it. It is a list of what is allowed, and short.

PURE: bytes in, a request or nothing out. Nothing is refused here: what is not plain is read by aiohttp, as strictly as
that does. Not here: connections (shortcut).
"""

from __future__ import annotations

import re

from multidict import CIMultiDict, MultiMapping
from yarl import URL

# Bytes. Each is well within aiohttp's own limit, and a body that is larger costs more than its way does.
_LONGEST_HEAD = 8_000
_LARGEST_BODY = 262_144
_MOST_HEADERS = 64

# Nothing but this: visible ASCII, one space behind a colon, no line that goes on in the next, no empty value.
_PLAIN = re.compile(
    rb"POST (/2015-03-31/functions/[\w:$.%-]+/invocations(?:\?[\w:$.%=&-]*)?) HTTP/1\.1\r\n"
    rb"((?:[A-Za-z0-9-]++: [!-~][ -~]*+\r\n)++)\r\n",
    re.ASCII,
)
_LINE = re.compile(r"([^:]+): ([^\r]+)\r\n")
_LENGTH = re.compile(r"[0-9]{1,6}")

# What says how a request is to be read, and is aiohttp's to judge.
_OTHERS = frozenset({"transfer-encoding", "expect", "upgrade", "content-encoding", "proxy-connection", "trailer", "te"})


class Plain:
    """A request whose head is plain, with the names that aiohttp has for what is asked of one."""

    __slots__ = ("end", "headers", "keep_alive", "length", "raw_path", "remote")

    method = "POST"
    scheme = "http"

    def __init__(
        self, raw_path: str, headers: MultiMapping[str], remote: str | None, end: int, length: int, keep_alive: bool
    ) -> None:
        self.raw_path = raw_path
        self.headers = headers
        self.remote = remote
        self.end = end  # of the head
        self.length = length  # of the body
        self.keep_alive = keep_alive

    @property
    def path(self) -> str:
        return self._url.path

    @property
    def query(self) -> MultiMapping[str]:
        return self._url.query

    @property
    def _url(self) -> URL:
        path, _, query = self.raw_path.partition("?")
        return URL.build(path=path, query_string=query, encoded=True)


def plain(data: bytes, remote: str | None) -> Plain | None:
    """The request that `data` begins with, its head whole; None: it is aiohttp's to read."""
    found = _PLAIN.match(data, 0, _LONGEST_HEAD)
    if found is None or b" \r\n" in found[2]:  # whose space at the end is no part of the value
        return None
    lines = _LINE.findall(found[2].decode("ascii"))
    fields = {name.lower(): value for name, value in lines}
    if len(fields) != len(lines) or len(lines) > _MOST_HEADERS or not _OTHERS.isdisjoint(fields):
        return None
    length, connection = fields.get("content-length", ""), fields.get("connection", "keep-alive").lower()
    if "host" not in fields or not _LENGTH.fullmatch(length) or int(length) > _LARGEST_BODY:
        return None
    if connection not in ("close", "keep-alive"):
        return None
    target = found[1].decode("ascii")
    return Plain(target, CIMultiDict(lines), remote, found.end(), int(length), connection == "keep-alive")

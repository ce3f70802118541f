"""The address that stores post to, one for all triggers with the same [s3].

Imported when a node opens it, by a thread: aiohttp takes longer to import than all the rest of a node.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Hashable
from weakref import WeakValueDictionary

import msgspec
from aiohttp import web

from eventfn.errors import ConnectorError

MAX_BODY = 1024 * 1024  # bytes
BODY_WITHIN = 10.0  # seconds
_LAST_ANSWERS = 1.0  # seconds for requests under way when it closes

Take = Callable[[bytes], Awaitable[bool]]  # whether the notification is on disk


class Listener:
    """Open while it has somebody to take what is posted."""

    def __init__(self, host: str, port: int, token: str | None, log: logging.Logger) -> None:
        self.address = ""  # with the real port, while it is open
        self._host = host
        self._port = port
        self._token = token
        self._log = log
        self._takers: dict[str, list[Take]] = {}  # by path
        self._changing = asyncio.Lock()
        self._runner: web.AppRunner | None = None

    @classmethod
    def at(cls, host: str, port: int, token: str | None, log: logging.Logger) -> Listener:
        """The one that all with the same address and token have."""
        key = (asyncio.get_running_loop(), host, port, token)
        listener = _listeners.get(key)
        if listener is None:
            listener = _listeners[key] = cls(host, port, token, log)
        return listener

    async def add(self, path: str, take: Take) -> None:
        """Raises ConnectorError when the address is taken."""
        async with self._changing:
            if self._runner is None:
                await self._open()
            self._takers.setdefault(path, []).append(take)

    async def remove(self, path: str, take: Take) -> None:
        async with self._changing:
            self._takers[path].remove(take)
            if not self._takers[path]:
                del self._takers[path]
            if not self._takers and self._runner is not None:
                runner, self._runner = self._runner, None
                await runner.cleanup()

    async def _open(self) -> None:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            bound = socket.create_server((self._host, self._port), family=family)
        except OSError as error:
            raise ConnectorError(
                f"s3: cannot listen on {self._host}:{self._port}: {os.strerror(error.errno or 0)}: "
                "choose another address with listen in [s3]"
            ) from error
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=_LAST_ANSWERS)
        await self._runner.setup()
        await web.SockSite(self._runner, bound).start()
        port = bound.getsockname()[1]
        self.address = f"[{self._host}]:{port}" if ":" in self._host else f"{self._host}:{port}"
        self._log.info("notifications of S3 are taken on %s", self.address)

    async def _answer(self, request: web.Request) -> web.Response:
        if self._token is not None and not _is_known(request.headers.get("Authorization", ""), self._token):
            return _said(401, "the token is missing or wrong")
        if request.method != "POST":
            return _said(405, "notifications are posted")
        takers = self._takers.get(request.path)
        if takers is None:
            return _said(404, "no trigger has this path")
        try:
            async with asyncio.timeout(BODY_WITHIN):
                body = await request.read()
        except TimeoutError:
            return _said(408, "the body took too long")
        except (ConnectionError, web.RequestPayloadError):
            return _said(400, "the body is not whole")
        try:
            taken = await asyncio.gather(*(take(body) for take in takers))
        except (msgspec.DecodeError, RecursionError) as error:
            self._log.warning("what was posted to %s is no notification of S3: %s", request.path, error)
            return _said(400, "this is no notification of S3")
        return _said(200, "") if all(taken) else _said(503, "not now: post it again")


_listeners: WeakValueDictionary[Hashable, Listener] = WeakValueDictionary()


def _is_known(authorization: str, token: str) -> bool:
    """As a bearer (MinIO), or as the password of somebody (Ceph, whose endpoints are URLs)."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given.encode(errors="surrogateescape"), token.encode())


def _said(status: int, why: str) -> web.Response:
    return web.Response(status=status, text=why)

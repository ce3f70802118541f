"""Answers functions: an HTTP server on the connections that inward.py makes, each of which is one function's.

Not here: what a function may ask there (app, identity).
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from eventfn.api.app import CLOSE_SECONDS, for_functions
from eventfn.api.identity import asking_function
from eventfn.api.ports import Node

log = logging.getLogger("eventfn.api")

_Respond = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class FunctionConnections:
    """`take` connections between `serve` and `close`."""

    def __init__(self, node: Node, *, loopback: bool) -> None:
        self._application, self._respond = for_functions(node, loopback=loopback)
        self._runner = web.AppRunner(self._application, access_log=None, handle_signals=False)
        self._servers: dict[str, web.Server] = {}  # of functions that are connected
        self._handing: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Returns when connections can be taken."""
        await self._runner.setup()

    def take(self, function: str, connection: socket.socket) -> None:
        """Non-blocking, and owned from here on."""
        if not self._handing:  # whose connection is handed over has none yet
            self._servers = {name: server for name, server in self._servers.items() if server.connections}
        task = asyncio.get_running_loop().create_task(self._hand(function, connection))
        self._handing.add(task)
        task.add_done_callback(self._handing.discard)

    async def close(self) -> None:
        """Gives requests under way a second."""
        for task in self._handing:
            task.cancel()
        await asyncio.gather(*self._handing, return_exceptions=True)
        await asyncio.gather(*(server.shutdown(CLOSE_SECONDS) for server in self._servers.values()))
        await self._runner.cleanup()

    async def _hand(self, function: str, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._server(function), connection)
        except BaseException as error:
            connection.close()
            if not isinstance(error, OSError):
                raise
            log.warning("a connection of %s is not answered: %s", function, error)

    def _server(self, function: str) -> web.Server:
        server = self._servers.get(function)
        if server is None:
            whole = self._runner.server
            assert whole is not None, "`serve` comes first"
            respond = functools.partial(_as, function, self._respond(whole.request_handler))
            server = web.Server(respond, request_factory=whole.request_factory, access_log=None)
            self._servers[function] = server
        return server


async def _as(function: str, respond: _Respond, request: web.BaseRequest) -> web.StreamResponse:
    """A task answers the requests of one connection, and so of one function."""
    asking_function.set(function)
    return await respond(request)

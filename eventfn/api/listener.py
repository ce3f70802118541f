"""The admin listener from its bind to its last answer.

It listens at once and answers a little later. What answers stands on aiohttp, whose import takes as much computing as
all the rest of a start (0.2 s; a third of it reads the machine's CA certificates). So a thread imports it after the
node is ready; who asks before that waits in the listening socket, and is answered. Not here: what can be asked (app).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import ipaddress
import socket
from typing import TYPE_CHECKING

from eventfn.api.inward import Inward
from eventfn.api.ports import Node
from eventfn.errors import ConnectorError

if TYPE_CHECKING:
    from eventfn.api.app import Serving
    from eventfn.api.function_connections import FunctionConnections

_BACKLOG = 128  # who may wait for the import


class AdminListener:
    """`bind`, then `serve`; `close` at any time."""

    def __init__(self, node: Node, listen: str, token: str, inward: Inward) -> None:
        """`listen` is "host:port", as the configuration has checked it; port 0 takes any free one. What functions
        connect to it comes by `inward`."""
        host, _, port = listen.rpartition(":")
        self._node = node
        self._token = token
        self._inward = inward
        self._host = host.strip("[]")
        self._port = int(port)
        self._sockets: list[socket.socket] = []
        self._serving: Serving | None = None
        self._functions: FunctionConnections | None = None

    async def bind(self) -> str:
        """The address with the real port: whoever connects from now on is answered. Raises ConnectorError (in use)."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            for family, _, _, _, address in found:  # "localhost" has two
                self._sockets.append(socket.create_server(address, family=family, backlog=_BACKLOG))
        except OSError as error:
            await self.close()
            raise ConnectorError(
                f"admin.listen: cannot listen on {self._host}:{self._port}: {error.strerror or error}; "
                "choose another with --admin (port 0: any free one)"
            ) from error
        self._inward.opened([listening.getsockname()[:2] for listening in self._sockets])
        host, port = self._sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def serve(self) -> None:
        """Returns when answers are given."""
        await asyncio.to_thread(importlib.import_module, "eventfn.api.function_connections")
        from eventfn.api.app import serving  # imported by now
        from eventfn.api.function_connections import FunctionConnections

        loopback = is_loopback(self._host)
        self._serving = await serving(self._node, self._token, self._sockets, loopback=loopback)
        self._functions = FunctionConnections(self._node, loopback=loopback)
        await self._functions.serve()
        self._inward.serve(self._functions.take)

    async def close(self) -> None:
        """Takes no new request and gives those under way a second. Works without a start, and twice."""
        self._inward.close()
        functions, self._functions = self._functions, None
        if functions is not None:
            await functions.close()
        serving, self._serving = self._serving, None
        if serving is not None:
            await serving.cleanup()
        while self._sockets:
            with contextlib.suppress(OSError):
                self._sockets.pop().close()


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

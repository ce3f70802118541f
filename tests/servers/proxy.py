"""A TCP proxy on loopback that hurts what goes through it: the network of a connector's fault tests.

    async with Proxy("127.0.0.1", server.port) as proxy:
        client.connect(proxy.host, proxy.port)
        proxy.stall()                  # accepts, forwards nothing; `proxy.flow()` lets go of what was held
        proxy.delay = 0.05             # seconds that each piece (at most 64 KB) waits, in its order
        await proxy.refuse()           # resets all connections, refuses new ones; `await proxy.accept()` ends that
        proxy.cut()                    # resets all connections, takes new ones
        proxy.truncate("down", 100)    # ends each connection after 100 more bytes from the server
        proxy.drop("up", 10)           # the next 10 bytes of each client vanish
        proxy.links[-1].cut()          # the same for one connection: cut, stall, flow, truncate, drop
        proxy.on_connect = lambda link: link.truncate("down", 10)   # from its first byte on

"up" is from the client to the server, "down" the way back.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Literal

Direction = Literal["up", "down"]
_PIECE = 65_536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, no time: closing sends RST and not FIN


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._ends = [client]  # and the server's, once it is connected
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._left: dict[Direction, int | None] = {"up": None, "down": None}  # bytes until it is truncated
        self._dropped: dict[Direction, int] = {"up": 0, "down": 0}  # bytes that are still to vanish
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}  # bytes so far

    def cut(self) -> None:
        """Both ends get a reset; what was under way is lost."""
        for writer in self._ends:
            if not writer.transport.is_closing():
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
        self._flowing.set()

    def stall(self) -> None:
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def truncate(self, direction: Direction, after: int) -> None:
        """The connection ends in the middle, as if it had been closed: both sides get all up to there."""
        self._left[direction] = after

    def drop(self, direction: Direction, count: int) -> None:
        self._dropped[direction] += count

    async def run(self, reader: asyncio.StreamReader, host: str, port: int) -> None:
        try:
            there, server = await asyncio.open_connection(host, port)
        except OSError:
            self.cut()  # nobody listens there: the client hears it as a reset
            return
        self._ends.append(server)
        pumps = [
            asyncio.create_task(self._pump("up", reader, server)),
            asyncio.create_task(self._pump("down", there, self._ends[0])),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for writer in self._ends:
                writer.close()
            for writer in self._ends:
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _pump(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Returns when this direction was closed, and raises when the connection is at its end."""
        while data := await reader.read(_PIECE):
            if self._proxy.delay:
                await asyncio.sleep(self._proxy.delay)
            await self._proxy.flowing.wait()
            await self._flowing.wait()
            vanishing = min(self._dropped[direction], len(data))
            self._dropped[direction] -= vanishing
            data = data[vanishing:]
            left = self._left[direction]
            if left is not None:
                data = data[:left]
                self._left[direction] = left - len(data)
            writer.write(data)
            await writer.drain()
            self.passed[direction] += len(data)
            if self._left[direction] == 0:
                raise ConnectionAbortedError("truncated")
        writer.write_eof()


class Proxy:
    """Its port stays the same for its whole life, `refuse` and `accept` included."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)  # may be changed: the server came up elsewhere
        self.host = "127.0.0.1"
        self.port = 0
        self.delay = 0.0
        self.on_connect: Callable[[Link], None] | None = None
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._links: dict[asyncio.Task[None], Link] = {}
        self._server: asyncio.Server | None = None

    @property
    def links(self) -> list[Link]:
        """The connections that are open, oldest first."""
        return list(self._links.values())

    async def __aenter__(self) -> Proxy:
        await self.accept()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.refuse()

    async def accept(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accepted, self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.cut()
        tasks = list(self._links)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if server is not None:
            await server.wait_closed()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self, writer)
        if self.on_connect is not None:
            self.on_connect(link)
        task = asyncio.get_running_loop().create_task(link.run(reader, *self.target))
        self._links[task] = link
        task.add_done_callback(lambda task: self._links.pop(task))

    def cut(self) -> None:
        for link in self.links:
            link.cut()

    def stall(self) -> None:
        """Nothing is forwarded, in both directions, of new connections neither; they are accepted."""
        self.flowing.clear()

    def flow(self) -> None:
        self.flowing.set()

    def truncate(self, direction: Direction, after: int) -> None:
        for link in self.links:
            link.truncate(direction, after)

    def drop(self, direction: Direction, count: int) -> None:
        for link in self.links:
            link.drop(direction, count)

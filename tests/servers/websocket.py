"""A WebSocket server of the tests' own, in the test's own loop. It remembers what it was told.

async with WebsocketServer() as server:
    client.connect(server.url)
    await server.connected(1)
    await server.send("hello")                          # to all that are connected
    await server.refuse()                               # connections break, new ones are refused
    await server.accept()                               # again on the same port
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping

from aiohttp import WSMsgType, web


class WebsocketServer:
    def __init__(self) -> None:
        self.received: list[str] = []  # texts, in order
        self.requests: list[web.Request] = []  # handshakes
        self.answer: tuple[int, Mapping[str, str]] | None = None  # what handshakes get instead of a WebSocket
        self.clients: list[web.WebSocketResponse] = []
        self.pongs = True  # whether pings are answered
        self.ponged: list[bytes] = []  # answers to ours
        self.port = 0
        self._runner: web.AppRunner | None = None
        self._changed = asyncio.Event()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/feed"

    async def __aenter__(self) -> WebsocketServer:
        await self.accept()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.refuse()

    async def accept(self) -> None:
        if self._runner is not None:
            return
        app = web.Application()
        app.router.add_get("/feed", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handle_signals=False)
        await self._runner.setup()
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        await web.SockSite(self._runner, listening).start()

    async def refuse(self) -> None:
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for request in self.requests:
            if request.transport is not None:
                request.transport.abort()  # without a goodbye
        await runner.cleanup()

    async def connected(self, count: int) -> None:
        """Returns once so many clients are connected."""
        async with asyncio.timeout(60):
            while len(self.clients) < count:
                self._changed.clear()
                await self._changed.wait()

    async def told(self, count: int) -> None:
        """Returns once so many texts were received."""
        async with asyncio.timeout(60):
            while len(self.received) < count:
                self._changed.clear()
                await self._changed.wait()

    async def send(self, message: str | bytes) -> None:
        for client in list(self.clients):
            with contextlib.suppress(ConnectionError):
                await (client.send_str(message) if isinstance(message, str) else client.send_bytes(message))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.answer is not None:
            status, headers = self.answer
            return web.Response(status=status, headers=headers)
        client = web.WebSocketResponse(autoping=False, protocols=("v2.feed",))
        await client.prepare(request)
        self.clients.append(client)
        self._changed.set()
        try:
            async for message in client:
                if message.type is WSMsgType.TEXT:
                    self.received.append(message.data)
                elif message.type is WSMsgType.PING and self.pongs:
                    await client.pong(message.data)
                elif message.type is WSMsgType.PONG:
                    self.ponged.append(message.data)
                self._changed.set()
        finally:
            self.clients.remove(client)
            self._changed.set()
        return client

"""A server of server-sent events of the tests' own, in the test's own loop. It keeps what it has sent.

async with SseServer() as server:
    client.connect(server.url)
    await server.connected(1)
    server.send("hello")                                # to all that are connected, with the next id
    server.write(b"retry: 10\n\n")                      # the bytes as they are, kept by nobody
    server.end()                                        # the answers are complete
    await server.refuse()                               # connections break, new ones are refused
    await server.accept()                               # again on the same port
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping

from aiohttp import web


class SseServer:
    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.answer: tuple[int, Mapping[str, str]] | None = None  # what requests get instead of events
        self.with_ids = True  # whether events have ids, and can be had again
        self.port = 0
        self._history: list[str] = []  # the id of each is its place, from 1 on
        self._clients: dict[asyncio.Queue[bytes | None], web.Request] = {}
        self._runner: web.AppRunner | None = None
        self._changed = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/events"

    async def __aenter__(self) -> SseServer:
        await self.accept()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.refuse()

    async def accept(self) -> None:
        if self._runner is not None:
            return
        app = web.Application()
        app.router.add_get("/events", self._serve)
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
        for client, request in self._clients.items():
            if request.transport is not None:
                request.transport.abort()
            client.put_nowait(None)
        await runner.cleanup()

    async def connected(self, count: int) -> None:
        """Returns once exactly so many clients are connected."""
        async with asyncio.timeout(60):
            while len(self._clients) != count:
                self._changed.clear()
                await self._changed.wait()

    def send(self, data: str) -> None:
        self._history.append(data)
        self.write(self._event(len(self._history)))

    def write(self, piece: bytes) -> None:
        for client in self._clients:
            client.put_nowait(piece)

    def end(self) -> None:
        for client in self._clients:
            client.put_nowait(None)

    def _event(self, number: int) -> bytes:
        lines = [f"data: {line}" for line in self._history[number - 1].split("\n")]
        if self.with_ids:
            lines.insert(0, f"id: {number}")
        return ("\n".join(lines) + "\n\n").encode()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.answer is not None:
            status, headers = self.answer
            return web.Response(status=status, headers=headers)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        if last := request.headers.get("Last-Event-ID"):
            for number in range(int(last) + 1, len(self._history) + 1):
                pieces.put_nowait(self._event(number))
        self._clients[pieces] = request
        await answer.prepare(request)
        self._changed.set()
        try:
            while (piece := await pieces.get()) is not None:
                await answer.write(piece)
        except ConnectionError:
            pass
        finally:
            del self._clients[pieces]
            self._changed.set()
        return answer

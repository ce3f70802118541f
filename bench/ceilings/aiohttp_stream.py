"""The usual way to stream: an aiohttp application on uvloop that writes chunks as a client takes them. No workers, no
isolation, no logs.

/stream?size=BYTES&count=PIECES
"""

from __future__ import annotations

import asyncio

import uvloop
from aiohttp import web


async def stream(request: web.Request) -> web.StreamResponse:
    piece, count = bytes(int(request.query["size"])), int(request.query["count"])
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    for _ in range(count):
        await response.write(piece)
    await response.write_eof()
    return response


async def main() -> None:
    app = web.Application()
    app.router.add_get("/stream", stream)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"listening {runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


uvloop.run(main())

"""The usual way: an aiohttp application on uvloop that answers by itself. No workers, no isolation, no logs.

/echo answers with the body and decodes nothing; /decoded reads its JSON and writes it anew, as a function's event and
answer are; /stream?size=BYTES&count=PIECES writes chunks as a client takes them.
"""

from __future__ import annotations

import asyncio
import json

import uvloop
from aiohttp import web


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read(), content_type="application/json")


async def decoded(request: web.Request) -> web.Response:
    return web.Response(body=json.dumps(json.loads(await request.read())).encode(), content_type="application/json")


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
    app = web.Application(client_max_size=16 * 1024**2)
    app.router.add_post("/echo", echo)
    app.router.add_post("/decoded", decoded)
    app.router.add_get("/stream", stream)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"listening {runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


uvloop.run(main())

"""The usual way: an aiohttp application on uvloop that answers with the body. No workers, no isolation, no logs."""

from __future__ import annotations

import asyncio

import uvloop
from aiohttp import web


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read(), content_type="application/json")


async def main() -> None:
    app = web.Application(client_max_size=16 * 1024**2)
    app.router.add_post("/echo", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"listening {runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


uvloop.run(main())

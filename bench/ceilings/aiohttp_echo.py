"""The usual way: an aiohttp application on uvloop that answers with the body. No workers, no isolation, no logs.

/echo decodes nothing; /decoded reads the JSON and writes it anew, as a function's event and answer are.
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


async def main() -> None:
    app = web.Application(client_max_size=16 * 1024**2)
    app.router.add_post("/echo", echo)
    app.router.add_post("/decoded", decoded)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"listening {runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


uvloop.run(main())

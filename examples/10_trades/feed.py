"""A feed to try it with: `python feed.py` serves on 127.0.0.1:8765, and says what trades cost to whoever subscribes."""

import asyncio
import json

from aiohttp import web

MESSAGES = [
    {"type": "hello"},
    {"type": "trade", "symbol": "LAMP", "price": 45.5},
    {"type": "trade", "symbol": "DESK", "price": 480},
    {"type": "trade", "symbol": "VOID", "price": 0},
]


async def feed(request: web.Request) -> web.WebSocketResponse:
    client = web.WebSocketResponse()
    await client.prepare(request)
    print("subscribed:", await client.receive_json(), flush=True)
    for message in MESSAGES:
        await client.send_str(json.dumps(message))
    async for _ in client:
        await asyncio.sleep(0)
    return client


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/feed", feed)
    web.run_app(app, host="127.0.0.1", port=8765)

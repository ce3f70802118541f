"""A WebSocket is a trigger as the contract has it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from eventfn.testing import TriggerSuite
from eventfn.units import Duration
from eventfn_websocket import WebsocketTrigger
from eventfn_websocket.settings import WebsocketSettings, WebsocketShared
from tests.servers.websocket import WebsocketServer


class TestWebsocketTrigger(TriggerSuite):
    trigger = WebsocketTrigger
    name = "websocket"
    nonsense = (
        {},
        {"url": "https://example.com"},
        {"url": "wss://h", "ping_interval": "0s"},
        {"url": "wss://h", "to": 1},
    )
    variables = {"FEED_TOKEN": "an open secret"}  # noqa: RUF012

    @pytest_asyncio.fixture(autouse=True)
    async def _server(self, host: None) -> AsyncIterator[None]:
        async with WebsocketServer() as self.server, WebsocketServer() as self.other:
            yield

    def settings(self) -> WebsocketSettings:
        # Pings are out of the way: the suite's clock runs a hundred times faster than the wire.
        return WebsocketSettings(url=self.server.url, ping_interval=Duration(3600))

    async def elsewhere(self) -> WebsocketSettings:
        return WebsocketSettings(url=self.other.url, ping_interval=Duration(3600))

    def shared(self) -> WebsocketShared:
        return WebsocketShared()

    async def put(self, number: int) -> None:
        await self.server.connected(1)
        await self.server.send(f'{{"number": {number}}}')

    async def refuse(self) -> None:
        await self.server.refuse()

    async def accept(self) -> None:
        await self.server.accept()

"""How the node is: GET /status (everything), GET /healthz (may it get work?), GET /metrics (for Prometheus)."""

from __future__ import annotations

from aiohttp import web

from eventfn.api.answers import json_answer
from eventfn.api.ports import Node
from eventfn.observe.exposition import CONTENT_TYPE, exposition


class StatusPages:
    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/status", self._status),
            web.get("/healthz", self._health),
            web.get("/metrics", self._metrics),
        ]

    async def _status(self, request: web.Request) -> web.Response:
        return json_answer(await self._node.status())

    async def _health(self, request: web.Request) -> web.Response:
        """503 while it drains: a load balancer goes elsewhere."""
        if self._node.draining:
            return json_answer({"status": "draining"}, status=503)
        return json_answer({"status": "ok"})

    async def _metrics(self, request: web.Request) -> web.Response:
        text = exposition(self._node.metrics, await self._node.status())
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

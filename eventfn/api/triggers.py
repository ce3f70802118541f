"""Triggers: switched off and on while the node runs."""

from __future__ import annotations

import msgspec
from aiohttp import web

from eventfn.api.answers import json_answer
from eventfn.api.errors import invalid_content
from eventfn.api.ports import Node


class SwitchRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`source` as the status document names it: "hello/kafka/1f3a"."""

    source: str
    enabled: bool


class Triggers:
    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        return [web.put("/triggers", self._switch)]

    async def _switch(self, request: web.Request) -> web.Response:
        try:
            wanted = msgspec.json.decode(await request.read(), type=SwitchRequest)
        except (msgspec.DecodeError, RecursionError) as error:
            raise invalid_content(f"Could not parse request body into json: {error}") from error
        await self._node.set_trigger_enabled(wanted.source, wanted.enabled)
        return json_answer(wanted)

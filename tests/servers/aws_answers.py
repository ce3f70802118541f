"""In front of a server that speaks AWS' JSON protocol: everything goes through, but for the answers that a test gives.

async with AwsAnswers(server.url) as aws:
    aws.refuse("GetRecords", "ExpiredIteratorException")      # the next one
    aws.answer("PutRecords", {"FailedRecordCount": 1, ...})
    aws.stand_in["GetRecords"] = lambda parameters: {...}     # from now on
    aws.asked("GetRecords")                                   # the parameters of all so far
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Self

import aiohttp
from aiohttp import web

_JSON = "application/x-amz-json-1.1"


class AwsAnswers:
    def __init__(self, url: str) -> None:
        self.stand_in: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}
        self._server = url
        self._answers: defaultdict[str, deque[web.Response]] = defaultdict(deque)
        self._asked: list[tuple[str, dict[str, Any]]] = []
        self.url = ""

    def refuse(self, operation: str, code: str, message: str = "", *, status: int = 400, times: int = 1) -> None:
        for _ in range(times):
            self.answer(operation, {"__type": code, "message": message}, status=status)

    def answer(self, operation: str, answer: dict[str, Any], *, status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self._answers[operation].append(web.Response(body=body, status=status, content_type=_JSON))

    def asked(self, operation: str) -> list[dict[str, Any]]:
        return [parameters for each, parameters in self._asked if each == operation]

    @property
    def unused(self) -> int:
        """Answers that nobody has asked for yet."""
        return sum(map(len, self._answers.values()))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        operation = request.headers["X-Amz-Target"].rpartition(".")[2]
        body = await request.read()
        parameters = json.loads(body)
        self._asked.append((operation, parameters))
        if self._answers[operation]:
            return self._answers[operation].popleft()
        if operation in self.stand_in:
            return web.Response(body=json.dumps(self.stand_in[operation](parameters)).encode(), content_type=_JSON)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        async with self._session.post(self._server, data=body, headers=headers) as answer:
            return web.Response(body=await answer.read(), status=answer.status, content_type=_JSON)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_post("/", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

"""The admin listener as aiohttp's test client takes it: on a socket, with the shortcut before aiohttp."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from aiohttp.test_utils import BaseTestServer
from aiohttp.web import BaseRunner
from yarl import URL

from eventfn.api.app import Serving, serving
from eventfn.api.operations import Resource
from tests.api.fake_node import FakeNode


class Listening(BaseTestServer):
    def __init__(
        self, node: FakeNode, token: str, *, loopback: bool = True, resources: Iterable[Resource] | None = None
    ) -> None:
        super().__init__()
        self._node = node
        self._token = token
        self._loopback = loopback
        self._resources = resources
        self._serving: Serving | None = None
        self.handed_over = 0  # connections, to aiohttp

    async def start_server(self, loop: Any = None, **kwargs: Any) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = listening.getsockname()
        self._root = URL(f"http://{self.host}:{self.port}")
        self._serving = await serving(
            self._node, self._token, [listening], loopback=self._loopback, resources=self._resources
        )
        shortcuts = self._serving.shortcuts
        assert shortcuts is not None
        made = shortcuts.aiohttp

        def counted() -> Any:
            self.handed_over += 1
            return made()

        shortcuts.aiohttp = counted

    async def close(self) -> None:
        found, self._serving = self._serving, None
        if found is not None:
            await found.cleanup()

    async def _make_runner(self, **kwargs: Any) -> BaseRunner:
        raise NotImplementedError

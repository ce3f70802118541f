"""The servers that stand for AWS, one of them running at a time, and how to reach it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from types import ModuleType
from typing import Any

from eventfn_aws.client import AwsSettings, Client
from tests.servers import elasticmq, ministack, moto
from tests.servers.needed import need
from tests.servers.process import HttpServer

REGION = "eu-west-1"
SERVERS: dict[str, ModuleType] = {"moto": moto, "ministack": ministack, "elasticmq": elasticmq}


def settings(url: str, **more: Any) -> AwsSettings:
    return AwsSettings(endpoint_url=url, region=REGION, access_key_id="test", secret_access_key="secret", **more)


@contextlib.asynccontextmanager
async def client(service: str, url: str, region: str = REGION) -> AsyncGenerator[Client]:
    client = Client(service, settings(url), region=region)
    await client.open()
    try:
        yield client
    finally:
        await client.close()


class Servers:
    """`get("moto")` starts it if it is not the one that runs, and ends the one that does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: tuple[str, HttpServer] | None = None

    def get(self, name: str) -> HttpServer:
        if self._running is not None and self._running[0] == name:
            return self._running[1]
        self.close()
        need(SERVERS[name].missing())
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        server: HttpServer = SERVERS[name].server(folder)
        server.start()
        self._running = name, server
        return server

    def close(self) -> None:
        if self._running is not None:
            self._running[1].kill()
            self._running = None

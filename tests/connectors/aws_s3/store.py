"""A store that posts its notifications, as MinIO does: each again and again until it is answered with 200."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import aiohttp

from tests.connectors.aws_s3.test_shape import MINIO, changed

_AT_ONCE = 4
_PAUSE = 0.02  # seconds until a notification is posted again


class Store:
    def __init__(self, url: str, http: aiohttp.ClientSession, token: str | None) -> None:
        self.answers: list[int] = []
        self._url = url
        self._http = http
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._waiting: deque[dict[str, Any]] = deque()
        self._arrived = asyncio.Semaphore(0)

    def put(self, key: str) -> None:
        self._waiting.append(notification(key))
        self._arrived.release()

    async def post(self) -> None:
        """For as long as it is there."""
        while True:
            await self._arrived.acquire()
            told = self._waiting.popleft()
            while not await self._is_taken(told):
                await asyncio.sleep(_PAUSE)

    async def _is_taken(self, told: dict[str, Any]) -> bool:
        try:
            async with self._http.post(self._url, json=told, headers=self._headers) as answer:
                self.answers.append(answer.status)
                return answer.status == 200
        except aiohttp.ClientError:
            return False


@contextlib.asynccontextmanager
async def store(url: str, token: str | None = None) -> AsyncGenerator[Store]:
    async with aiohttp.ClientSession() as http:
        store = Store(url, http, token)
        posting = [asyncio.create_task(store.post()) for _ in range(_AT_ONCE)]
        try:
            yield store
        finally:
            for each in posting:
                each.cancel()
            await asyncio.gather(*posting, return_exceptions=True)


def notification(*keys: str) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    written = [
        changed(MINIO, "s3:ObjectCreated:Put", key=key.replace("/", "%2F"), sequencer=key) | {"eventTime": now}
        for key in keys
    ]
    return {"EventName": "s3:ObjectCreated:Put", "Key": f"photos/{keys[0]}", "Records": written}

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from eventfn.api.app import application
from tests.api.fake_node import TOKEN, FakeNode


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
async def client(node: FakeNode) -> AsyncIterator[TestClient[Any, Any]]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with TestClient(TestServer(application(node, TOKEN)), headers=headers) as client:
        yield client

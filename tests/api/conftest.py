from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import uvloop
from aiohttp.test_utils import TestClient

from tests.api.fake_node import TOKEN, FakeNode
from tests.api.lab import Lab, running_lab
from tests.api.listening import Listening


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What writes to connections itself is tried on both kinds of loop: a node runs on uvloop."""
    kinds: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.SelectorEventLoop}
    if item.path.name == "test_shortcut.py":
        kinds["uvloop"] = uvloop.new_event_loop
    return kinds


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
async def client(node: FakeNode) -> AsyncIterator[TestClient[Any, Any]]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with TestClient[Any, Any](Listening(node, TOKEN), headers=headers) as client:
        yield client


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab

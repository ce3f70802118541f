"""A thousand functions in one registry: made, listed in pages, there again after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_functions import Client, says
from tests.support import RunningNode, running_node, until, write_project

FUNCTIONS = 1000
CALLERS = 8


async def names(client: Client) -> list[str]:
    found: list[str] = []
    marker: dict[str, Any] = {}
    while True:
        answer = await client("list_functions", **marker)
        found += [each["FunctionName"] for each in answer["Functions"]]
        assert len(answer["Functions"]) <= 50
        if "NextMarker" not in answer:
            return found
        marker = {"Marker": answer["NextMarker"]}


@pytest.mark.timeout(300)
async def test_a_thousand_functions(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", "")
    expected = sorted(f"function-{number}" for number in range(FUNCTIONS))
    async with running_node(project, tmp_path / "data") as node:
        client = Client(node)

        async def create(first: int) -> None:
            for number in range(first, FUNCTIONS, CALLERS):
                await client.create(f"function-{number}", says(str(number)), wait=False)

        await asyncio.gather(*(create(first) for first in range(CALLERS)))
        assert await names(client) == expected
        await until(lambda: all_active(node), "all of them are ready")
        assert await client.invoke("function-500") == "500"
    async with running_node(project, tmp_path / "data") as node:
        client = Client(node)
        assert await names(client) == expected
        assert await all_active(node)
        assert [await client.invoke(f"function-{number}") for number in (0, 123, 999)] == ["0", "123", "999"]


async def all_active(node: RunningNode) -> bool:
    functions = (await node.json("GET", "/status"))["functions"]
    return len(functions) == FUNCTIONS and all(function["state"] == "Active" for function in functions)

"""kill -9 in the middle of what the API changes: the registry is in the state before or after, never between."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError

from tests.api.test_functions import Client, says
from tests.support import RunningNode, write_project

ROUNDS = 3


def sha256(archive: bytes) -> str:
    return base64.b64encode(hashlib.sha256(archive).digest()).decode()


def code(number: int) -> bytes:
    return says(f"code {number}")


class Changing:
    """One change after the other until the node is gone; each sets the code and publishes it, in one request."""

    def __init__(self, number: int) -> None:
        self.answered = number
        self.asked = number

    async def run(self, client: Client) -> None:
        while True:
            self.asked = self.answered + 1
            try:
                await client("update_function_code", FunctionName="f", ZipFile=code(self.asked), Publish=True)
            except client.plain.exceptions.ResourceConflictException:
                continue  # the one before is being made ready
            self.answered = self.asked


@pytest.mark.timeout(240)
async def test_a_change_that_was_answered_is_there_and_one_that_was_not_is_whole_or_not_there(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project", "")
    node = RunningNode(folder, tmp_path / "data")
    try:
        await node.start()
        await Client(node).create("f", code(0), Publish=True)
        number = 0
        for _ in range(ROUNDS):
            changing = Changing(number)
            running = asyncio.create_task(changing.run(Client(node)))
            while changing.answered < number + 3:
                assert not running.done(), running
                await asyncio.sleep(0.001)
            await node.kill()
            with contextlib.suppress(BotoCoreError):
                await running
            node = RunningNode(folder, tmp_path / "data")
            await node.start()
            number = await coherent(Client(node), {changing.answered, changing.asked})
    finally:
        if node.process.poll() is None:
            node.process.kill()
        await node.ended()


async def coherent(client: Client, possible: set[int]) -> int:
    """What it is now, which is one of `possible`, in every respect."""
    for waiter in ("function_active_v2", "function_updated_v2"):  # what was cut off goes on by itself
        await client.wait(waiter, FunctionName="f")
    found: Any = await client("get_function_configuration", FunctionName="f")
    number = next(number for number in possible if sha256(code(number)) == found["CodeSha256"])
    versions = (await client("list_versions_by_function", FunctionName="f", MaxItems=10_000))["Versions"]
    # Version 1 holds code 0, and each change has published the next: none is missing, none is there twice.
    assert [(each["Version"], each["CodeSha256"]) for each in versions[1:]] == [
        (str(n + 1), sha256(code(n))) for n in range(number + 1)
    ]
    await client.wait("published_version_active", FunctionName="f", Qualifier=str(number + 1))
    assert await client.invoke("f") == f"code {number}"
    assert await client.invoke(f"f:{number + 1}") == f"code {number}"
    return number


async def test_a_function_is_created_or_not_and_deleted_or_not(tmp_path: Path) -> None:
    """Several at once, so that the kill hits some in every stage of their making."""
    folder = write_project(tmp_path / "project", "")
    node = RunningNode(folder, tmp_path / "data")
    created: set[str] = set()
    deleted: set[str] = set()

    async def create_and_delete(client: Client, first: int) -> None:
        for n in range(first, 10_000, 4):
            name = f"f{n}"
            await client.create(name, code(n), wait=False)
            created.add(name)
            if n % 3 == 0:
                await client("delete_function", FunctionName=name)
                deleted.add(name)

    try:
        await node.start()
        client = Client(node)
        running = [asyncio.create_task(create_and_delete(client, first)) for first in range(4)]
        while len(created) < 20:
            assert not any(task.done() for task in running)
            await asyncio.sleep(0.001)
        await node.kill()
        ended = await asyncio.gather(*running, return_exceptions=True)
        assert all(isinstance(error, BotoCoreError) for error in ended), ended
        node = RunningNode(folder, tmp_path / "data")
        await node.start()
        client = Client(node)
        listed = {each["FunctionName"] for each in (await client("list_functions", MaxItems=1000))["Functions"]}
        # What was asked for and not answered: for each of the four at most one creation and one deletion.
        assert created - deleted - listed <= {name for name in created if int(name[1:]) % 3 == 0}
        assert len(created - deleted - listed) <= 4
        assert not deleted & listed
        assert len(listed - created) <= 4
        for name in sorted(listed)[:8]:
            await client.wait("function_active_v2", FunctionName=name)
            assert await client.invoke(name) == f"code {name[1:]}"
    finally:
        if node.process.poll() is None:
            node.process.kill()
        await node.ended()

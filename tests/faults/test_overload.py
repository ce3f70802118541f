"""More callers than there is room for: each gets an answer or a 429, none waits in vain, and the node is well after."""

from __future__ import annotations

import asyncio
import collections
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support import running_node, until, write_project

REQUESTS = 10_000
CONNECTIONS = 2_000
CONCURRENCY = 100  # of the node: far below what comes

# A client of 2,000 connections, on the processor that it shares with the node, may take ten seconds from opening one to
# its first byte: that it is too slow for a node is no matter of this test.
PROJECT = f"""
    [limits]
    concurrency = {CONCURRENCY}

    [http]
    header_timeout = "100s"

    [functions.quick]
    handler = "work.quick"

    [[functions.quick.triggers]]
    type = "http"
    method = "POST"
    path = "/quick"

    [functions.slow]
    handler = "work.slow"
    file_system_configs = [{{ path = "shared" }}]
    environment = {{ SHARED = "${{EVENTFN_FOLDER}}/shared" }}
    reserved_concurrency = 1
    timeout = 60

    [[functions.slow.triggers]]
    type = "http"
    path = "/slow"
"""

WORK = """
    import json, os, pathlib, time

    def shared(name):
        return pathlib.Path(os.environ["SHARED"], name)

    def quick(event, context):
        return {"number": json.loads(event["body"])}

    def slow(event, context):
        shared("running").touch()
        while not shared("go").exists():
            time.sleep(0.01)
        return "late"
"""


@pytest.fixture
def many_files() -> Iterator[None]:
    """Descriptors for this side's connections; the node inherits it for its own."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * CONNECTIONS + 1000
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], needed), max(before[1], needed)))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_files")
async def test_ten_thousand_at_once_get_answers_or_429s(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project", PROJECT, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:
        timeout = aiohttp.ClientTimeout(total=100)
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

            async def call(number: int) -> int:
                async with session.post(f"{node.http}/quick", data=str(number)) as answer:
                    body = await answer.read()
                    if answer.status == 200:
                        assert json.loads(body) == {"number": number}, "everybody gets his own answer"
                    elif answer.status == 429:
                        assert int(answer.headers["Retry-After"]) >= 1
                        assert json.loads(body) == {"message": "Too Many Requests"}
                    return answer.status

            statuses = collections.Counter(await asyncio.gather(*(call(number) for number in range(REQUESTS))))
        print(f"\n{REQUESTS} requests over {CONNECTIONS} connections: {dict(statuses)}")
        assert set(statuses) <= {200, 429}
        assert statuses[200] >= CONCURRENCY

        function = await node.function("quick")
        assert function["counts"]["invocations"] == statuses[200]
        assert function["counts"]["throttles"] == statuses[429]
        assert function["counts"]["errors"] == 0
        assert function["counts"]["system_errors"] == 0
        assert function["environments"]["in_flight"] == 0
        assert function["environments"]["waiting"] == 0
        assert function["environments"]["total"] <= CONCURRENCY
        assert await node.fetch("POST", "/quick", data="1") == (200, b'{"number":1}')
        assert "Traceback" not in node.output()


async def test_a_function_at_its_own_limit_refuses_and_others_do_not(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project", PROJECT, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:
        first = asyncio.create_task(node.fetch("GET", "/slow"))
        await until((folder / "shared" / "running").exists, "the first request runs")
        assert await node.fetch("GET", "/slow") == (429, b'{"message":"Too Many Requests"}')
        assert (await node.fetch("POST", "/quick", data="2"))[0] == 200
        (folder / "shared" / "go").touch()
        assert await first == (200, b"late")
        assert await node.fetch("GET", "/slow") == (200, b"late")

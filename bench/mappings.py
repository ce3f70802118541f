"""What does a source cost that has nothing to do? Memory and threads of a node with 500 of them, all of which work.

500 triggers of one function, of the node's own queues and of Redis streams (a connection each), beside a node with one.
Then one message goes into each, and all of them have to be handled.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from bench import running
from bench.processes import pss_mb, quiet
from bench.rounds import Plan
from bench.table import OURS, Row, rows
from tests.servers import redis as redis_server

MANY = 500
_HANDLER = "def handler(event, context): return None\n"

Put = Callable[[running.Node, int], Awaitable[None]]


async def measure(plan: Plan) -> list[Row]:
    """Once: memory is the same in each round."""
    found = await _kind("queue", "", lambda number: f'type = "queue"\nqueue = "q{number}"', _into_queue)
    if redis_server.missing() is None:
        with (
            tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder,
            redis_server.RedisServer(Path(folder)) as it,
        ):
            url = f"redis://{it.host}:{it.port}"
            async with _redis_client(url) as client:

                async def into_stream(node: running.Node, number: int) -> None:
                    await client.xadd(f"s{number}", {"body": "x"})

                shared = f'[redis]\nurl = "{url}"'
                found += await _kind(
                    "redis", shared, lambda number: f'type = "redis"\nstream = "s{number}"\ngroup = "g"', into_stream
                )
    return found


async def _kind(name: str, shared: str, trigger: Callable[[int], str], put: Put) -> list[Row]:
    async with _node(1, shared, trigger) as node:
        await quiet(node.pid)
        one, threads_of_one = pss_mb(node.pid), _threads(node.pid)
    async with _node(MANY, shared, trigger) as node:
        await quiet(node.pid)
        many, threads_of_many = pss_mb(node.pid), _threads(node.pid)
        for number in range(MANY):
            await put(node, number)
        async with asyncio.timeout(running.PATIENCE):
            while await _done(node) < MANY:
                await asyncio.sleep(0.05)
    memory = {OURS: (many - one) / (MANY - 1) * 1024, "a node with one": one * 1024}
    threads = {OURS: float(threads_of_many), "a node with one": float(threads_of_one)}
    return [
        *rows(f"{MANY} idle sources, {name}: memory of each", "KB", "less", memory),
        *rows(f"{MANY} idle sources, {name}", "threads", "less", threads),
    ]


@contextlib.asynccontextmanager
async def _node(count: int, shared: str, trigger: Callable[[int], str]) -> AsyncIterator[running.Node]:
    with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder:
        project = Path(folder)
        project.chmod(0o755)
        (project / "many.py").write_text(_HANDLER)
        triggers = "\n".join(f"[[functions.many.triggers]]\n{trigger(number)}" for number in range(count))
        (project / "eventfn.toml").write_text(
            f'[functions.many]\nhandler = "many.handler"\nmemory_size = 1769\n{triggers}\n{shared}\n'
        )
        async with running.node(project) as node:
            yield node


async def _into_queue(node: running.Node, number: int) -> None:
    await node.send(f"q{number}", "x")


async def _done(node: running.Node) -> int:
    return sum(trigger.records.done for trigger in (await node.function("many")).triggers if trigger.records)


def _threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@contextlib.asynccontextmanager
async def _redis_client(url: str) -> AsyncIterator[Any]:
    from redis.asyncio import Redis

    client: Any = Redis.from_url(url)
    try:
        yield client
    finally:
        await client.aclose()

"""How many messages a second does a function work off an SQS queue? The server is to be the limit, not eventfn.

The queue is full before anything starts. Beside bare loops on the same server (ElasticMQ): receive ten, delete ten, by
as many loops as there are batches in flight.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import itertools
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench import running
from bench.rounds import Plan, interleaved, medians
from bench.table import OURS, Row, rows
from tests.servers import elasticmq

WHAT = "SQS, batches of 10"
BATCH = 10
IN_FLIGHT = 5
PER_SECOND = 2_000  # messages put there for each second to measure
BODY = '{"text":"' + "x" * 89 + '"}'  # 100 bytes

_HANDLER = "def handler(event, context): return None\n"
_queues = (f"queue-{number}" for number in itertools.count())


async def measure(plan: Plan) -> list[Row]:
    if why := elasticmq.missing():
        print(f"sqs: not measured, since there is no server: {why}", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder, elasticmq.server(Path(folder)) as server:
        count = plan.count(PER_SECOND)
        measures: dict[str, Callable[[], Awaitable[float]]] = {
            OURS: functools.partial(_node, server.url, count, plan.seconds),
            "bare receive and delete": functools.partial(_bare, server.url, count),
        }
        return rows(WHAT, "messages/s", "more", medians(await interleaved(measures, plan.rounds)))


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[Any]:
    library: Any = importlib.import_module("aiobotocore.session")
    async with library.get_session().create_client(
        "sqs", region_name="us-east-1", endpoint_url=url, aws_access_key_id="x", aws_secret_access_key="x"
    ) as client:
        yield client


async def _full(client: Any, count: int) -> str:
    """The URL of a new queue with so many messages."""
    url: str = (await client.create_queue(QueueName=next(_queues)))["QueueUrl"]
    entries = [{"Id": str(number), "MessageBody": BODY} for number in range(BATCH)]
    for _ in range(-(-count // BATCH)):
        await client.send_message_batch(QueueUrl=url, Entries=entries)
    return url


async def _bare(server: str, count: int) -> float:
    async with _client(server) as client:
        queue = await _full(client, count)
        done = 0

        async def loop() -> None:
            nonlocal done
            while messages := (await client.receive_message(QueueUrl=queue, MaxNumberOfMessages=BATCH)).get("Messages"):
                entries = [{"Id": str(at), "ReceiptHandle": each["ReceiptHandle"]} for at, each in enumerate(messages)]
                await client.delete_message_batch(QueueUrl=queue, Entries=entries)
                done += len(messages)

        began = time.perf_counter()
        await asyncio.gather(*(loop() for _ in range(IN_FLIGHT)))
        return done / (time.perf_counter() - began)


async def _node(server: str, count: int, seconds: float) -> float:
    """Between two looks, both while there is work: neither the start nor an empty queue counts."""
    async with _client(server) as client:
        queue = await _full(client, count)
    with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder:
        project = Path(folder) / "project"
        project.mkdir()
        (project / "work.py").write_text(_HANDLER)
        (project / "eventfn.toml").write_text(
            f'[functions.work]\nhandler = "work.handler"\nmemory_size = 1769\n'
            f'[[functions.work.triggers]]\ntype = "sqs"\nqueue = "{queue}"\n'
            f"batch_size = {BATCH}\nmaximum_concurrency = {IN_FLIGHT}\n"
            f'[sqs]\nregion = "us-east-1"\nendpoint_url = "{server}"\naccess_key_id = "x"\nsecret_access_key = "x"\n'
        )
        async with running.node(project) as node:
            while not (first := await _done(node)):
                await asyncio.sleep(0.01)
            last, began = first, time.perf_counter()
            ended = began
            while last < count // 2 and ended - began < 20 * seconds:
                await asyncio.sleep(0.1)  # an answer costs the node as much as two messages
                last, ended = await _done(node), time.perf_counter()
        return (last - first) / (ended - began)


async def _done(node: running.Node) -> int:
    (trigger,) = (await node.function("work")).triggers
    return trigger.records.done if trigger.records else 0

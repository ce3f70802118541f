"""How many records a second does a function work off a Kafka topic, in batches of 500?

The topic is full before anything starts. Beside a bare aiokafka loop on the same broker: getmany of at most 500, and a
commit of what it got, once. Twice: with the broker as it comes, which gathers commits for some milliseconds before it
answers, and with one that answers each at once.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench import running
from bench.rounds import Plan, interleaved, medians
from bench.table import OURS, Row, rows
from eventfn_kafka.library import aiokafka
from tests.servers.kafka import make_topic, missing, running_kafka

BROKERS: dict[str, dict[str, str]] = {
    "Kafka, batches of 500": {},
    "Kafka, batches of 500, commits answered at once": {"group.coordinator.append.linger.ms": "0"},
}
BATCH = 500
PARTITIONS = 4
PER_SECOND = 100_000  # records put there for each second to measure
TOPIC = "orders"
KEYS = 100
VALUE = b'{"order":%07d,"total":12.5,"status":"paid","note":"' + b"x" * 45 + b'"}'  # 100 bytes

_HANDLER = """
def handler(event, context):
    pass
"""

_groups = (f"group-{number}" for number in itertools.count())


async def measure(plan: Plan) -> list[Row]:
    found: list[Row] = []
    if why := missing():
        print(f"kafka: not measured, since there is no broker: {why}", file=sys.stderr)
        return found
    for what, settings in BROKERS.items():
        with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder:
            async with running_kafka(Path(folder) / "kafka", settings=settings) as kafka:
                (server,) = kafka.bootstrap
                count = plan.count(PER_SECOND)
                await _fill(server, count)
                measures: dict[str, Callable[[], Awaitable[float]]] = {
                    OURS: functools.partial(_node, server, count, plan.seconds),
                    "bare getmany and commit": functools.partial(_bare, server, count),
                }
                found += rows(what, "records/s", "more", medians(await interleaved(measures, plan.rounds)))
    return found


async def _fill(server: str, count: int) -> None:
    await make_topic(server, TOPIC, PARTITIONS)
    producer: Any = aiokafka.AIOKafkaProducer(bootstrap_servers=server, linger_ms=5, max_batch_size=65_536)
    await producer.start()
    for number in range(count):
        await producer.send(TOPIC, VALUE % number, key=b"key-%d" % (number % KEYS))
    await producer.stop()


async def _bare(server: str, count: int) -> float:
    consumer: Any = aiokafka.AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=server,
        group_id=next(_groups),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        got, began = 0, time.perf_counter()
        while got < count:
            batches = await consumer.getmany(timeout_ms=1000, max_records=BATCH)
            got += sum(map(len, batches.values()))
            await consumer.commit()
        return got / (time.perf_counter() - began)
    finally:
        await consumer.stop()


async def _node(server: str, count: int, seconds: float) -> float:
    """Between two looks, both while there is work: neither the start nor an empty topic counts."""
    with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder:
        project = Path(folder) / "project"
        project.mkdir()
        (project / "work.py").write_text(_HANDLER)
        (project / "eventfn.toml").write_text(
            f'[functions.work]\nhandler = "work.handler"\nmemory_size = 1769\n'
            f'[[functions.work.triggers]]\ntype = "kafka"\ntopics = ["{TOPIC}"]\ngroup_id = "{next(_groups)}"\n'
            f'batch_size = {BATCH}\nstarting_position = "TRIM_HORIZON"\n'
            f'[kafka]\nbootstrap_servers = ["{server}"]\n'
        )
        async with running.node(project) as node:
            while not (first := await _done(node)):
                await asyncio.sleep(0.01)
            last, began = first, time.perf_counter()
            ended = began
            while last < count and ended - began < seconds:
                await asyncio.sleep(0.05)
                last, ended = await _done(node), time.perf_counter()
        return (last - first) / (ended - began)


async def _done(node: running.Node) -> int:
    (trigger,) = (await node.function("work")).triggers
    return trigger.records.done if trigger.records else 0

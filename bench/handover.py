"""How long is it from a put until the handler starts, on an idle system? Of the sources that are pushed or wait.

One message at a time, with a pause, so that nothing waits for another. Beside the same wait by a bare client of the
same server: no host, no function, no process to wake. The handler writes down what the clock says when it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from bench import running
from bench.rounds import Plan, interleaved
from bench.table import OURS, Row, rows
from tests.servers import kafka as kafka_server
from tests.servers import nats as nats_server
from tests.servers import redis as redis_server

PER_SECOND = 40  # messages, one after the other
PAUSE = 0.02

Put = Callable[[bytes], Awaitable[None]]
Handover = Callable[[int], Awaitable[list[float]]]  # so many messages -> ms of each

_HANDLER = """
import json, time

def handler(event, context):
    now = time.time_ns()
    with open("/mnt/stamps/ms", "a") as stamps:
        for record in event["Records"]:
            stamps.write(f"{(now - int(record.get('body') or record['value'])) / 1e6}\\n")
"""


async def measure(plan: Plan) -> list[Row]:
    found: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder:
        sources: list[tuple[str, Callable[[], contextlib.AbstractAsyncContextManager[tuple[Handover, Handover]]]]] = [
            ("queue", _queue)
        ]
        if redis_server.missing() is None:
            sources.append(("redis", lambda: _redis(Path(folder))))
        if nats_server.missing() is None:
            sources.append(("nats", lambda: _nats(Path(folder))))
        if kafka_server.missing() is None:
            sources.append(("kafka", lambda: _kafka(Path(folder))))
        for name, source in sources:
            async with source() as (ours, bare):
                await ours(5)  # the first one starts an environment
                measures = {
                    OURS: functools.partial(ours, plan.count(PER_SECOND)),
                    "bare client": functools.partial(bare, plan.count(PER_SECOND)),
                }
                measured = await interleaved(measures, plan.rounds)
            figures = {
                what: statistics.median(ms for each in rounds for ms in each) for what, rounds in measured.items()
            }
            found += rows(f"put to handler start, {name}, p50", "ms", "less", figures)
    return found


# --- a node whose handler writes down when it starts ------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _node(trigger: str, more: str = "") -> AsyncIterator[tuple[running.Node, Path]]:
    with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder:
        project, stamps = Path(folder) / "project", Path(folder) / "stamps"
        project.mkdir()
        stamps.mkdir()
        stamps.chmod(0o777)
        Path(folder).chmod(0o755)
        (project / "stamp.py").write_text(_HANDLER)
        (project / "eventfn.toml").write_text(
            f'[functions.stamp]\nhandler = "stamp.handler"\nmemory_size = 1769\n'
            f'file_system_configs = [{{ path = "{stamps}", local_mount_path = "/mnt/stamps" }}]\n'
            f"[[functions.stamp.triggers]]\n{trigger}\n{more}\n"
        )
        async with running.node(project) as node:
            yield node, stamps / "ms"


def _through(put: Put, stamps: Path) -> Handover:
    async def handed_over(count: int) -> list[float]:
        before = _stamps(stamps)
        for number in range(1, count + 1):
            await put(str(time.time_ns()).encode())
            async with asyncio.timeout(running.PATIENCE):
                while len(_stamps(stamps)) < len(before) + number:
                    await asyncio.sleep(0.002)
            await asyncio.sleep(PAUSE)
        return _stamps(stamps)[len(before) :]

    return handed_over


def _stamps(file: Path) -> list[float]:
    return [float(line) for line in file.read_text().splitlines()] if file.exists() else []


async def _bare(put: Put, wait: Callable[[], Awaitable[bytes]], count: int) -> list[float]:
    """The same, with nothing behind the client."""
    found: list[float] = []
    for _ in range(count):
        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(PAUSE)
        await put(str(time.time_ns()).encode())
        body = await waiting
        found.append((time.time_ns() - int(body)) / 1e6)
    return found


# --- sources ----------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _queue() -> AsyncIterator[tuple[Handover, Handover]]:
    """Beside a send that nobody reads: it is the commit, and the HTTP request around it."""
    async with _node('type = "queue"\nqueue = "stamps"', "[queues.nobody]") as (node, stamps):

        async def put(body: bytes, queue: str = "stamps") -> None:
            await node.send(queue, body.decode())

        async def bare(count: int) -> list[float]:
            found: list[float] = []
            for _ in range(count):
                began = time.perf_counter()
                await put(b"1", "nobody")
                found.append((time.perf_counter() - began) * 1000)
                await asyncio.sleep(PAUSE)
            return found

        yield _through(put, stamps), bare


@contextlib.asynccontextmanager
async def _redis(folder: Path) -> AsyncIterator[tuple[Handover, Handover]]:
    from redis.asyncio import Redis

    (folder / "redis").mkdir()
    with redis_server.RedisServer(folder / "redis") as server:
        client: Any = Redis(host=server.host, port=server.port)
        await client.xgroup_create("bare", "bench", mkstream=True)
        trigger = 'type = "redis"\nstream = "stamps"\ngroup = "bench"'
        async with _node(trigger, f'[redis]\nurl = "redis://{server.host}:{server.port}"') as (_, stamps):

            async def put(body: bytes, stream: str = "stamps") -> None:
                await client.xadd(stream, {"body": body})

            async def wait() -> bytes:
                ((_, ((entry, fields),)),) = await client.xreadgroup(
                    "bench", "me", {"bare": ">"}, count=1, block=60_000
                )
                await client.xack("bare", "bench", entry)
                body: bytes = fields[b"body"]
                return body

            yield _through(put, stamps), lambda count: _bare(lambda body: put(body, "bare"), wait, count)
        await client.aclose()


@contextlib.asynccontextmanager
async def _nats(folder: Path) -> AsyncIterator[tuple[Handover, Handover]]:
    import nats

    (folder / "nats").mkdir()
    with nats_server.NatsServer(folder / "nats") as server:
        connect: Any = nats.connect
        client = await connect(f"nats://{server.host}:{server.port}")
        jetstream: Any = client.jetstream()
        await jetstream.add_stream(name="BENCH", subjects=["stamps", "bare"])
        subscription = await jetstream.pull_subscribe("bare", durable="bare")
        trigger = 'type = "nats"\nstream = "BENCH"\nsubject = "stamps"\nconsumer = "stamps"'
        async with _node(trigger, f'[nats]\nservers = ["nats://{server.host}:{server.port}"]') as (_, stamps):

            async def put(body: bytes, subject: str = "stamps") -> None:
                await jetstream.publish(subject, body)

            async def wait() -> bytes:
                (message,) = await subscription.fetch(1, timeout=60)
                await message.ack()
                body: bytes = message.data
                return body

            yield _through(put, stamps), lambda count: _bare(lambda body: put(body, "bare"), wait, count)
        await client.close()


@contextlib.asynccontextmanager
async def _kafka(folder: Path) -> AsyncIterator[tuple[Handover, Handover]]:
    from eventfn_kafka.library import aiokafka

    async with kafka_server.running_kafka(folder / "kafka") as kafka:
        (server,) = kafka.bootstrap
        for topic in ("stamps", "bare"):
            await kafka_server.make_topic(server, topic)
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=server)
        consumer = aiokafka.AIOKafkaConsumer(
            "bare", bootstrap_servers=server, group_id="bare", enable_auto_commit=False
        )
        await producer.start()
        await consumer.start()
        trigger = (
            'type = "kafka"\ntopics = ["stamps"]\nevent_format = "plain"\n'
            'starting_position = "TRIM_HORIZON"\nmaximum_batching_window = 0'
        )
        async with _node(trigger, f'[kafka]\nbootstrap_servers = ["{server}"]') as (_, stamps):

            async def put(body: bytes, topic: str = "stamps") -> None:
                await producer.send_and_wait(topic, body)

            async def wait() -> bytes:
                body: bytes = (await consumer.getone()).value
                return body

            yield _through(put, stamps), lambda count: _bare(lambda body: put(body, "bare"), wait, count)
        await consumer.stop()
        await producer.stop()

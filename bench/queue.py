"""How many messages of a durable queue does a function work off, in batches of 10 and of 100?

The queue is full before the node starts, and two batches are in flight. Beside Redis streams with two consumers that
settle each batch, and beside the engine alone: the same claims and completions by two loops, nothing done in between.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench import engine, redis, running
from bench.rounds import Plan, interleaved, medians
from bench.table import OURS, Row, rows
from eventfn.engine.contract import Complete

QUEUES = {"tens": 10, "hundreds": 100}
PER_SECOND = 50_000  # messages put there for each second to measure ...
LEAST = 50_000  # ... and at least: a start is long enough for ten thousand
CONSUMERS = 2
LEASE_MS = 30_000


async def measure(plan: Plan) -> list[Row]:
    found: list[Row] = []
    for name, size in QUEUES.items():
        count = max(plan.count(PER_SECOND), LEAST)
        measures: dict[str, Callable[[], Awaitable[float]]] = {
            OURS: functools.partial(_node, name, count, plan.seconds),
            "engine alone": functools.partial(_engine, name, size, count),
        }
        if redis.there():
            for appendfsync in redis.APPENDFSYNC:
                measures[redis.name(appendfsync)] = functools.partial(_redis, appendfsync, size, count)
        rates = medians(await interleaved(measures, plan.rounds))
        what = f"queue, batches of {size}"
        found += rows(what, "messages/s", "more", rates)
        if not redis.there():
            found.append(redis.not_measured(what, "messages/s", rates[OURS]))
    return found


async def _node(queue: str, count: int, seconds: float) -> float:
    """Between two looks, both while there is work: neither the start nor an empty queue counts."""

    async def full(data: Path) -> None:
        async with engine.opened(data) as store:
            await engine.fill(store, f"q/{queue}", count)

    async with running.node(before=full) as node:
        first, began = await _done(node, queue), time.perf_counter()
        last, ended = first, began
        while last < count and ended - began < seconds:
            await asyncio.sleep(0.05)
            last, ended = await _done(node, queue), time.perf_counter()
    return (last - first) / (ended - began)


async def _done(node: running.Node, queue: str) -> int:
    (trigger,) = (await node.function(queue)).triggers
    return trigger.records.done if trigger.records else 0


async def _redis(appendfsync: str, size: int, count: int) -> float:
    # With an fsync for each batch that is read and each that is settled, a tenth takes as long.
    return (await redis.rates(appendfsync, "work", count // 10 if appendfsync == "always" else count, size)).settled


async def _engine(queue: str, size: int, count: int) -> float:
    async with engine.opened() as store:
        await engine.fill(store, queue, count)

        async def consume() -> None:
            while messages := await store.claim(queue, size, engine.now_ms() + LEASE_MS, engine.now_ms()):
                await store.commit([Complete(message.claim) for message in messages], engine.now_ms())

        began = time.perf_counter()
        await asyncio.gather(*(consume() for _ in range(CONSUMERS)))
        return count / (time.perf_counter() - began)

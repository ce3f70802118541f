"""How many events a second are accepted for good (202 after the commit), and how many run and are settled?

32 connections submit; the clock of "settled" runs from the first request until nothing is left. Beside Redis streams
with as many producers and one consumer, beside the engine alone, with nothing run in between, and beside a bare sqlite3
loop with a commit for each step.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from bench import engine, redis, running, wrk
from bench.rounds import Plan, interleaved
from bench.table import OURS, Row, rows
from eventfn.engine.contract import Claim, Complete

CONNECTIONS = 32
PER_SECOND = 5_000  # events for each second to measure, where nothing else says how many
CLAIM_AT_ONCE = 64
LEASE_MS = 60_000


class Rates(msgspec.Struct, frozen=True):
    accepted: float
    settled: float


async def measure(plan: Plan) -> list[Row]:
    async with running.node() as node:
        url = f"http://{node.http}/submit"
        await wrk.load(url, CONNECTIONS, 1)
        await _settled(node)

        async def ours() -> Rates:
            return await _node(node, url, plan.whole_seconds)

        measures: dict[str, Callable[[], Awaitable[Rates]]] = {
            OURS: ours,
            "engine alone": lambda: _engine(plan.count(PER_SECOND)),
            "sqlite3 loop": lambda: asyncio.to_thread(_loop, plan.count(PER_SECOND)),
        }
        if redis.there():
            for appendfsync in redis.APPENDFSYNC:
                measures[redis.name(appendfsync)] = functools.partial(_redis, appendfsync, plan.count(PER_SECOND))
        rates = await interleaved(measures, plan.rounds)
    accepted = {name: statistics.median(each.accepted for each in rates[name]) for name in rates}
    settled = {name: statistics.median(each.settled for each in rates[name]) for name in rates}
    found: list[Row] = []
    for what, figures in (("durable submit, accepted", accepted), ("durable submit, settled", settled)):
        found += rows(what, "/s", "more", figures)
        if not redis.there():
            found.append(redis.not_measured(what, "/s", figures[OURS]))
    return found


async def _node(node: running.Node, url: str, seconds: int) -> Rates:
    before = (await node.function("sink")).counts.events_received
    began = time.perf_counter()
    load = await wrk.load(url, CONNECTIONS, seconds)
    accepted = await _settled(node) - before
    return Rates(load.requests_per_second, accepted / (time.perf_counter() - began))


async def _settled(node: running.Node) -> int:
    """Once no event is left; how many were ever accepted."""
    while True:
        sink = await node.function("sink")
        if not sink.events.total:
            return sink.counts.events_received
        await asyncio.sleep(0.05)


async def _redis(appendfsync: str, count: int) -> Rates:
    measured = await redis.rates(appendfsync, "submit", count)
    return Rates(measured.accepted, measured.settled)


async def _engine(count: int) -> Rates:
    async with engine.opened() as store:
        left = count
        sent = asyncio.Event()
        store.on_send(lambda _: sent.set())

        async def produce() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await store.commit([engine.send("events")], engine.now_ms())

        async def settle(claim: Claim) -> None:
            await store.commit([Complete(claim)], engine.now_ms())

        async def consume() -> None:
            settled = 0
            while settled < count:
                await sent.wait()
                sent.clear()
                messages = await store.claim("events", CLAIM_AT_ONCE, engine.now_ms() + LEASE_MS, engine.now_ms())
                await asyncio.gather(*(settle(message.claim) for message in messages))
                settled += len(messages)
                if messages:
                    sent.set()  # there may be more

        began = time.perf_counter()
        consumer = asyncio.create_task(consume())
        await asyncio.gather(*(produce() for _ in range(CONNECTIONS)))
        accepted = time.perf_counter()
        await consumer
        return Rates(count / (accepted - began), count / (time.perf_counter() - began))


def _loop(count: int) -> Rates:
    with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder:
        db = sqlite3.connect(Path(folder) / "events.db", isolation_level=None)
        db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE event (body BLOB);")
        began = time.perf_counter()
        for _ in range(count):
            db.execute("INSERT INTO event VALUES (?)", (engine.BODY,))
        accepted = time.perf_counter()
        while row := db.execute("SELECT rowid, body FROM event ORDER BY rowid LIMIT 1").fetchone():
            db.execute("DELETE FROM event WHERE rowid = ?", row[:1])
        ended = time.perf_counter()
        db.close()
    return Rates(count / (accepted - began), count / (ended - began))

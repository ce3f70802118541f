"""What do large payloads cost? 1 MB of JSON there and back, beside the usual way (ceilings/aiohttp_alone.py): once as
it is, which decodes nothing, and once with the JSON read and written as a function does."""

from __future__ import annotations

import functools
import statistics

from bench import running, wrk
from bench.rounds import Plan, interleaved
from bench.table import OURS, Row, rows

BYTES = 1_000_000
CONNECTIONS = 2


async def measure(plan: Plan) -> list[Row]:
    async with running.node() as node, running.ceiling("aiohttp_alone") as usual:
        urls = {
            OURS: f"http://{node.http}/echo",
            "aiohttp echo": f"http://{usual}/echo",
            "aiohttp, json read and written": f"http://{usual}/decoded",
        }
        load = {
            name: functools.partial(wrk.load, url, CONNECTIONS, plan.whole_seconds, BYTES) for name, url in urls.items()
        }
        for url in urls.values():
            await wrk.load(url, CONNECTIONS, 1, BYTES)  # warm
        loads = await interleaved(load, plan.rounds)
    rates = {name: statistics.median(each.requests_per_second for each in loads[name]) for name in loads}
    p50 = {name: statistics.median(each.p50_us / 1000 for each in loads[name]) for name in loads}
    what = f"1 MB JSON both ways, {CONNECTIONS} connections"
    return rows(what, "/s", "more", rates) + rows(f"{what}, p50", "ms", "less", p50)

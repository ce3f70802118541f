"""What do large payloads cost? 1 MB of JSON there and back, beside the usual way (ceilings/aiohttp_echo.py)."""

from __future__ import annotations

import functools
import statistics

from bench import running, wrk
from bench.rounds import Plan, interleaved
from bench.table import OURS, Row, rows

BYTES = 1_000_000
CONNECTIONS = 2


async def measure(plan: Plan) -> list[Row]:
    async with running.node() as node, running.ceiling("aiohttp_echo") as usual:
        servers = {OURS: node.http, "aiohttp echo": usual}
        load = {
            name: functools.partial(wrk.post, address, CONNECTIONS, plan.whole_seconds, BYTES)
            for name, address in servers.items()
        }
        for warm_up in load.values():
            await warm_up()
        loads = await interleaved(load, plan.rounds)
    rates = {name: statistics.median(each.requests_per_second for each in loads[name]) for name in loads}
    p50 = {name: statistics.median(each.p50_us / 1000 for each in loads[name]) for name in loads}
    what = f"1 MB JSON both ways, {CONNECTIONS} connections"
    return rows(what, "/s", "more", rates) + rows(f"{what}, p50", "ms", "less", p50)

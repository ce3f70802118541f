"""How many requests a second does a warm function answer, and how long does one wait?

100 bytes of JSON there and back. Beside the usual way without workers or isolation (ceilings/aiohttp_alone.py) and the
physical limit of the design (ceilings/forked_workers.py).
"""

from __future__ import annotations

import functools
import statistics

from bench import running, wrk
from bench.rounds import Plan, interleaved
from bench.table import OURS, Row, rows

CONNECTIONS = (1, 32, 128)


async def measure(plan: Plan) -> list[Row]:
    found: list[Row] = []
    async with (
        running.node() as node,
        running.ceiling("aiohttp_alone") as usual,
        running.ceiling("forked_workers") as limit,
    ):
        servers = {OURS: node.http, "aiohttp echo": usual, "two forked workers": limit}
        for address in servers.values():
            await wrk.post(address, max(CONNECTIONS), 1)  # warm: environments started, code specialised
        for connections in CONNECTIONS:
            load = {
                name: functools.partial(wrk.post, address, connections, plan.whole_seconds)
                for name, address in servers.items()
            }
            loads = await interleaved(load, plan.rounds)
            what = f"warm HTTP, {connections} connection{'s' if connections > 1 else ''}"
            rates = {name: statistics.median(each.requests_per_second for each in loads[name]) for name in loads}
            p50 = {name: statistics.median(each.p50_us for each in loads[name]) for name in loads}
            p99 = {name: statistics.median(each.p99_us for each in loads[name]) for name in loads}
            found += rows(what, "/s", "more", rates)
            found += rows(f"{what}, p50", "us", "less", p50)
            found += rows(f"{what}, p99", "us", "less", p99)
    return found

"""Does a node with many functions answer as many requests as one with a busy one?

200 functions, asked in turn, each with an environment that is warm; beside the same load on one of them. What so many
processes lose on these cores whatever they do is seen by the limit of the design (ceilings/forked_workers.py): 200 bare
workers in turn, and two for all.
"""

from __future__ import annotations

import asyncio
import functools
import shutil
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench import running, wrk
from bench.asking import Connection
from bench.rounds import Plan, interleaved
from bench.table import OURS, Row, rows

FUNCTIONS = 200
CONNECTIONS = 32

_FUNCTION = """
[functions.many{number}]
handler = "echo.http"
memory_size = 1769
timeout = "30s"

[[functions.many{number}.triggers]]
type = "http"
method = "POST"
path = "/many/{number}"
"""


async def measure(plan: Plan) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder:
        async with (
            running.node(_project(Path(folder))) as node,
            running.ceiling("forked_workers", str(FUNCTIONS)) as workers,
            running.ceiling("forked_workers") as two_workers,
        ):
            url = f"http://{node.http}/many"

            def in_turn(url: str, paths: int) -> Callable[[], Awaitable[wrk.Load]]:
                return functools.partial(wrk.in_turn, url, paths, CONNECTIONS, plan.whole_seconds)

            load = {
                OURS: in_turn(url, FUNCTIONS),
                "one function": in_turn(url, 1),
                f"{FUNCTIONS} forked workers in turn": in_turn(f"http://{workers}/many", FUNCTIONS),
                "two forked workers": in_turn(f"http://{two_workers}/many", 1),
            }
            await asyncio.to_thread(_start_each, node.http)
            await wrk.in_turn(url, FUNCTIONS, CONNECTIONS, 2)  # a second environment of those that want one
            loads = await interleaved(load, plan.rounds)
    rates = {name: statistics.median(each.requests_per_second for each in loads[name]) for name in loads}
    p99 = {name: statistics.median(each.p99_us for each in loads[name]) for name in loads}
    what = f"{FUNCTIONS} functions in turn, {CONNECTIONS} connections"
    return rows(what, "/s", "more", rates) + rows(f"{what}, p99", "us", "less", p99)


def _start_each(address: str) -> None:
    connection = Connection(address)
    for number in range(FUNCTIONS):
        connection.post(f"/many/{number}")
    connection.close()


def _project(folder: Path) -> Path:
    shutil.copy(running.HERE / "project" / "echo.py", folder)
    (folder / "eventfn.toml").write_text("".join(_FUNCTION.format(number=number) for number in range(FUNCTIONS)))
    return folder

"""How long does the first request to a function take? From the request to the answer, with nothing of it loaded.

Many functions, each asked once over a connection that is open already: one after the other with a pause in between, as
long as sandboxes take to be made ready again; and in a row. Beside a bare fork that answers one byte
(ceilings/bare_fork.py) and an interpreter that is started and does nothing.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
from pathlib import Path

from bench import running
from bench.asking import Connection, p99
from bench.rounds import Plan
from bench.table import OURS, Row, rows

FUNCTIONS_PER_ROUND = 20
PAUSE = 0.05  # seconds

_FUNCTION = """
[functions.cold{number}]
handler = "echo.http"
memory_size = 1769

[[functions.cold{number}.triggers]]
type = "http"
method = "POST"
path = "/cold/{number}"
"""


async def measure(plan: Plan) -> list[Row]:
    count = plan.rounds * FUNCTIONS_PER_ROUND
    paused: dict[str, list[float]] = {OURS: [], "bare fork": [], "python -c pass": []}
    with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder:
        project = _project(Path(folder), 2 * count + 1)
        async with running.node(project) as node, running.ceiling("bare_fork") as fork:
            functions, forks = Connection(node.http), Connection(fork)
            await asyncio.to_thread(functions.post, "/cold/0")  # the zygote is up, and the connection
            await asyncio.to_thread(forks.post, "/")
            for number in range(1, count + 1):
                await asyncio.sleep(PAUSE)
                paused[OURS].append(await asyncio.to_thread(functions.post, f"/cold/{number}"))
                paused["bare fork"].append(await asyncio.to_thread(forks.post, "/"))
                paused["python -c pass"].append(await running.command_ms("-c", "pass"))
            in_a_row = {
                OURS: await asyncio.to_thread(
                    _in_a_row, functions, [f"/cold/{count + n}" for n in range(1, count + 1)]
                ),
                "bare fork": await asyncio.to_thread(_in_a_row, forks, ["/"] * count),
            }
            functions.close()
            forks.close()
    return _rows("cold start", paused) + _rows("cold starts in a row", in_a_row)


def _in_a_row(connection: Connection, paths: list[str]) -> list[float]:
    return [connection.post(path) for path in paths]


def _rows(what: str, figures: dict[str, list[float]]) -> list[Row]:
    p50 = {name: statistics.median(each) for name, each in figures.items()}
    worst = {name: p99(each) for name, each in figures.items()}
    return rows(f"{what}, p50", "ms", "less", p50) + rows(f"{what}, p99", "ms", "less", worst)


def _project(folder: Path, functions: int) -> Path:
    shutil.copy(running.HERE / "project" / "echo.py", folder)
    declared = "".join(_FUNCTION.format(number=number) for number in range(functions))
    (folder / "eventfn.toml").write_text(declared)
    return folder

"""How long does the first request to a function take? From the request to the answer, with nothing of it loaded.

Many functions, each asked once, one after the other, over a connection that is open already. Beside a bare fork that
answers one byte (ceilings/bare_fork.py) and an interpreter that is started and does nothing.
"""

from __future__ import annotations

import asyncio
import http.client
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from bench import running
from bench.rounds import Plan
from bench.table import OURS, Row, rows

FUNCTIONS_PER_ROUND = 10

_FUNCTION = """
[functions.cold{number}]
handler = "echo.http"

[[functions.cold{number}.triggers]]
type = "http"
method = "POST"
path = "/cold/{number}"
"""


async def measure(plan: Plan) -> list[Row]:
    count = plan.rounds * FUNCTIONS_PER_ROUND
    figures: dict[str, list[float]] = {OURS: [], "bare fork": [], "python -c pass": []}
    with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder:
        project = _project(Path(folder), count + 1)
        async with running.node(project) as node, running.ceiling("bare_fork") as fork:
            client = http.client.HTTPConnection(node.http)
            forker = http.client.HTTPConnection(fork)
            await asyncio.to_thread(_ask, client, "/cold/0")  # the zygote is up, and the connection
            await asyncio.to_thread(_ask, forker, "/")
            for number in range(1, count + 1):
                figures[OURS].append(await asyncio.to_thread(_ask, client, f"/cold/{number}"))
                figures["bare fork"].append(await asyncio.to_thread(_ask, forker, "/"))
                figures["python -c pass"].append(await running.command_ms("-c", "pass"))
            client.close()
            forker.close()
    p50 = {name: statistics.median(each) for name, each in figures.items()}
    worst = {name: max(each) for name, each in figures.items()}
    found = rows("cold start, p50", "ms", "less", p50)
    return found + rows(f"cold start, the worst of {count}", "ms", "less", worst)


def _project(folder: Path, functions: int) -> Path:
    shutil.copy(running.HERE / "project" / "echo.py", folder)
    declared = "".join(_FUNCTION.format(number=number) for number in range(functions))
    (folder / "eventfn.toml").write_text(declared)
    return folder


def _ask(client: http.client.HTTPConnection, path: str) -> float:
    began = time.perf_counter()
    client.request("POST", path, b"{}", {"Content-Type": "application/json"})
    answer = client.getresponse()
    answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}")
    return (time.perf_counter() - began) * 1000

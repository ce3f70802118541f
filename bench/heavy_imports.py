"""How long does a cold start take when a function imports as much as numpy and boto3 are? With snap_start, and without.

The package is made here: 400 modules that hold 60 MB of objects when they are imported. numpy and boto3 with one client
are 450 modules, 53 MB, and 0.4 s of computing. Each function is asked once, after those with snap_start have been
published, which includes their init.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path

from bench import processes, running
from bench.asking import Connection
from bench.rounds import Plan
from bench.table import OURS, Row, rows

FUNCTIONS_PER_ROUND = 2  # of each kind: every one holds 60 MB
MODULES = 400

_MODULE = """
OBJECTS = [f"{number} {{each}}" for each in range(1700)]
""" + "".join(
    f"""
class Kind{each}:
    \"\"\"A class as packages have them.\"\"\"

    limit = {each}

    def __init__(self, value):
        self.value = value

    def more(self, other):
        return self.value + other.value + self.limit
"""
    for each in range(8)
)
_HANDLER = """import heavy


def handler(event, context):
    return {"statusCode": 200, "body": heavy.m0.OBJECTS[0]}
"""
_FUNCTION = """
[functions.{name}]
handler = "function.handler"
memory_size = 1769
snap_start = {snap_start}

[[functions.{name}.triggers]]
type = "http"
method = "POST"
path = "/{name}"
"""


async def measure(plan: Plan) -> list[Row]:
    count = plan.rounds * FUNCTIONS_PER_ROUND
    snapped: list[float] = []
    imported: list[float] = []
    with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder:
        project = _project(Path(folder), count)
        async with running.node(project) as node:
            await processes.quiet(node.pid)
            connection = Connection(node.http)
            for number in range(count):
                snapped.append(await asyncio.to_thread(connection.post, f"/snapped{number}"))
                imported.append(await asyncio.to_thread(connection.post, f"/imported{number}"))
            connection.close()
    what, beside = "cold start with heavy imports, snap_start", "without snap_start"
    p50 = {OURS: statistics.median(snapped), beside: statistics.median(imported)}
    worst = {OURS: max(snapped), beside: max(imported)}
    return rows(f"{what}, p50", "ms", "less", p50) + rows(f"{what}, the worst of {count}", "ms", "less", worst)


def _project(folder: Path, count: int) -> Path:
    package = folder / "heavy"
    package.mkdir()
    for number in range(MODULES):
        (package / f"m{number}.py").write_text(_MODULE.format(number=number))
    (package / "__init__.py").write_text("".join(f"from heavy import m{number}\n" for number in range(MODULES)))
    (folder / "function.py").write_text(_HANDLER)
    declared = [
        _FUNCTION.format(name=f"{kind}{number}", snap_start=snap_start)
        for kind, snap_start in (("snapped", "true"), ("imported", "false"))
        for number in range(count)
    ]
    (folder / "eventfn.toml").write_text("".join(declared))
    return folder

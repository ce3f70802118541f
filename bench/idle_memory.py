"""What does a node hold while nothing happens? PSS: what a process shares is divided among those who share it.

Beside an interpreter that does nothing, which is measured alone as far as its libraries are not in use elsewhere.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
from pathlib import Path

from bench import running, wrk
from bench.rounds import Plan, interleaved, medians
from bench.table import OURS, Row, rows

PARTS = {
    "supervisor": "idle memory: supervisor",
    "zygote": "idle memory: zygote",
    "environment": "idle memory: an environment",
}
CONNECTIONS = 8  # at once, so that there are several environments to take the median of


async def measure(plan: Plan) -> list[Row]:
    nodes: list[dict[str, float]] = []

    async def ours() -> float:
        nodes.append(await _node())
        return 0.0

    found = medians(await interleaved({OURS: ours, "bare python": _bare}, plan.rounds))
    table: list[Row] = []
    for part, what in PARTS.items():
        figure = statistics.median(node[part] for node in nodes)
        table += rows(what, "MB", "less", {OURS: figure, "bare python": found["bare python"]})
    return table


async def _node() -> dict[str, float]:
    async with running.node() as node:
        await wrk.post(node.http, CONNECTIONS, 1)
        # The zygote is the supervisor's first child; environments are its children too, by CLONE_PARENT.
        zygote, *environments = sorted(_children(node.pid), key=_started)
        return {
            "supervisor": _pss_mb(node.pid),
            "zygote": _pss_mb(zygote),
            "environment": statistics.median(_pss_mb(pid) for pid in environments),
        }


async def _bare() -> float:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "print(flush=True); input()"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    held = _pss_mb(process.pid)
    await process.communicate(b"\n")
    return held


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _started(pid: int) -> tuple[int, int]:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[19]), pid  # starttime, field 22 of proc(5); the pid for those of one clock tick


def _pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{pid}/smaps_rollup has no Pss")

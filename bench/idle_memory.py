"""What does a node hold while nothing happens? PSS: what a process shares is divided among those who share it.

An environment is its init and its handler. Beside an interpreter that does nothing, which is measured alone as far as
its libraries are not in use elsewhere.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
from pathlib import Path

from bench import running, wrk
from bench.processes import children, family, pss_mb
from bench.rounds import Plan, interleaved, medians
from bench.table import OURS, Row, rows

PARTS = ("supervisor and zygote", "supervisor", "zygote", "an environment")
CONNECTIONS = 8  # at once, so that there are several environments to take the median of


async def measure(plan: Plan) -> list[Row]:
    nodes: list[dict[str, float]] = []

    async def ours() -> float:
        nodes.append(await _node())
        return 0.0

    found = medians(await interleaved({OURS: ours, "bare python": _bare}, plan.rounds))
    table: list[Row] = []
    for part in PARTS:
        figure = statistics.median(node[part] for node in nodes)
        table += rows(f"idle memory: {part}", "MB", "less", {OURS: figure, "bare python": found["bare python"]})
    return table


async def _node() -> dict[str, float]:
    async with running.node() as node:
        await wrk.post(node.http, CONNECTIONS, 1)
        # The zygote is the supervisor's first child; sandboxes are its children too, by CLONE_PARENT.
        zygote, *sandboxes = children(node.pid)
        environments = [processes for processes in map(family, sandboxes) if _has_a_function(processes[-1])]
        held = {"supervisor": pss_mb(node.pid), "zygote": pss_mb(zygote)}
        held["an environment"] = statistics.median(sum(map(pss_mb, processes)) for processes in environments)
        held["supervisor and zygote"] = held["supervisor"] + held["zygote"]
        return held


def _has_a_function(handler: int) -> bool:
    """Its output goes to a pipe of its own. That of a sandbox which waits for a function goes where the node's does."""
    return str(Path(f"/proc/{handler}/fd/1").readlink()).startswith("pipe:")


async def _bare() -> float:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "print(flush=True); input()"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    held = pss_mb(process.pid)
    await process.communicate(b"\n")
    return held

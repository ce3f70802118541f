"""How long until a node is up, and until a command answers? Beside an interpreter that does nothing."""

from __future__ import annotations

from bench import running
from bench.rounds import Plan, interleaved, medians
from bench.table import OURS, Row, rows


async def measure(plan: Plan) -> list[Row]:
    found = medians(
        await interleaved(
            {
                "run": _run,
                "help": lambda: running.command_ms("-m", "eventfn", "--help"),
                "python": lambda: running.command_ms("-c", "pass"),
            },
            plan.rounds,
        )
    )
    run = {OURS: found["run"], "python -c pass": found["python"]}
    shown = {OURS: found["help"], "python -c pass": found["python"]}
    return rows("eventfn run, until it is ready", "ms", "less", run) + rows("eventfn --help", "ms", "less", shown)


async def _run() -> float:
    async with running.node() as node:
        return node.ready_ms

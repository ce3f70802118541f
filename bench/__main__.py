"""`python -m bench [QUESTION ...]`: asks, and prints one table."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from bench import (
    cold_start,
    conditions,
    control_plane,
    durable,
    exec_start,
    handover,
    heavy_imports,
    idle_memory,
    invoke_api,
    kafka,
    many_functions,
    mappings,
    overload,
    payload,
    queue,
    sqs,
    start_up,
    streaming,
    warm_http,
    wrk,
)
from bench.rounds import Plan
from bench.table import Row, markdown
from bench.targets import TARGETS

QUESTIONS: Mapping[str, Callable[[Plan], Awaitable[list[Row]]]] = {
    "warm_http": warm_http.measure,
    "invoke_api": invoke_api.measure,
    "control_plane": control_plane.measure,
    "payload": payload.measure,
    "cold_start": cold_start.measure,
    "exec_start": exec_start.measure,
    "heavy_imports": heavy_imports.measure,
    "many_functions": many_functions.measure,
    "durable": durable.measure,
    "queue": queue.measure,
    "kafka": kafka.measure,
    "handover": handover.measure,
    "mappings": mappings.measure,
    "sqs": sqs.measure,
    "overload": overload.measure,
    "idle_memory": idle_memory.measure,
    "start_up": start_up.measure,
    "streaming": streaming.measure,
}
_WITHOUT_WRK = {
    "cold_start",
    "control_plane",
    "exec_start",
    "handover",
    "heavy_imports",
    "kafka",
    "mappings",
    "queue",
    "sqs",
    "start_up",
    "streaming",
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m bench", description="What eventfn costs, beside what is possible.")
    parser.add_argument("question", nargs="*", choices=[*QUESTIONS, []], help=f"of {', '.join(QUESTIONS)}; default all")
    parser.add_argument("--rounds", type=int, default=Plan().rounds, help="of each measurement (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=Plan().seconds, help="of each round (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="conditions and rows, for other programs")
    options = parser.parse_args(arguments)
    asked = options.question or list(QUESTIONS)
    if (problem := wrk.missing()) and not _WITHOUT_WRK.issuperset(asked):
        print(problem, file=sys.stderr)
        return 1
    where, found = asyncio.run(_ask(asked, Plan(options.rounds, options.seconds)))
    print(markdown(found))
    print(f"\nMedians of {options.rounds} interleaved rounds of {options.seconds:g} s. {where.text()}")
    if not options.question and (lacking := TARGETS.keys() - {(row.what, row.beside) for row in found}):
        print("\nNot measured: " + "; ".join(f"{what}, beside {beside}" for what, beside in sorted(lacking)) + ".")
    if options.json is not None:
        written = {"conditions": where, "rows": [row.as_json() for row in found]}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(written)) + b"\n")
    return 0


async def _ask(asked: list[str], plan: Plan) -> tuple[conditions.Conditions, list[Row]]:
    where = await conditions.found()
    found: list[Row] = []
    for name in asked:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found += await QUESTIONS[name](plan)
    return where, found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

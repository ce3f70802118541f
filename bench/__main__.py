"""`python -m bench [QUESTION ...]`: asks, and prints one table."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from bench import cold_start, durable, idle_memory, payload, queue, start_up, warm_http, wrk
from bench.rounds import Plan
from bench.table import Row, markdown

QUESTIONS: Mapping[str, Callable[[Plan], Awaitable[list[Row]]]] = {
    "warm_http": warm_http.measure,
    "payload": payload.measure,
    "cold_start": cold_start.measure,
    "durable": durable.measure,
    "queue": queue.measure,
    "idle_memory": idle_memory.measure,
    "start_up": start_up.measure,
}
_WITHOUT_WRK = {"cold_start", "queue", "start_up"}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m bench", description="What eventfn costs, beside what is possible.")
    parser.add_argument("question", nargs="*", choices=[*QUESTIONS, []], help=f"of {', '.join(QUESTIONS)}; default all")
    parser.add_argument("--rounds", type=int, default=Plan().rounds, help="of each measurement (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=Plan().seconds, help="of each round (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the rows, for other programs")
    options = parser.parse_args(arguments)
    asked = options.question or list(QUESTIONS)
    if (problem := wrk.missing()) and not _WITHOUT_WRK.issuperset(asked):
        print(problem, file=sys.stderr)
        return 1
    before = os.getloadavg()[0]
    found = asyncio.run(_ask(asked, Plan(options.rounds, options.seconds)))
    print(markdown(found))
    print(
        f"\nMedians of {options.rounds} interleaved rounds of {options.seconds:g} s. "
        f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores that the load shares, "
        f"load average {before:.1f} before and {os.getloadavg()[0]:.1f} after."
    )
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    return 0


async def _ask(asked: list[str], plan: Plan) -> list[Row]:
    found: list[Row] = []
    for name in asked:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found += await QUESTIONS[name](plan)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

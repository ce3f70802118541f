"""A process that commits for its life: run by test_crash.py, which kills it.

Prints a line for every message that was acknowledged ("sent ID") and settled ("done ID"), after the commit returned.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from eventfn.engine.contract import Complete, Put, Send
from eventfn.engine.sqlite import SqliteEngine

PRODUCERS = 8


def now() -> int:
    return time.time_ns() // 1_000_000


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())  # at once: a line in a buffer would die with us


async def produce(engine: SqliteEngine, name: str) -> None:
    for n in range(1_000_000):
        identity = f"{name}-{n}"
        # Two facts in one commit: after the crash both are there, or neither.
        await engine.commit([Send("q", identity, b"x" * 300), Put(f"fact/{identity}", b"")], now())
        say(f"sent {identity}")


async def consume(engine: SqliteEngine) -> None:
    while True:
        for message in await engine.claim("q", 5, now() + 60_000, now()):
            # Said before and after: of what was begun and not answered nothing is known.
            say(f"settling {message.id}")
            await engine.commit([Complete(message.claim), Put(f"done/{message.id}", b"")], now())
            say(f"done {message.id}")


async def main(folder: Path, round_number: str) -> None:
    engine = SqliteEngine(folder)
    await engine.open(now())
    say("open")
    async with asyncio.TaskGroup() as tasks:
        for n in range(PRODUCERS):
            tasks.create_task(produce(engine, f"{round_number}.{n}"))
        tasks.create_task(consume(engine))


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))

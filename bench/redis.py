"""Redis streams beside our own durable paths, where redis-server is installed (apt-get install redis-server).

With `appendfsync always` it promises what a 202 of ours does; with `everysec`, its default, a power cut takes the last
second of what was accepted.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys

import msgspec

from bench.running import HERE
from bench.table import Row

APPENDFSYNC = ("everysec", "always")
MISSING = "Redis streams: no redis-server on PATH"


class Rates(msgspec.Struct, frozen=True):
    """Messages a second."""

    version: str
    accepted: float
    settled: float


def there() -> bool:
    return shutil.which("redis-server") is not None


def name(appendfsync: str) -> str:
    return f"Redis streams, {appendfsync}"


def not_measured(what: str, unit: str, ours: float) -> Row:
    return Row(what, unit, ours, MISSING, None, "more")


async def rates(appendfsync: str, question: str, *numbers: int) -> Rates:
    """Arguments as in ceilings/redis_streams.py."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(HERE / "ceilings" / "redis_streams.py"), appendfsync, question, *map(str, numbers)),
        stdout=subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    return msgspec.json.decode(printed, type=Rates)

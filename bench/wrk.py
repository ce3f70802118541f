"""Load over HTTP, by wrk: written in C, so that what is measured is not the load's own cost."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import msgspec

_SCRIPT = Path(__file__).with_name("post.lua")


class Load(msgspec.Struct, frozen=True):
    """What wrk saw: answers a second, latencies in microseconds, and answers that were not 2xx."""

    requests_per_second: float
    p50_us: float
    p99_us: float
    errors: int


def missing() -> str | None:
    """What to do about it, when there is no wrk."""
    return None if shutil.which("wrk") else "wrk makes the load and is not on PATH: apt-get install wrk"


async def post(address: str, connections: int, seconds: int, body_bytes: int = 100) -> Load:
    """A POST of `body_bytes` of JSON to /echo again and again, over keep-alive connections."""
    return await load(f"http://{address}/echo", connections, seconds, body_bytes)


async def load(url: str, connections: int, seconds: int, body_bytes: int = 100) -> Load:
    process = await asyncio.create_subprocess_exec(
        *("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"),
        *("-s", str(_SCRIPT), url, "--", str(body_bytes)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    for line in output.decode().splitlines():
        if line.startswith("RESULT "):
            found = msgspec.json.decode(line.removeprefix("RESULT "), type=Load)
            if found.errors or not found.requests_per_second:
                raise RuntimeError(f"{url} failed under {connections} connections: {found}")
            return found
    raise RuntimeError(f"wrk gave no result for {url}:\n{output.decode()}")

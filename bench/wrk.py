"""Load over HTTP, by wrk: written in C, so that what is measured is not the load's own cost."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

_HERE = Path(__file__).parent


class Load(msgspec.Struct, frozen=True):
    """What wrk saw: answers a second, latencies in microseconds, and answers that were not 2xx."""

    requests_per_second: float
    p50_us: float
    p99_us: float
    errors: int


class Offer(msgspec.Struct, frozen=True):
    """Answers a second: 2xx, 429, and others or none."""

    good: float
    throttled: float
    other: float

    @property
    def offered(self) -> float:
        return self.good + self.throttled + self.other

    @property
    def wrong_percent(self) -> float:
        return 100 * (self.other / self.offered)  # in this order all of them are 100, not 99.99...


def missing() -> str | None:
    """What to do about it, when there is no wrk."""
    return None if shutil.which("wrk") else "wrk makes the load and is not on PATH: apt-get install wrk"


async def post(address: str, connections: int, seconds: int, body_bytes: int = 100) -> Load:
    """A POST of `body_bytes` of JSON to /echo again and again, over keep-alive connections."""
    return await load(f"http://{address}/echo", connections, seconds, body_bytes)


async def load(url: str, connections: int, seconds: int, body_bytes: int = 100) -> Load:
    return _good(await _run("post.lua", url, connections, seconds, body_bytes), url)


async def invoke(url: str, headers: Mapping[str, str], connections: int, seconds: int) -> Load:
    """A POST of 100 bytes of JSON with these headers."""
    pairs = [text for pair in headers.items() for text in pair]
    return _good(await _run("post.lua", url, connections, seconds, 100, 0, *pairs), url)


async def in_turn(url: str, paths: int, connections: int, seconds: int) -> Load:
    """A POST of 100 bytes of JSON to URL/0, URL/1 ... and again."""
    return _good(await _run("post.lua", url, connections, seconds, 100, paths), url)


async def offer(url: str, callers: int, pause_ms: int, seconds: int) -> Offer:
    """A POST from each caller, who pauses before it, for so long on average; any answer is one."""
    return msgspec.json.decode(await _run("offer.lua", url, callers, seconds, pause_ms), type=Offer)


def _good(result: bytes, url: str) -> Load:
    found = msgspec.json.decode(result, type=Load)
    if found.errors or not found.requests_per_second:
        raise RuntimeError(f"{url} failed: {found}")
    return found


async def _run(script: str, url: str, connections: int, seconds: int, *arguments: int | str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"),
        *("-s", str(_HERE / script), url, "--", *map(str, arguments)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    for line in output.splitlines():
        if line.startswith(b"RESULT "):
            return line.removeprefix(b"RESULT ")
    raise RuntimeError(f"wrk gave no result for {url}:\n{output.decode()}")

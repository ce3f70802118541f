"""How fast does a response arrive that is sent while the function makes it: in large pieces, and in many small ones?

Beside aiohttp in one process, which writes the same pieces with no environment behind it. One client on a connection of
its own, a plain socket, so that what reads costs little.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench import running
from bench.rounds import Plan, interleaved, medians
from bench.table import OURS, Row, rows
from eventfn.event import MAX_STREAMED_RESPONSE

LARGE, LARGE_PER_SECOND = 65_536, 4_000
SMALL, SMALL_PER_SECOND = 100, 50_000

_HANDLER = """
def handler(event, context):
    asked = event["queryStringParameters"]
    piece = bytes(int(asked["size"]))
    for _ in range(int(asked["count"])):
        yield piece
"""
_TOML = """
[functions.stream]
handler = "stream.handler"
memory_size = 1769
timeout = "60s"

[[functions.stream.triggers]]
type = "http"
path = "/stream"
invoke_mode = "RESPONSE_STREAM"
"""


async def measure(plan: Plan) -> list[Row]:
    found: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder:
        project = Path(folder) / "project"
        project.mkdir()
        Path(folder).chmod(0o755)
        (project / "stream.py").write_text(_HANDLER)
        (project / "eventfn.toml").write_text(_TOML)
        async with running.node(project) as node, running.ceiling("aiohttp_alone") as bare:
            await _seconds(node.http, LARGE, 1)  # the first one starts an environment
            for what, unit, size, per_second, worth in (
                ("streamed response, 64 KB pieces", "MB/s", LARGE, LARGE_PER_SECOND, LARGE / 1e6),
                ("streamed response, 100-byte pieces", "/s", SMALL, SMALL_PER_SECOND, 1.0),
            ):
                count = min(plan.count(per_second), MAX_STREAMED_RESPONSE // size)
                measures: dict[str, Callable[[], Awaitable[float]]] = {
                    OURS: functools.partial(_rate, node.http, size, count, worth),
                    "aiohttp": functools.partial(_rate, bare, size, count, worth),
                }
                found += rows(what, unit, "more", medians(await interleaved(measures, plan.rounds)))
    return found


async def _rate(address: str, size: int, count: int, worth: float) -> float:
    return count * worth / await _seconds(address, size, count)


async def _seconds(address: str, size: int, count: int) -> float:
    return await asyncio.to_thread(_take, address, size, count)


def _take(address: str, size: int, count: int) -> float:
    host, _, port = address.rpartition(":")
    taken, buffer = 0, bytearray(262_144)
    began = time.perf_counter()
    with socket.create_connection((host, int(port)), running.PATIENCE) as client:
        client.sendall(
            f"GET /stream?size={size}&count={count} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        )
        while (arrived := client.recv_into(buffer)) > 0:
            taken += arrived
    if taken < size * count:
        raise RuntimeError(f"{taken} bytes of {size * count} arrived")
    return time.perf_counter() - began

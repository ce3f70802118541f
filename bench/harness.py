"""Starting what is measured, loading it with wrk, and writing the table."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

HERE = Path(__file__).parent
ROUNDS = 5


class Row(msgspec.Struct, frozen=True):
    """One line of the table. `better` says which way is good; `ratio` is eventfn's figure over the ceiling's."""

    question: str
    unit: str
    ours: float
    ceiling: float | None
    ceiling_name: str
    better: str  # "more" or "less"

    @property
    def ratio(self) -> float | None:
        return None if self.ceiling is None else self.ours / self.ceiling


class Load(msgspec.Struct, frozen=True):
    """What wrk saw: requests a second, latencies in microseconds, and answers that were not 2xx."""

    requests_per_second: float
    p50_us: float
    p99_us: float
    errors: int


async def wrk(url: str, connections: int, seconds: float = 2.0, body_bytes: int = 100) -> Load:
    """A POST of `body_bytes` of JSON, again and again, over keep-alive connections."""
    process = await asyncio.create_subprocess_exec(
        "wrk",
        f"-t{1}",
        f"-c{connections}",
        f"-d{seconds:g}s",
        "--timeout",
        "20s",
        "-s",
        str(HERE / "post.lua"),
        url,
        "--",
        str(body_bytes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    for line in output.decode().splitlines():
        if line.startswith("RESULT "):
            return msgspec.json.decode(line.removeprefix("RESULT "), type=Load)
    raise RuntimeError(f"wrk gave no result for {url}:\n{output.decode()}")


@contextlib.asynccontextmanager
async def program(*argv: str, ready: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A child that prints a line starting with `ready`; the rest of that line is yielded with it. It is ended after."""
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, stderr=sys.stderr)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            while line := (await process.stdout.readline()).decode():
                if line.startswith(ready):
                    break
            else:
                raise RuntimeError(f"{' '.join(argv)} ended without being ready")
        yield process, line.removeprefix(ready).strip()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


class Node(msgspec.Struct, frozen=True):
    """A running eventfn: its data folder, addresses and token, as written in node.json."""

    folder: Path
    pid: int
    http: str
    admin: str
    token: str


@contextlib.asynccontextmanager
async def node(project: Path = HERE / "project") -> AsyncIterator[Node]:
    """`eventfn run` on a copy of the project, with a data folder of its own, on free ports."""
    folder = Path(tempfile.mkdtemp(prefix="eventfn-bench-"))
    copy = folder / "project"
    shutil.copytree(project, copy)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "eventfn",
        "run",
        str(copy),
        "--data",
        str(folder / "data"),
        "--http",
        "127.0.0.1:0",
        stdout=subprocess.DEVNULL,
        stderr=sys.stderr,
    )
    try:
        facts = await _when_up(folder / "data" / "node.json", process)
        yield Node(folder, process.pid, facts["http"], facts["admin"], facts["token"])
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        shutil.rmtree(folder)


async def _when_up(file: Path, process: asyncio.subprocess.Process) -> dict[str, str]:
    async with asyncio.timeout(60):
        while True:
            if process.returncode is not None:
                raise RuntimeError(f"eventfn run ended with {process.returncode}")
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                found: dict[str, str] = json.loads(file.read_text())
                return found
            await asyncio.sleep(0.001)


async def interleaved(
    ours: Callable[[], Awaitable[float]], ceiling: Callable[[], Awaitable[float]], rounds: int = ROUNDS
) -> tuple[float, float]:
    """The medians of both, measured in turn."""
    pairs = [(await ceiling(), await ours()) for _ in range(rounds)]
    return statistics.median(pair[1] for pair in pairs), statistics.median(pair[0] for pair in pairs)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def table(rows: Sequence[Row]) -> str:
    """Markdown, as the README shows it."""
    lines = ["| what | eventfn | ceiling in the same run | ratio |", "|---|---|---|---|"]
    for row in rows:
        if row.ceiling is None or row.ratio is None:
            lines.append(f"| {row.question} | {row.ours:,.4g} {row.unit} | {row.ceiling_name} | |")
            continue
        direction = "" if row.better == "more" else " (less is better)"
        ceiling = f"{row.ceiling:,.4g} {row.unit}: {row.ceiling_name}"
        lines.append(f"| {row.question} | {row.ours:,.4g} {row.unit} | {ceiling} | {row.ratio:.2f}{direction} |")
    return "\n".join(lines)

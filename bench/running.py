"""Starting what is measured, and ending it: ceilings, which are programs of their own, and a node as a user runs it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import msgspec

from eventfn.observe import node_file
from eventfn.observe.status import FunctionStatus, Status

HERE = Path(__file__).parent
PATIENCE = 60.0  # seconds until something that does not come up is an error


@contextlib.asynccontextmanager
async def ceiling(name: str, *arguments: str) -> AsyncIterator[str]:
    """ceilings/<name>.py, which prints "listening PORT" once it serves. Yields its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "ceilings" / f"{name}.py"), *arguments, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        if not line.startswith(b"listening "):
            raise RuntimeError(f"ceilings/{name}.py ended without listening")
        yield f"127.0.0.1:{line.split()[1].decode()}"
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.communicate()


class Node:
    """A running `eventfn run`."""

    def __init__(self, facts: node_file.NodeFile, ready_ms: float, session: aiohttp.ClientSession) -> None:
        self.pid = facts.pid
        self.ready_ms = ready_ms  # from the start of the process until its commands find it
        self.http = facts.http or ""
        self.admin = facts.admin
        self._admin = f"http://{facts.admin}"
        self._session = session

    async def status(self) -> Status:
        async with self._session.get(f"{self._admin}/status") as answer:
            return msgspec.json.decode(await answer.read(), type=Status)

    async def send(self, queue: str, body: str) -> None:
        """One message to a named queue; it is on disk when this returns."""
        async with self._session.post(f"{self._admin}/queues/{queue}/messages", json={"body": body}) as answer:
            answer.raise_for_status()

    async def function(self, name: str) -> FunctionStatus:
        return next(function for function in (await self.status()).functions if function.name == name)


@contextlib.asynccontextmanager
async def node(
    project: Path = HERE / "project", before: Callable[[Path], Awaitable[None]] | None = None
) -> AsyncIterator[Node]:
    """`eventfn run` on a copy of the project, on free ports, with a data folder of its own, which `before` may fill."""
    folder = Path(tempfile.mkdtemp(prefix="eventfn-bench-"))
    try:
        copy, data = folder / "project", folder / "data"
        shutil.copytree(project, copy, ignore=shutil.ignore_patterns("__pycache__"))
        copy.chmod(0o755)  # temporary folders are their owner's alone, and functions of root run as somebody else
        if before is not None:
            await before(data)
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "eventfn", "run", str(copy), "--data", str(data)),
            *("--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"),
            stdout=subprocess.DEVNULL,
        )
        try:
            facts = await _when_up(data, process)
            ready_ms = (time.perf_counter() - began) * 1000
            async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {facts.token}"}) as session:
                yield Node(facts, ready_ms, session)
        finally:
            await _end(process)
    finally:
        shutil.rmtree(folder)


async def _when_up(data: Path, process: asyncio.subprocess.Process) -> node_file.NodeFile:
    async with asyncio.timeout(PATIENCE):
        while True:
            if process.returncode is not None:
                raise RuntimeError(f"eventfn run ended with {process.returncode}")
            if (facts := node_file.running(data)) is not None:
                return facts
            await asyncio.sleep(0.001)


async def command_ms(*argv: str) -> float:
    """How long `python ARGV` takes, from start to end."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(sys.executable, *argv, stdout=subprocess.DEVNULL)
    if await process.wait() != 0:
        raise RuntimeError(f"python {' '.join(argv)} ended with {process.returncode}")
    return (time.perf_counter() - began) * 1000

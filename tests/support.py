"""A node as a user runs it: its own process, found through its data folder, ended by signals."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import aiohttp

PATIENCE = 60.0  # seconds that anything may take on a busy machine before a test fails instead of hanging


async def until(condition: Callable[[], Any | Awaitable[Any]], what: str, patience: float = PATIENCE) -> Any:
    """Polls until `condition` gives something true and returns it; fails saying what did not happen. A machine that
    stood still meanwhile is looked at once more."""
    deadline = time.monotonic() + patience
    late = False
    while True:
        try:
            async with asyncio.timeout(patience):
                found = condition()
                if isinstance(found, Awaitable):
                    found = await found
        except TimeoutError:
            found, late = None, True
        if found:
            return found
        if late:
            raise AssertionError(f"did not happen within {patience:g} s: {what}")
        late = time.monotonic() > deadline
        await asyncio.sleep(0.01)


def write_project(folder: Path, declaration: str, **modules: str) -> Path:
    """eventfn.toml and Python files, indented as they stand in a test: write_project(folder, toml, work="...")."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "eventfn.toml").write_text(dedent(declaration))
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(dedent(code))
    return folder


class RunningNode:
    """`eventfn run FOLDER --data DATA` on free ports. Output goes to DATA/../DATA.run.log, for the failure message."""

    def __init__(self, folder: Path, data: Path, *options: str, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.data = data
        self.log = data.parent / f"{data.name}.run.log"
        self._options = options
        self._environment = environment or {}
        self._log_starts = 0
        self.process: subprocess.Popen[bytes]
        self.http = ""
        self.admin = ""
        self._token = ""
        self._sessions = contextlib.AsyncExitStack()
        self._operator: aiohttp.ClientSession  # has the token
        self._anybody: aiohttp.ClientSession

    def spawn(self) -> None:
        """The process, and no waiting for it to be up."""
        with self.log.open("ab") as log:
            self._log_starts = log.tell()
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "eventfn", "run", str(self.folder), "--data", str(self.data)),
                    *("--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", *self._options),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | self._environment,
            )

    async def start(self) -> None:
        self.spawn()
        facts = await until(self._facts, "the node is up")
        self.http = f"http://{facts['http']}" if facts["http"] else ""
        self.admin = f"http://{facts['admin']}"
        self._token = facts["token"]
        headers = {"Authorization": f"Bearer {self._token}"}
        self._operator = await self._sessions.enter_async_context(aiohttp.ClientSession(headers=headers))
        self._anybody = await self._sessions.enter_async_context(aiohttp.ClientSession())

    def _facts(self) -> dict[str, Any] | None:
        if self.process.poll() is not None:
            raise AssertionError(f"eventfn run ended with {self.process.returncode}:\n{self.output()}")
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            facts: dict[str, Any] = json.loads((self.data / "node.json").read_text())
            return facts if facts["pid"] == self.process.pid else None
        return None

    def output(self) -> str:
        """What this process has printed; those before it on the same data folder stand above in the same file."""
        return self.log.read_bytes()[self._log_starts :].decode()

    async def kill(self) -> None:
        """kill -9: nothing is told, nothing is flushed."""
        self.process.kill()
        await self.ended()

    async def stop(self) -> int:
        """SIGTERM, and the exit code of the drain."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    @property
    def is_over(self) -> bool:
        """Its end was seen: nothing can be asked of it any more."""
        return self._operator.closed

    async def ended(self) -> int:
        """The exit code, once there is one."""
        code = await asyncio.to_thread(self.process.wait, PATIENCE)
        await self._sessions.aclose()
        return code

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, bytes]:
        """To the admin listener, with the token."""
        async with self._operator.request(method, self.admin + path, **options) as answer:
            return answer.status, await answer.read()

    async def json(self, method: str, path: str, **options: Any) -> Any:
        status, body = await self.request(method, path, **options)
        assert status < 300, f"{method} {path}: {status} {body!r}"
        return json.loads(body)

    async def fetch(self, method: str, path: str, **options: Any) -> tuple[int, bytes]:
        """To the functions' HTTP, as anybody."""
        async with self._anybody.request(method, self.http + path, **options) as answer:
            return answer.status, await answer.read()

    async def submit(self, function: str, event: Any) -> str:
        """Lambda's Invoke, asynchronous: the request id of the accepted event."""
        path = f"/2015-03-31/functions/{function}/invocations"
        headers = {"X-Amz-Invocation-Type": "Event"}
        async with self._operator.post(self.admin + path, json=event, headers=headers) as answer:
            assert answer.status == 202, await answer.text()
            return answer.headers["x-amzn-RequestId"]

    async def function(self, name: str) -> dict[str, Any]:
        """What GET /status says of it."""
        status = await self.json("GET", "/status")
        return next(function for function in status["functions"] if function["name"] == name)

    async def messages(self, queue: str) -> list[dict[str, Any]]:
        """Up to 1000 messages of a named queue, oldest first."""
        found: list[dict[str, Any]] = await self.json("GET", f"/queues/{queue}/messages?limit=1000")
        return found


@contextlib.asynccontextmanager
async def running_node(
    folder: Path, data: Path, *options: str, environment: dict[str, str] | None = None
) -> AsyncIterator[RunningNode]:
    node = RunningNode(folder, data, *options, environment=environment)
    try:
        await node.start()
        yield node
        if node.process.poll() is None:
            assert await node.stop() == 0, node.output()
    finally:
        if node.process.poll() is None:
            node.process.kill()
        await node.ended()


def command(*arguments: str, cwd: Path | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """`eventfn ARGUMENTS`, as typed."""
    return subprocess.run(
        [sys.executable, "-m", "eventfn", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        input=stdin,
        timeout=PATIENCE,
    )

"""The supervisor that is attacked: a real pool in a process of its own, told what to do by lines of JSON.

Run as `python supervisor.py TIER FOLDER`: requests on stdin, each answered by a line on stdout. Around it stands what
an attacker may want: a data folder with a token, services of the machine, and a process of the same user. All of it
reports whether it was reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import resource
import subprocess
import sys
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop

from eventfn.clock import SystemClock
from eventfn.event import Invocation, Outcome
from eventfn.functions.model import FileSystem, Function, Workers
from eventfn.sandbox.probe import Probe
from eventfn.units import Duration
from eventfn.workers.contract import Prepared
from eventfn.workers.pool import WorkerPool
from eventfn.workers.runtimes import python

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
_KEPT_LINES = 200
_KEPT_OF_A_LINE = 200  # characters


class Sink:
    """What the functions log: all of it counted, the latest of it kept."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self.bytes = 0
        self.longest = 0

    def write(self, function: str, stream: str, timestamp_ms: int, message: str) -> None:
        self.lines.append(f"{function}: {message[:_KEPT_OF_A_LINE]}")
        self.bytes += len(message)
        self.longest = max(self.longest, len(message))

    def write_all(self, function: str, stream: str, messages: Sequence[tuple[int, str]]) -> None:
        for timestamp_ms, message in messages:
            self.write(function, stream, timestamp_ms, message)


class Services:
    """What listens on this machine, and what came to it."""

    def __init__(self, folder: Path) -> None:
        self.reached: list[str] = []
        self.abstract = f"eventfn-attack-{uuid.uuid4().hex}"
        self._folder = folder
        self._servers: list[asyncio.Server] = []
        self.port = 0
        self.paths: list[str] = []

    async def start(self) -> None:
        tcp = await asyncio.start_server(self._came_to("loopback"), "127.0.0.1", 0)
        self.port = tcp.sockets[0].getsockname()[1]
        abstract = await asyncio.start_unix_server(self._came_to("abstract"), f"\0{self.abstract}")
        self._servers += [tcp, abstract]
        for folder in (str(self._folder), "/tmp", "/run"):
            path = f"{folder}/{self.abstract}.sock"
            with contextlib.suppress(PermissionError):  # an ordinary user has nothing under /run
                self._servers.append(await asyncio.start_unix_server(self._came_to(path), path))
                os.chmod(path, 0o777)
                self.paths.append(path)

    def _came_to(self, name: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.reached.append(name)
            writer.write(b"the machine's")
            with contextlib.suppress(OSError):
                await writer.drain()
            writer.close()

        return answer

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for path in self.paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


class Supervisor:
    def __init__(self, tier: str, folder: Path) -> None:
        self._folder = folder
        self._probe = Probe()
        found = self._probe.sandbox()
        if tier == "full" and found.tier != "full":
            self._say({"skip": f"no full tier here: {found.reason}"})
            raise SystemExit
        self._sandbox = found.lowered(tier)  # type: ignore[arg-type]  # one of them
        self._sink = Sink()
        self._pool = WorkerPool(Workers(init_timeout=Duration(10)), SystemClock(), self._sink)
        self._services = Services(folder)
        self._interpreter = python.find(Function(name="any", handler="a.b", code=str(folder)))
        self._versions = 0
        self._data = folder / "data"
        self._victim: subprocess.Popen[bytes]

    async def run(self) -> None:
        self._data.mkdir(mode=0o700)
        for name in ("node.json", "eventfn.db"):
            (self._data / name).write_text(f"token-of-{name}")
            (self._data / name).chmod(0o600)
        (self._folder / "own").write_text("a file of this user")
        lent = self._folder / "lent"
        lent.mkdir()
        (lent / "kept").write_text("lent")
        (lent / "out").symlink_to(self._data / "node.json")
        environment = {"SECRET": "known-to-the-machine-alone", "PATH": os.environ["PATH"]}
        self._victim = subprocess.Popen(["sleep", "1000"], env=environment, stdin=subprocess.DEVNULL)
        await self._services.start()
        await self._pool.start(self._sandbox)
        try:
            self._say({"walls": {wall.name: wall.enforced for wall in self._sandbox.walls()}, **self._bait()})
            reader = asyncio.StreamReader(limit=64 * 1024 * 1024)  # of a line, with an event in it
            await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
            tasks: set[asyncio.Task[None]] = set()
            while line := await reader.readline():
                task = asyncio.create_task(self._answer(json.loads(line)))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            await self._pool.close()
            self._services.close()
            self._victim.kill()
            self._victim.wait()
            self._probe.close()

    def _bait(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "victim": self._victim.pid,
            "folder": str(self._folder),
            "data": str(self._data),
            "lent": str(self._folder / "lent"),
            "port": self._services.port,
            "abstract": self._services.abstract,
            "sockets": self._services.paths,
        }

    def _say(self, answer: object) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    async def _answer(self, request: dict[str, Any]) -> None:
        do = getattr(self, f"do_{request['do']}")
        try:
            self._say({"number": request["number"], "answer": await do(**request["with"])})
        except Exception as error:
            self._say({"number": request["number"], "broken": repr(error)})

    # --- what it can be told -----------------------------------------------------------------------------------------

    async def do_deploy(self, name: str, files: dict[str, str], settings: dict[str, Any]) -> str:
        """Where the code is on the machine."""
        self._versions += 1
        root = self._folder / "code" / f"{name}-{self._versions}"
        root.mkdir(parents=True)
        for file, text in files.items():
            (root / file).write_text(text)
        if "file_system_configs" in settings:
            settings["file_system_configs"] = tuple(FileSystem(**each) for each in settings["file_system_configs"])
        if isinstance(settings.get("network"), list):
            settings["network"] = tuple(settings["network"])
        function = Function(name=name, handler="main.handler", code=str(root), **settings)
        self._pool.deploy(
            Prepared(
                function=function,
                arn=ARN + name,
                version=str(self._versions),
                task_root=str(root),
                interpreter=self._interpreter.path,
                runtime=self._interpreter.runtime,
            )
        )
        return str(root)

    async def do_invoke(self, name: str, event: object) -> dict[str, Any]:
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        payload = json.dumps(event).encode()
        self._pool.invoke(Invocation(str(uuid.uuid4()), name, payload, ARN + name), answer.set_result)
        outcome = await answer
        text = outcome.payload.decode("utf-8", "replace") if len(outcome.payload) < 1_000_000 else "long"
        return {
            "ok": outcome.ok,
            "payload": text,
            "type": outcome.error_type,
            "message": outcome.error_message,
        }

    async def do_retire(self, name: str) -> None:
        """Until nothing of it is left that the pool knows of."""
        self._pool.retire(name)
        while (stats := self._pool.stats(name)).environments or stats.starting or stats.in_flight:
            await asyncio.sleep(0.002)

    async def do_state(self) -> dict[str, Any]:
        """Of this process, and of all that it guards."""
        statm = Path("/proc/self/statm").read_text().split()
        digest = hashlib.sha256()
        for path in sorted(self._data.rglob("*")):
            digest.update(f"{path} {path.lstat().st_mode:o} {path.read_bytes()!r}".encode())
        return {
            "resident_kb": int(statm[1]) * resource.getpagesize() // 1024,
            "descriptors": _descriptors(),
            "data": digest.hexdigest(),
            "victim": self._victim.poll() is None,
            "reached": self._services.reached,
        }

    async def do_lines(self) -> dict[str, Any]:
        return {"lines": list(self._sink.lines), "bytes": self._sink.bytes, "longest": self._sink.longest}


def _descriptors() -> int:
    """Those behind which an environment may be, or its cgroup; libuv keeps a /dev/null in reserve, which is its own."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            behind = os.readlink(f"/proc/self/fd/{name}")
            count += 1 if behind.startswith(("socket:", "pipe:", "anon_inode:[pidfd]", "/sys", "/proc")) else 0
    return count


if __name__ == "__main__":
    os.environ["SUPERVISORS_SECRET"] = "known-to-the-supervisor-alone"
    uvloop.run(Supervisor(sys.argv[1], Path(sys.argv[2])).run())

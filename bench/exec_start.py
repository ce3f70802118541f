"""How long does the first request to a program take that speaks the Runtime API? From the request to the answer.

Beside the same program alone: started without a sandbox, against a server on loopback that gives it one event at once,
until its answer is posted. What is beyond that is eventfn's: the trigger, the walls, the Runtime API. A Node.js
handler, and a `bootstrap` in Python without its site packages.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import running
from bench.asking import Connection
from bench.rounds import Plan
from bench.table import OURS, Row, rows
from eventfn.workers.runtimes import nodejs, python

FUNCTIONS_PER_ROUND = 10
PAUSE = 0.1  # seconds

_FUNCTION = """
[functions.{kind}{number}]
handler = "index.handler"
code = "{kind}"
runtime = "{runtime}"
memory_size = 1769

[[functions.{kind}{number}.triggers]]
type = "http"
method = "POST"
path = "/{kind}/{number}"
"""
_HANDLER = "exports.handler = async event => ({ statusCode: 200, body: 'ok' })\n"
_BOOTSTRAP = """#!{python} -IS
import http.client, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    api.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = api.getresponse()
    answer.read()
    request = answer.headers["Lambda-Runtime-Aws-Request-Id"]
    api.request("POST", f"/2018-06-01/runtime/invocation/{{request}}/response", b'{{"statusCode": 200, "body": "ok"}}')
    api.getresponse().read()
"""


async def measure(plan: Plan) -> list[Row]:
    count = plan.rounds * FUNCTIONS_PER_ROUND
    with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as name:
        folder = Path(name)
        commands = _project(folder, count + 1)
        took: dict[str, tuple[list[float], list[float]]] = {kind: ([], []) for kind in commands}
        async with running.node(folder) as node:
            functions = Connection(node.http)
            for kind in commands:
                await asyncio.to_thread(functions.post, f"/{kind}/0")  # the zygote is up, and files are in memory
            for number in range(1, count + 1):
                for kind, command in commands.items():
                    await asyncio.sleep(PAUSE)
                    took[kind][0].append(await asyncio.to_thread(functions.post, f"/{kind}/{number}"))
                    await asyncio.sleep(PAUSE)
                    took[kind][1].append(await _alone(command, folder / kind))
            functions.close()
    return [row for kind, (ours, alone) in took.items() for row in _rows(kind, ours, alone)]


def _rows(kind: str, ours: Sequence[float], alone: Sequence[float]) -> list[Row]:
    mine, bare = statistics.median(ours), statistics.median(alone)
    beside = f"{kind} alone"
    what = f"first request to a program, {kind}, p50"
    return [
        *rows(what, "ms", "less", {OURS: mine, beside: bare}),
        Row(f"what eventfn adds to the start of {kind}", "ms", mine - bare, beside, bare, "less"),
    ]


def _project(folder: Path, functions: int) -> dict[str, list[str]]:
    """What is declared in it: the command line of each kind of program."""
    own = python.own().path
    commands = {"python": [str(folder / "python" / "bootstrap")]}
    runtimes = {"python": "provided.al2023"}
    (folder / "python").mkdir()
    (folder / "python" / "bootstrap").write_text(_BOOTSTRAP.format(python=own))
    (folder / "python" / "bootstrap").chmod(0o755)
    if (node := shutil.which("node")) is not None:
        found = re.match(r"v(\d+)", subprocess.run([node, "--version"], capture_output=True, text=True).stdout)
        assert found is not None, "node says its version"
        (folder / "node").mkdir()
        (folder / "node" / "index.js").write_text(_HANDLER)
        commands["node"] = [node, f"{nodejs.BOOTSTRAP}/bootstrap.cjs"]
        runtimes["node"] = f"nodejs{found[1]}.x"
    declared = [
        _FUNCTION.format(kind=kind, number=number, runtime=runtimes[kind])
        for kind in commands
        for number in range(functions)
    ]
    (folder / "eventfn.toml").write_text("".join(declared))
    return commands


async def _alone(command: Sequence[str], code: Path) -> float:
    """Milliseconds until it has answered its first event, with nobody around it."""
    answered: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET ") and not answered.done():
                    facts = f"Lambda-Runtime-Aws-Request-Id: 1\r\nLambda-Runtime-Deadline-Ms: {time.time_ns()}\r\n"
                    arn = "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:f\r\n"
                    kind = "Content-Type: application/json\r\nContent-Length: 2\r\n"
                    writer.write(f"HTTP/1.1 200 OK\r\n{facts}{arn}{kind}\r\n{{}}".encode())
                elif head.startswith(b"POST "):
                    if not answered.done():
                        answered.set_result(time.perf_counter())
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    variables = {
        "PATH": os.environ["PATH"],
        "AWS_LAMBDA_RUNTIME_API": f"{host}:{port}",
        "AWS_LAMBDA_FUNCTION_NAME": "f",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f",
        "AWS_LAMBDA_LOG_STREAM_NAME": "s",
        "LAMBDA_TASK_ROOT": str(code),
        "_HANDLER": "index.handler",
    }
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command, env=variables, cwd=code, stdout=subprocess.DEVNULL, stderr=sys.stderr
    )
    try:
        async with asyncio.timeout(running.PATIENCE):
            return (await answered - began) * 1000
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        server.close()

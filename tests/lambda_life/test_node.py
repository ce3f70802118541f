"""What a Node.js function may do to itself, in its sandbox: tests/workers/runtimes has what the runtime does alone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.lambda_life.conftest import Team, node_runtime
from tests.support import PATIENCE

_CODE = """
const fs = require('node:fs')
const me = require('node:crypto').randomUUID()

exports.handler = async (event) => {
  switch (event.do) {
    case 'reject': Promise.reject(new Error('lost')); await new Promise((resolve) => setTimeout(resolve, 5000)); break
    case 'throw': setTimeout(() => { throw new TypeError('lost') }); await new Promise(() => {}); break
    case 'exit': process.exit(3)
    case 'large': return 'x'.repeat(event.bytes)
    case 'sleep': await new Promise((resolve) => setTimeout(resolve, 60000)); break
    case 'fill': { const all = []; for (;;) all.push(Buffer.alloc(16 << 20, 1)) }
    case 'later': setTimeout(() => { throw new Error('too late') }, 1); break
    case 'log': console.log('logged', {a: 1}); console.error(new RangeError('shown')); break
    case 'write': fs.writeFileSync('/var/task/x', ''); break
  }
  const { AWS_EXECUTION_ENV, NODE_PATH, LAMBDA_TASK_ROOT, _X_AMZN_TRACE_ID } = process.env
  return { me, cwd: process.cwd(), AWS_EXECUTION_ENV, NODE_PATH, LAMBDA_TASK_ROOT, _X_AMZN_TRACE_ID }
}
"""


def deploy(team: Team, name: str, folder: Path, code: str = _CODE, **more: Any) -> str:
    folder.mkdir(parents=True)
    (folder / "index.js").write_text(code)
    return team.deploy(name, "index.handler", node_runtime(), folder=folder, **more)


def failure(team: Team, name: str, **event: Any) -> tuple[str, str]:
    answer = team.lab.client.invoke(FunctionName=name, Payload=json.dumps(event))
    assert answer["FunctionError"] == "Unhandled"
    error = json.loads(answer["Payload"].read())
    message = error["errorMessage"].replace(answer["ResponseMetadata"]["RequestId"], "ID")
    return error["errorType"], message


def until_answered_by(team: Team, name: str, me: str) -> None:
    """Its environment may not be free yet when its caller asks again: then another one answers."""
    deadline = time.monotonic() + PATIENCE
    while team.invoke(name, {})["me"] != me:
        assert time.monotonic() < deadline, f"{me} never answered again"


def test_what_a_function_does_to_itself_fails_its_request_only(team: Team, tmp_path: Path) -> None:
    name = deploy(team, "node-hostile", tmp_path / "code", Timeout=5, MemorySize=256)
    facts = team.invoke(name, {})
    runtime = node_runtime()
    assert (facts["cwd"], facts["LAMBDA_TASK_ROOT"]) == ("/var/task", "/var/task")
    assert facts["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{runtime}"
    layers = (
        f"/opt/nodejs/node{runtime.removeprefix('nodejs').removesuffix('.x')}/node_modules:/opt/nodejs/node_modules"
    )
    assert facts["NODE_PATH"].startswith(layers)
    until_answered_by(team, name, facts["me"])

    assert failure(team, name, do="reject") == ("Runtime.UnhandledPromiseRejection", "Error: lost")
    assert team.invoke(name, {})["me"] != facts["me"]
    assert failure(team, name, do="throw") == ("TypeError", "lost")
    exited = "RequestId: ID Error: Runtime exited with error: "
    assert failure(team, name, do="exit") == ("Runtime.ExitError", exited + "exit status 3")
    late = "RequestId: ID Error: Task timed out after 5.00 seconds"
    assert failure(team, name, do="sleep") == ("Sandbox.Timedout", late)
    assert failure(team, name, do="fill") == ("Runtime.OutOfMemory", exited + "signal: killed")
    # The handler's own errors, and an answer that is too large, leave its process.
    me = team.invoke(name, {})["me"]
    assert failure(team, name, do="write")[1].startswith("EROFS: read-only file system")
    until_answered_by(team, name, me)

    text = "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
    assert failure(team, name, do="large", bytes=6_291_556) == ("Function.ResponseSizeTooLarge", text)
    assert len(team.invoke(name, {"do": "large", "bytes": 6_000_000})) == 6_000_000
    until_answered_by(team, name, me)


def test_what_cannot_be_loaded_says_why_each_time(team: Team, tmp_path: Path) -> None:
    missing = deploy(team, "node-missing", tmp_path / "missing", "require('nowhere')")
    for _ in range(2):
        error, message = failure(team, missing)
        assert (error, message.partition("\n")[0]) == (
            "Runtime.ImportModuleError", "Error: Cannot find module 'nowhere'",
        )  # fmt: skip
    wrong = deploy(team, "node-wrong", tmp_path / "wrong", "exports.handler = async () => {")
    assert failure(team, wrong)[0] == "Runtime.UserCodeSyntaxError"
    other = deploy(team, "node-other", tmp_path / "other", "exports.other = async () => 1")
    assert failure(team, other) == ("Runtime.HandlerNotFound", "index.handler is undefined or not exported")


def test_logs_in_json(team: Team, tmp_path: Path) -> None:
    name = deploy(team, "node-json", tmp_path / "code", LoggingConfig={"LogFormat": "JSON"})
    team.invoke(name, {"do": "log"})
    line = json.loads(team.logged(name, "logged"))
    assert (line["level"], line["message"]) == ("INFO", "logged { a: 1 }")
    line = json.loads(team.logged(name, "shown"))
    assert (line["level"], line["message"]["errorType"]) == ("ERROR", "RangeError")

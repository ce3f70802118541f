"""Handlers that do what they should not, in a whole node: whoever waits gets Lambda's 502, an event ends in the dead
letters with its error, and the node serves the next request as if nothing had been.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import RunningNode, running_node, until, write_project

# function -> (its body, or a whole module; Lambda's error type)
BAD = {
    "exits": ("sys.exit(1)", "Runtime.ExitError"),
    "exits_well": ("os._exit(0)", "Runtime.ExitError"),
    "crashes": ("os.kill(os.getpid(), signal.SIGSEGV)", "Runtime.ExitError"),
    "hangs": ("time.sleep(600)", "Sandbox.Timedout"),
    "spins": ("while True: pass", "Sandbox.Timedout"),
    "ignores_sigterm": ("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)", "Sandbox.Timedout"),
    "floods": ("while True: print('x' * 1000)", "Sandbox.Timedout"),
    "returns_7_mb": ("return 'x' * 7_000_000", "Function.ResponseSizeTooLarge"),
    "returns_no_json": ("return {1, 2}", "Runtime.MarshalError"),
    "raises": ("raise LookupError('nothing there')", "LookupError"),
}
FAILS_TO_START = {
    "imports_nothing": ("import does_not_exist", "Runtime.ImportModuleError"),
    "has_no_handler": ("def another(event, context): pass", "Runtime.HandlerNotFound"),
    "does_not_parse": ("def handler(event, context:", "Runtime.UserCodeSyntaxError"),
    "raises_at_once": ("raise OSError('no')", "OSError"),
    "exits_at_once": ("import os; os._exit(3)", "Runtime.ExitError"),
}
EXPECTED = {name: error for name, (_, error) in (BAD | FAILS_TO_START).items()}


def project(folder: Path) -> Path:
    names = [*EXPECTED, "good"]
    declaration = "\n".join(
        f"""
[functions.{name}]
handler = "{name}.handler"
memory_size = 1769  # a whole CPU: what is tested is not how slow a small one is
timeout = "{"500ms" if EXPECTED.get(name) == "Sandbox.Timedout" else "30s"}"
maximum_retry_attempts = 0

[[functions.{name}.triggers]]
type = "http"
path = "/{name}"
"""
        for name in names
    )
    head = "import os, signal, sys, time\ndef handler(event, context):\n    "
    modules = {name: head + body for name, (body, _) in BAD.items()}
    modules |= {name: module for name, (module, _) in FAILS_TO_START.items()}
    modules["good"] = head + "return 'good'"
    return write_project(folder, declaration, **modules)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(project(tmp_path / "project"), tmp_path / "data") as node:
        yield node


async def test_whoever_waits_gets_a_502_and_the_next_one_is_served(node: RunningNode) -> None:
    for name in EXPECTED:
        assert await node.fetch("GET", f"/{name}") == (502, b"Internal Server Error"), name
        assert await node.fetch("GET", "/good") == (200, b"good"), f"after {name}"
        last_error = (await node.function(name))["last_error"]
        assert last_error["error_type"] == EXPECTED[name], name
    assert "Traceback" not in node.output()


async def test_all_at_once_they_take_nothing_from_the_one_that_behaves(node: RunningNode) -> None:
    bad = [asyncio.create_task(node.fetch("GET", f"/{name}")) for name in EXPECTED]
    served = 0
    while not all(task.done() for task in bad):
        assert await node.fetch("GET", "/good") == (200, b"good")
        served += 1
    assert {task.result() for task in bad} == {(502, b"Internal Server Error")}
    assert served > len(bad)


async def test_an_event_ends_in_the_dead_letters_with_its_error(node: RunningNode) -> None:
    accepted = {await node.submit(name, {"for": name}): name for name in EXPECTED}

    async def all_there() -> list[dict[str, str]] | None:
        found = await node.messages("dead-letters")
        return found if len(found) >= len(accepted) else None

    messages = await until(all_there, "every event is in the dead letters")
    records = [json.loads(message["body"]) for message in messages]
    assert sorted(record["requestContext"]["requestId"] for record in records) == sorted(accepted)
    for record in records:
        name = accepted[record["requestContext"]["requestId"]]
        assert record["requestPayload"] == {"for": name}
        assert record["requestContext"]["condition"] == "RetriesExhausted"
        assert record["responseContext"]["functionError"] == "Unhandled"
        assert record["responsePayload"]["errorType"] == EXPECTED[name], name
    assert await node.fetch("GET", "/good") == (200, b"good")
    assert "Traceback" not in node.output()

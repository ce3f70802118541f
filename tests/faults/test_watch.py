"""`eventfn run --watch`: what changes is loaded while requests come in, and none of them is lost."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.processes import alive, handlers
from tests.support import RunningNode, running_node, until, write_project

PROJECT = """
[functions.hello]
handler = "hello.handler"

[[functions.hello.triggers]]
type = "http"
path = "/hello"
"""
OTHER = """
[functions.other]
handler = "hello.handler"

[[functions.other.triggers]]
type = "http"
path = "/other"
"""


def code(answer: str) -> str:
    return f'def handler(event, context):\n    return "{answer}"\n'


def save(path: Path, text: str) -> None:
    """As editors do: written beside it, then moved over it."""
    draft = path.with_name(f".{path.name}.swp")
    draft.write_text(text)
    draft.rename(path)


def answers(node: RunningNode, path: str, expected: tuple[int, bytes]) -> Any:
    async def asked() -> bool:
        return await node.fetch("GET", path) == expected

    return until(asked, f"{path} answers {expected}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project", PROJECT, hello=code("version 0"))


async def test_no_request_is_lost_while_code_changes(folder: Path, tmp_path: Path) -> None:
    module = """
import time
def handler(event, context):
    time.sleep(0.005)
    return VERSION
"""
    save(folder / "hello.py", module.replace("VERSION", "0"))
    async with running_node(folder, tmp_path / "data", "--watch") as node:
        latest = dict.fromkeys(range(8), 0)  # caller -> the version that he was answered by last
        old: set[int] = set()  # processes of versions before the last
        stop = asyncio.Event()

        async def ask(caller: int) -> None:
            while not stop.is_set():
                status, body = await node.fetch("GET", "/hello")
                assert status == 200, (status, body, node.output())
                latest[caller] = json.loads(body)

        async with asyncio.TaskGroup() as tasks:
            for caller in latest:
                tasks.create_task(ask(caller))
            for version in range(1, 6):
                old |= handlers(node.process.pid, "hello")
                save(folder / "hello.py", module.replace("VERSION", str(version)))
                await until(lambda: set(latest.values()) == {version}, f"all see version {version}")  # noqa: B023
            stop.set()
        counts = (await node.function("hello"))["counts"]
        assert counts["errors"] == counts["system_errors"] == counts["throttles"] == 0
        assert len(old) >= 4, "the versions before had processes"
        await until(lambda: not any(map(alive, old)), "nothing of the old versions stays")


async def test_a_mistake_changes_nothing_and_is_told(folder: Path, tmp_path: Path) -> None:
    async with running_node(folder, tmp_path / "data", "--watch") as node:
        save(folder / "eventfn.toml", PROJECT + "[functions.broken\n")
        await until(lambda: "eventfn.toml:8" in node.output(), "the mistake is shown with its line")
        assert await node.fetch("GET", "/hello") == (200, b"version 0")
        save(folder / "eventfn.toml", PROJECT + '[functions.broken]\nhandlre = "x.y"\n')
        await until(lambda: "functions.broken.handlre" in node.output(), "the wrong key is shown")
        assert await node.fetch("GET", "/hello") == (200, b"version 0")
        save(folder / "eventfn.toml", PROJECT + OTHER)
        await answers(node, "/other", (200, b"version 0"))
        assert await node.fetch("GET", "/hello") == (200, b"version 0")
        assert "Traceback" not in node.output()


async def test_code_that_does_not_parse_is_the_functions_error_until_it_is_mended(folder: Path, tmp_path: Path) -> None:
    async with running_node(folder, tmp_path / "data", "--watch") as node:
        assert await node.fetch("GET", "/hello") == (200, b"version 0")
        save(folder / "hello.py", "def handler(event, context:\n")
        await answers(node, "/hello", (502, b"Internal Server Error"))
        save(folder / "hello.py", code("mended"))
        await answers(node, "/hello", (200, b"mended"))


async def test_functions_and_triggers_come_go_and_move(folder: Path, tmp_path: Path) -> None:
    (folder / "eventfn.toml").write_text(PROJECT + OTHER)
    async with running_node(folder, tmp_path / "data", "--watch") as node:
        assert await node.fetch("GET", "/other") == (200, b"version 0")
        assert await node.fetch("GET", "/hello") == (200, b"version 0")
        assert len(handlers(node.process.pid, "other")) == len(handlers(node.process.pid, "hello")) == 1

        save(folder / "eventfn.toml", PROJECT)
        await answers(node, "/other", (404, b'{"message":"Not Found"}'))
        await until(lambda: not handlers(node.process.pid, "other"), "the removed function's environment is gone")
        assert len(handlers(node.process.pid, "hello")) == 1
        path = "/2015-03-31/functions/other/invocations"
        assert (await node.request("POST", path, data=b"{}"))[0] == 404
        assert [function["name"] for function in (await node.json("GET", "/status"))["functions"]] == ["hello"]

        save(folder / "eventfn.toml", PROJECT.replace('"/hello"', '"/moved"'))
        await answers(node, "/moved", (200, b"version 0"))
        assert await node.fetch("GET", "/hello") == (404, b'{"message":"Not Found"}')

        save(folder / "eventfn.toml", PROJECT + OTHER)
        await answers(node, "/other", (200, b"version 0"))


async def test_pulled_triggers_are_moved_too(folder: Path, tmp_path: Path) -> None:
    pulled = """
[functions.worked]
handler = "work.handler"
file_system_configs = [{ path = "done" }]
environment = { DONE = "${EVENTFN_FOLDER}/done" }
timeout = 5

[[functions.worked.triggers]]
type = "queue"
queue = "QUEUE"

[[functions.worked.triggers]]
type = "files"
path = "QUEUE"
"""
    (folder / "work.py").write_text(
        "import os, pathlib\n"
        "def handler(event, context):\n"
        "    for record in event['Records']:\n"
        "        name = record['body'] if 'body' in record else record['s3']['object']['key']\n"
        "        pathlib.Path(os.environ['DONE'], name).touch()\n"
    )
    for name in ("first", "second"):
        (folder / name).mkdir()
    (folder / "eventfn.toml").write_text(PROJECT + pulled.replace("QUEUE", "first"))
    async with running_node(folder, tmp_path / "data", "--watch") as node:
        for queue, other in (("first", "second"), ("second", "first"), ("first", "second")):
            await _send(node, queue, f"message to {queue}")
            (folder / queue / f"file_in_{queue}").touch()
            for done in (f"message to {queue}", f"file_in_{queue}"):
                await until((folder / "done" / done).exists, done)
                (folder / "done" / done).unlink()
            (folder / queue / f"file_in_{queue}").unlink()
            save(folder / "eventfn.toml", PROJECT + pulled.replace("QUEUE", other))
            await until(lambda: _reads(node, other), f"it reads {other}")  # noqa: B023


async def _send(node: RunningNode, queue: str, body: str) -> None:
    await node.json("POST", f"/queues/{queue}/messages", json={"body": body})


async def _reads(node: RunningNode, queue: str) -> bool:
    triggers = (await node.function("worked"))["triggers"]
    return all(trigger["state"] == "running" and queue in trigger["settings"] for trigger in triggers)


async def test_events_that_wait_survive_the_change_of_their_function(folder: Path, tmp_path: Path) -> None:
    """What was accepted for a function that has gone is kept in the dead letters, not dropped."""
    toml = PROJECT.replace('handler"', 'handler"\non_success = "queue:done"', 1)
    (folder / "eventfn.toml").write_text(toml)
    async with running_node(folder, tmp_path / "data", "--watch") as node:
        accepted = [await node.submit("hello", {"number": number}) for number in range(500)]
        save(folder / "eventfn.toml", toml.replace("functions.hello", "functions.renamed"))

        async def all_ended() -> list[str] | None:
            found = [*await node.messages("done"), *await node.messages("dead-letters")]
            ended = [json.loads(message["body"])["requestContext"]["requestId"] for message in found]
            return ended if len(ended) >= len(accepted) else None

        await answers(node, "/hello", (200, b"version 0"))
        assert sorted(await until(all_ended, "every event has ended")) == sorted(accepted)

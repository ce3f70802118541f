"""kill -9 of environments and of the zygote while requests run, and of the supervisor while functions hang."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

from tests.support import RunningNode, running_node, until, write_project

from .conftest import Orphans, children_of

PROJECT = """
    [functions.waits]
    handler = "work.waits"
    file_system_configs = [{ path = "shared" }]
    environment = { SHARED = "${EVENTFN_FOLDER}/shared" }
    timeout = 60
    retry_delays = ["50ms"]
    on_success = "queue:done"

    [[functions.waits.triggers]]
    type = "http"
    path = "/waits/{name}"

    [functions.quick]
    handler = "work.quick"

    [[functions.quick.triggers]]
    type = "http"
    path = "/quick"

    [functions.stubborn]
    handler = "work.stubborn"
    file_system_configs = [{ path = "shared" }]
    environment = { SHARED = "${EVENTFN_FOLDER}/shared" }
    timeout = 600

    [[functions.stubborn.triggers]]
    type = "http"
    path = "/stubborn"
"""

WORK = """
    import os, pathlib, signal, time

    def shared(name):
        return pathlib.Path(os.environ["SHARED"], name)

    def say(name):
        draft = shared(f"{name}.draft")
        draft.write_text(str(os.getpid()))
        draft.rename(shared(f"{name}.pid"))

    def waits(event, context):
        name = event["pathParameters"]["name"]
        say(name)
        while not shared(f"{name}.go").exists():
            time.sleep(0.01)
        return {"pid": os.getpid()}

    def quick(event, context):
        return {"pid": os.getpid()}

    def stubborn(event, context):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        say("stubborn")
        while True:
            pass
"""


async def pid_of(folder: Path, name: str) -> int:
    """Of the environment that works on it, once it does."""
    file = folder / "shared" / f"{name}.pid"
    await until(file.exists, f"{name} runs")
    return int(file.read_text())


async def answered(node: RunningNode, path: str) -> int:
    """The environment that answered."""
    status, body = await node.fetch("GET", path)
    assert status == 200, (path, status, body)
    pid: int = json.loads(body)["pid"]
    return pid


async def test_a_killed_environment_fails_its_own_request_and_no_other(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project", PROJECT, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:
        other = asyncio.create_task(node.fetch("GET", "/waits/other"))
        mine = asyncio.create_task(node.fetch("GET", "/waits/mine"))
        living = await pid_of(folder, "other")
        os.kill(await pid_of(folder, "mine"), signal.SIGKILL)
        assert await mine == (502, b"Internal Server Error")
        await answered(node, "/quick")
        (folder / "shared" / "other.go").touch()
        status, body = await other
        assert (status, json.loads(body)) == (200, {"pid": living})
        (folder / "shared" / "mine.go").touch()
        assert await answered(node, "/waits/mine") == living  # it is the only one left


async def test_the_event_of_a_killed_environment_is_tried_again(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project", PROJECT, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:
        request_id = await node.submit("waits", {"pathParameters": {"name": "event"}})
        first = await pid_of(folder, "event")
        (folder / "shared" / "event.pid").unlink()
        os.kill(first, signal.SIGKILL)
        second = await pid_of(folder, "event")
        (folder / "shared" / "event.go").touch()
        (message,) = await until(lambda: node.messages("done"), "the event is done")
        record = json.loads(message["body"])
        assert record["requestContext"]["requestId"] == request_id
        assert record["requestContext"]["approximateInvokeCount"] == 2
        assert record["responsePayload"] == {"pid": second}


async def test_a_killed_zygote_takes_no_environment_with_it_and_is_replaced(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project", PROJECT, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:
        warm = await answered(node, "/quick")
        running = asyncio.create_task(node.fetch("GET", "/waits/first"))
        environment = await pid_of(folder, "first")
        zygotes = set(children_of(node.process.pid)) - {warm, environment}
        assert len(zygotes) == 1, "the node's children are its environments and one zygote"
        os.kill(zygotes.pop(), signal.SIGKILL)
        assert await answered(node, "/quick") == warm
        second = asyncio.create_task(node.fetch("GET", "/waits/second"))  # needs a new environment
        assert await pid_of(folder, "second") not in (warm, environment)
        (folder / "shared" / "first.go").touch()
        (folder / "shared" / "second.go").touch()
        status, body = await running
        assert (status, json.loads(body)) == (200, {"pid": environment})
        assert (await second)[0] == 200


async def test_zygotes_and_environments_killed_over_and_over_lose_no_event(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project", PROJECT, work=WORK)
    (folder / "shared").mkdir()
    (folder / "shared" / "event.go").touch()
    (folder / "eventfn.toml").write_text(
        (folder / "eventfn.toml").read_text().replace('"50ms"]', '"10ms"]\nmaximum_retry_attempts = 100')
    )
    async with running_node(folder, tmp_path / "data") as node:
        accepted: set[str] = set()
        for n in range(200):
            accepted.add(await node.submit("waits", {"pathParameters": {"name": "event"}}))
            if n % 5 == 0:
                for pid in children_of(node.process.pid):
                    os.kill(pid, signal.SIGKILL)

        async def done() -> bool:
            records = [json.loads(message["body"]) for message in await node.messages("done")]
            return sorted(record["requestContext"]["requestId"] for record in records) == sorted(accepted)

        await until(done, "each event is done, once")
        events = (await node.function("waits"))["events"]
        assert events["visible"] + events["in_flight"] + events["delayed"] == 0


async def test_a_killed_supervisor_leaves_no_process_behind(tmp_path: Path, orphans: Orphans) -> None:
    folder = write_project(tmp_path / "project", PROJECT, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:
        await answered(node, "/quick")
        waiting = asyncio.create_task(node.fetch("GET", "/waits/for-ever"))
        spinning = asyncio.create_task(node.fetch("GET", "/stubborn"))
        await pid_of(folder, "for-ever")
        await pid_of(folder, "stubborn")
        assert len(children_of(node.process.pid)) == 4, "three environments and the zygote"
        await node.kill()
        await asyncio.gather(waiting, spinning, return_exceptions=True)
        await orphans.gone()

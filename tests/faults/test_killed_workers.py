"""kill -9 of environments and of the zygote while requests run, and of the supervisor while functions hang."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

from tests.processes import Orphans, alive, children_of, descendants_of, handlers, name_of, parent_of, zygote
from tests.support import RunningNode, running_node, until, write_project

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
    import os, pathlib, signal, time, uuid

    ME = uuid.uuid4().hex

    def shared(name):
        return pathlib.Path(os.environ["SHARED"], name)

    def say(name):
        draft = shared(f"{name}.draft")
        draft.write_text(ME)
        draft.rename(shared(f"{name}.worker"))

    def waits(event, context):
        name = event["pathParameters"]["name"]
        say(name)
        while not shared(f"{name}.go").exists():
            time.sleep(0.01)
        return {"me": ME}

    def quick(event, context):
        return {"me": ME}

    def stubborn(event, context):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        say("stubborn")
        while True:
            pass
"""


async def worker_on(folder: Path, name: str) -> str:
    """The environment that works on it, once it does, as it calls itself."""
    file = folder / "shared" / f"{name}.worker"
    await until(file.exists, f"{name} runs")
    return file.read_text()


async def answered(node: RunningNode, path: str) -> str:
    """The environment that answered."""
    status, body = await node.fetch("GET", path)
    assert status == 200, (path, status, body)
    me: str = json.loads(body)["me"]
    return me


async def test_a_killed_environment_fails_its_own_request_and_no_other(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project", PROJECT, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:
        other = asyncio.create_task(node.fetch("GET", "/waits/other"))
        living = await worker_on(folder, "other")
        others = handlers(node.process.pid, "waits")
        mine = asyncio.create_task(node.fetch("GET", "/waits/mine"))
        await worker_on(folder, "mine")
        (process,) = handlers(node.process.pid, "waits") - others
        os.kill(process, signal.SIGKILL)
        assert await mine == (502, b"Internal Server Error")
        await answered(node, "/quick")
        (folder / "shared" / "other.go").touch()
        status, body = await other
        assert (status, json.loads(body)) == (200, {"me": living})
        (folder / "shared" / "mine.go").touch()
        assert await answered(node, "/waits/mine") == living  # it is the only one left


async def test_the_event_of_a_killed_environment_is_tried_again(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project", PROJECT, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:
        request_id = await node.submit("waits", {"pathParameters": {"name": "event"}})
        first = await worker_on(folder, "event")
        (folder / "shared" / "event.worker").unlink()
        (process,) = handlers(node.process.pid, "waits")
        os.kill(process, signal.SIGKILL)
        second = await worker_on(folder, "event")
        assert second != first
        (folder / "shared" / "event.go").touch()
        (message,) = await until(lambda: node.messages("done"), "the event is done")
        record = json.loads(message["body"])
        assert record["requestContext"]["requestId"] == request_id
        assert record["requestContext"]["approximateInvokeCount"] == 2
        assert record["responsePayload"] == {"me": second}


async def test_a_killed_zygote_takes_no_environment_with_it_and_is_replaced(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project", PROJECT, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:
        warm = await answered(node, "/quick")
        running = asyncio.create_task(node.fetch("GET", "/waits/first"))
        environment = await worker_on(folder, "first")
        (process,) = handlers(node.process.pid, "waits")
        dead = zygote(node.process.pid)
        assert parent_of(parent_of(process)) == node.process.pid, "environments are the node's, not the zygote's"
        os.kill(dead, signal.SIGKILL)
        await until(lambda: not alive(dead), "the zygote has ended")
        assert await answered(node, "/quick") == warm
        second = asyncio.create_task(node.fetch("GET", "/waits/second"))  # needs a new environment
        assert await worker_on(folder, "second") not in (warm, environment)
        assert zygote(node.process.pid) != dead
        (folder / "shared" / "first.go").touch()
        (folder / "shared" / "second.go").touch()
        status, body = await running
        assert (status, json.loads(body)) == (200, {"me": environment})
        assert (await second)[0] == 200
        assert alive(process)


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
                    with contextlib.suppress(ProcessLookupError):  # it has ended already
                        os.kill(pid, signal.SIGKILL)

        async def done() -> bool:
            records = [json.loads(message["body"]) for message in await node.messages("done")]
            return sorted(record["requestContext"]["requestId"] for record in records) == sorted(accepted)

        await until(done, "each event is done, once")
        events = (await node.function("waits"))["events"]
        assert events["visible"] + events["in_flight"] + events["delayed"] == 0


async def test_sandboxes_of_a_killed_zygote_that_nobody_took_go_with_it(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project", PROJECT, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:
        first = asyncio.create_task(node.fetch("GET", "/waits/first"))
        await worker_on(folder, "first")
        await until(lambda: len(blanks(node)) >= 2, "sandboxes stand ready")
        dead, left = zygote(node.process.pid), blanks(node)
        os.kill(dead, signal.SIGKILL)
        await until(lambda: not alive(dead), "the zygote has ended")
        second = asyncio.create_task(node.fetch("GET", "/waits/second"))  # needs a zygote that lives
        await worker_on(folder, "second")
        await until(lambda: not any(map(alive, left)), "they have ended")
        for name, running in (("first", first), ("second", second)):
            (folder / "shared" / f"{name}.go").touch()
            assert (await running)[0] == 200


def blanks(node: RunningNode) -> set[int]:
    """The inits of sandboxes that are no function's yet."""
    inits = {pid for pid in children_of(node.process.pid) if name_of(pid) == "fn:init"}
    return {pid for pid in inits if not any(name_of(child).startswith("fn:") for child in children_of(pid))}


async def test_a_killed_supervisor_leaves_no_process_behind(tmp_path: Path, orphans: Orphans) -> None:
    folder = write_project(tmp_path / "project", PROJECT, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:
        await answered(node, "/quick")
        waiting = asyncio.create_task(node.fetch("GET", "/waits/for-ever"))
        spinning = asyncio.create_task(node.fetch("GET", "/stubborn"))
        await worker_on(folder, "for-ever")
        await worker_on(folder, "stubborn")
        for name in ("quick", "waits", "stubborn"):
            assert len(handlers(node.process.pid, name)) == 1
        everything = descendants_of(node.process.pid)
        await node.kill()
        await asyncio.gather(waiting, spinning, return_exceptions=True)
        await until(lambda: not any(map(alive, everything)), "everything that it had started has ended")
        await orphans.gone()

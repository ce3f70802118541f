"""A node that is told to stop: it finishes what runs, hands back the rest, loses nothing, and exits 0."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.processes import Orphans
from tests.support import RunningNode, running_node, until, write_project

PROJECT = """
    [workers]
    drain_timeout = "{drain_timeout}"

    [queues.jobs]
    visibility_timeout = "60s"

    [functions.slow]
    handler = "work.slow"
    file_system_configs = [{{ path = "shared" }}]
    environment = {{ SHARED = "${{EVENTFN_FOLDER}}/shared" }}
    timeout = 60
    on_success = "queue:done"

    [[functions.slow.triggers]]
    type = "http"
    path = "/slow/{{name}}"

    [functions.worked]
    handler = "work.worked"
    file_system_configs = [{{ path = "shared" }}]
    environment = {{ SHARED = "${{EVENTFN_FOLDER}}/shared" }}
    timeout = 60

    [[functions.worked.triggers]]
    type = "queue"
    queue = "jobs"
    batch_size = 1
"""

WORK = """
    import os, pathlib, time

    def shared(name):
        return pathlib.Path(os.environ["SHARED"], name)

    def work_on(name):
        with shared(f"{name}.started").open("a") as file:
            file.write("x")
        while not shared(f"{name}.go").exists():
            time.sleep(0.01)
        return name

    def slow(event, context):
        return work_on(event["pathParameters"]["name"])

    def worked(event, context):
        work_on(event["Records"][0]["body"])
        shared("worked").touch()
"""


def project(folder: Path, drain_timeout: str) -> Path:
    return write_project(folder, PROJECT.format(drain_timeout=drain_timeout), work=WORK)


def event(name: str) -> dict[str, object]:
    return {"pathParameters": {"name": name}}


async def started(folder: Path, *names: str, times: int = 1) -> None:
    def all_started() -> bool:
        files = [folder / "shared" / f"{name}.started" for name in names]
        return all(file.exists() and len(file.read_text()) >= times for file in files)

    await until(all_started, f"{', '.join(names)} run")


async def refused(node: RunningNode) -> bool:
    """No new connection is taken."""
    host, _, port = node.http.removeprefix("http://").rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_what_runs_is_finished(tmp_path: Path, number: signal.Signals, orphans: Orphans) -> None:
    folder, data = project(tmp_path / "project", "30s"), tmp_path / "data"
    async with running_node(folder, data) as node:
        asked = asyncio.create_task(node.fetch("GET", "/slow/asked"))
        await node.submit("slow", event("submitted"))
        await node.json("POST", "/queues/jobs/messages", json={"body": "sent"})
        await started(folder, "asked", "submitted", "sent")
        node.process.send_signal(number)
        await until(lambda: refused(node), "new connections are refused")
        status = await node.json("GET", "/status")
        assert status["draining"], "it can still be asked how it is"
        assert not asked.done()
        for name in ("asked", "submitted", "sent"):
            (folder / "shared" / f"{name}.go").touch()
        assert await asked == (200, b"asked")
        assert await node.ended() == 0, node.output()
    assert not (data / "node.json").exists()
    assert (folder / "shared" / "worked").exists()
    await orphans.gone()
    async with running_node(folder, data) as node:
        (message,) = await until(lambda: node.messages("done"), "its record is there")
        assert json.loads(message["body"])["requestContext"]["approximateInvokeCount"] == 1
        assert (await node.function("slow"))["counts"]["invocations"] == 0
        assert (await node.function("worked"))["counts"]["invocations"] == 0
    assert (folder / "shared" / "submitted.started").read_text() == "x", "nothing ran twice"
    assert (folder / "shared" / "sent.started").read_text() == "x"


async def test_what_is_not_finished_in_time_is_handed_back_and_runs_after_the_restart(tmp_path: Path) -> None:
    folder, data = project(tmp_path / "project", "1s"), tmp_path / "data"
    async with running_node(folder, data) as node:
        asked = asyncio.create_task(node.fetch("GET", "/slow/asked"))
        request_id = await node.submit("slow", event("submitted"))
        await node.json("POST", "/queues/jobs/messages", json={"body": "sent"})
        await started(folder, "asked", "submitted", "sent")
        assert await node.stop() == 0, node.output()
        # Whoever waited is told that it did not work, or cut off, and not left hanging.
        with contextlib.suppress(aiohttp.ClientConnectionError):
            assert (await asked)[0] == 503
    assert not (folder / "shared" / "worked").exists()
    for name in ("submitted", "sent"):
        (folder / "shared" / f"{name}.go").touch()
    async with running_node(folder, data) as node:
        # Handed back means now: neither a lease nor a visibility timeout has to lapse first.
        (message,) = await until(lambda: node.messages("done"), "the event is done", 20)
        record = json.loads(message["body"])
        assert record["requestContext"]["requestId"] == request_id
        assert record["requestContext"]["approximateInvokeCount"] == 1, "the interrupted attempt did not count"
        await until((folder / "shared" / "worked").exists, "the message is worked off", 20)
    assert (folder / "shared" / "submitted.started").read_text() == "xx"
    assert (folder / "shared" / "asked.started").read_text() == "x", "nobody waits for it any more"


async def test_a_second_signal_ends_it_at_once(tmp_path: Path, orphans: Orphans) -> None:
    folder, data = project(tmp_path / "project", "600s"), tmp_path / "data"
    async with running_node(folder, data) as node:
        await node.submit("slow", event("submitted"))
        await started(folder, "submitted")
        node.process.send_signal(signal.SIGTERM)
        await until(lambda: refused(node), "the drain has begun")
        node.process.send_signal(signal.SIGTERM)
        assert await node.ended() == 128 + signal.SIGTERM
        await orphans.gone()
    (folder / "shared" / "submitted.go").touch()
    async with running_node(folder, data) as node:
        await until(lambda: node.messages("done"), "the event is done by the next node")

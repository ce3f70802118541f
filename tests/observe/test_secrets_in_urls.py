"""Of a destination the token in its URL is shown nowhere: status, metrics, logs, dead letters. It still works."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from aiohttp import web

from tests.servers.process import free_port
from tests.support import running_node, until, write_project

SECRET = "hunter2"


class Receiver:
    def __init__(self) -> None:
        self.port = 0
        self.status = 410
        self.asked: list[str] = []

    async def take(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        return web.Response(status=self.status)


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{any}", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    receiver.port = free_port()
    await web.TCPSite(runner, "127.0.0.1", receiver.port).start()
    yield receiver
    await runner.cleanup()


async def test_no_token_of_a_destination_is_shown(tmp_path: Path, receiver: Receiver) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/dead?token="
    folder = write_project(
        tmp_path / "project",
        f"""
        [functions.waits]
        handler = "work.handler"
        maximum_retry_attempts = 0
        on_failure = "{nobody}{SECRET}"
        dead_letter_queue = "{nobody}other-{SECRET}"

        [functions.refused]
        handler = "work.handler"
        maximum_retry_attempts = 0
        on_failure = "http://127.0.0.1:{receiver.port}/gone?token={SECRET}"
        """,
        work="""
        def handler(event, context):
            raise ValueError("it fails")
        """,
    )
    async with running_node(folder, tmp_path / "data") as node:
        for function in ("waits", "refused"):
            await node.submit(function, {})

        async def waiting() -> bool:
            outbox = (await node.json("GET", "/status"))["outbox"]
            return len([each for each in outbox if each["last_error"]]) == 2

        await until(waiting, "two records wait for nobody")

        async def refused() -> bool:
            queues = (await node.json("GET", "/status"))["queues"]
            return any(queue["name"] == "dead-letters" for queue in queues)

        await until(refused, "one was refused for good")
        dead = await node.messages("dead-letters")
        shown = f"http://127.0.0.1:{receiver.port}/gone?token=***#"
        assert dead[0]["attributes"]["eventfn.destination"].startswith(shown)
        _, status = await node.request("GET", "/status")
        _, metrics = await node.request("GET", "/metrics")
        for said in (status.decode(), metrics.decode(), str(dead), node.output()):
            assert SECRET not in said
        samples = [line for line in metrics.decode().splitlines() if line.startswith("eventfn_outbox_records{")]
        assert len({line.rpartition(" ")[0] for line in samples}) == len(samples), "a label set stands there once"
        assert receiver.asked == [f"/gone?token={SECRET}"]
        receiver.status = 200
        await node.json("POST", "/queues/dead-letters/redrive")
        await until(lambda: len(receiver.asked) == 2, "a redrive goes to the whole URL")
        assert receiver.asked[1] == f"/gone?token={SECRET}"

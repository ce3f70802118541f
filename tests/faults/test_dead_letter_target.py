"""A stream whose on-failure destination is down, and a node that is killed meanwhile.

The shard does not wait for the destination: a batch that is given up is in the outbox, on disk, before the mark moves
over it, and the outbox waits. Whatever is killed when, each record is handled or arrives at the destination.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.servers import aws, moto
from tests.servers.needed import need
from tests.servers.process import free_port
from tests.support import RunningNode, running_node, until, write_project

POISON = ("3", "8", "12", "17")
RECORDS = [str(number) for number in range(20)]

WORK = """
    import base64, os, pathlib

    def handler(event, context):
        bodies = [base64.b64decode(record["kinesis"]["data"]).decode() for record in event["Records"]]
        if any(body in os.environ["POISON"].split() for body in bodies):
            raise ValueError("it can never be handled")
        with pathlib.Path(os.environ["SHARED"], "handled").open("a") as file:
            file.write("".join(f"{body}\\n" for body in bodies))
"""


class Target:
    """Where dead letters go, by a destination that is found like anybody's: at a port on which nobody listens yet."""

    def __init__(self) -> None:
        self._port = free_port()
        self.uri = f"http://127.0.0.1:{self._port}/dead"
        self.received: list[dict[str, Any]] = []
        self._runner: web.AppRunner | None = None

    async def up(self) -> None:
        async def take(request: web.Request) -> web.Response:
            self.received.append(json.loads(await request.read()))
            return web.Response()

        app = web.Application()
        app.router.add_post("/dead", take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()

    async def down(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def records(self) -> list[str]:
        """What arrived, each as often as it did."""
        return [
            base64.b64decode(record["kinesis"]["data"]).decode()
            for each in self.received
            for record in each["payload"]["Records"]
        ]


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    target = Target()
    yield target
    await target.down()


def project(folder: Path, url: str, target: Target) -> Path:
    return write_project(
        folder / "project",
        f"""
        [kinesis]
        region = "{aws.REGION}"
        endpoint_url = "{url}"
        access_key_id = "test"
        secret_access_key = "secret"

        [functions.work]
        handler = "work.handler"
        file_system_configs = [{{ path = "shared" }}]
        environment = {{ SHARED = "${{EVENTFN_FOLDER}}/shared", POISON = "{" ".join(POISON)}" }}

        [[functions.work.triggers]]
        type = "kinesis"
        stream = "records"
        starting_position = "TRIM_HORIZON"
        batch_size = 5
        bisect_batch_on_function_error = true
        maximum_retry_attempts = 0
        on_failure = "{target.uri}"
        """,
        work=WORK,
    )


async def test_what_is_given_up_while_its_target_is_down_arrives_once_it_is_up(tmp_path: Path, target: Target) -> None:
    need(moto.missing())
    with moto.server(tmp_path) as server:
        folder = project(tmp_path, server.url, target)
        handled = folder / "shared" / "handled"

        def done() -> set[str]:
            return set(handled.read_text().split()) if handled.exists() else set()

        async def put(bodies: list[str]) -> None:
            for body in bodies:
                await kinesis.call("put_record", StreamName="records", Data=body.encode(), PartitionKey="same")

        async def given_up(node: RunningNode) -> bool:
            (trigger,) = (await node.function("work"))["triggers"]
            return bool(trigger["records"]["rejected"] > 0)

        async def waiting(node: RunningNode) -> bool:
            outbox = (await node.json("GET", "/status"))["outbox"]
            return [(each["destination"], bool(each["last_error"])) for each in outbox] == [(target.uri, True)]

        async with aws.client("kinesis", server.url) as kinesis:
            await kinesis.call("create_stream", StreamName="records", ShardCount=1)
            await put(RECORDS[:10])
            async with running_node(folder, tmp_path / "data") as node:
                await until(lambda: given_up(node), "something was given up")
                await node.kill()
            await put(RECORDS[10:])
            async with running_node(folder, tmp_path / "data") as node:
                wanted = {*RECORDS} - {*POISON}
                await until(lambda: done() == wanted, "the shard goes on, past all that was given up")
                assert not target.received
                await until(lambda: waiting(node), "status says what waits for whom, and why")
                await node.kill()
            await target.up()
            async with running_node(folder, tmp_path / "data") as node:
                await until(lambda: {*target.records} == {*POISON}, "every dead letter arrives")
                queues = (await node.json("GET", "/status"))["queues"]
                assert not any(queue["name"] == "dead-letters" for queue in queues), "nothing has taken another way"
    assert done() == {*RECORDS} - {*POISON}, "and nothing else"
    for record in target.received:
        assert record["requestContext"]["condition"] == "RetryAttemptsExhausted"
        assert record["KinesisBatchInfo"]["batchSize"] == 1

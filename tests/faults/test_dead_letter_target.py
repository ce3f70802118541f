"""A stream whose on-failure destination is down, and a node that is killed meanwhile.

The source is not settled until the destination is up: a batch that is given up is in the outbox, on disk, and its shard
waits until the destination has taken it. Whatever is killed when, each record is handled or arrives, and never as two.
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
        """What arrived. A node that is killed before it has noted that a record was taken sends it again, with its id:
        that is the same record. One with another id is not."""
        by_id = {each["requestContext"]["requestId"]: each for each in self.received}
        return [
            base64.b64decode(record["kinesis"]["data"]).decode()
            for each in by_id.values()
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


async def test_the_source_is_not_settled_until_its_dead_letter_target_is_up(tmp_path: Path, target: Target) -> None:
    need(moto.missing())
    with moto.server(tmp_path) as server:
        folder = project(tmp_path, server.url, target)
        handled = folder / "shared" / "handled"

        def done() -> list[str]:
            return sorted(handled.read_text().split(), key=int) if handled.exists() else []

        async def put(bodies: list[str]) -> None:
            for body in bodies:
                await kinesis.call("put_record", StreamName="records", Data=body.encode(), PartitionKey="same")

        async def trigger(node: RunningNode) -> dict[str, Any]:
            found: dict[str, Any]
            (found,) = (await node.function("work"))["triggers"]
            return found

        async def waits(node: RunningNode) -> bool:
            """Status says what waits for whom, and why."""
            waiting = [
                (each["records"], each["destination"], bool(each["reason"]))
                for each in (await trigger(node))["held_up"]
            ]
            outbox = [(each["destination"], each["depth"]) for each in (await node.json("GET", "/status"))["outbox"]]
            assert len(outbox) <= 1
            for _, depth in outbox:
                assert depth["visible"] + depth["in_flight"] + depth["delayed"] == 1, (
                    "one record, however often it dies"
                )
            return waiting == [(1, target.uri, True)]

        async with aws.client("kinesis", server.url) as kinesis:
            await kinesis.call("create_stream", StreamName="records", ShardCount=1)
            await put(RECORDS[:10])
            for _ in range(2):
                async with running_node(folder, tmp_path / "data") as node:
                    await until(lambda: waits(node), "the first poison record waits for the target")
                    assert (await trigger(node))["records"]["rejected"] == 0
                    assert done() == ["0", "1", "2"], "what is in front of it is done, and nothing behind it begins"
                    await node.kill()
            await put(RECORDS[10:])
            async with running_node(folder, tmp_path / "data") as node:
                await until(lambda: waits(node), "a new node waits for the same")
                await target.up()
                await until(lambda: len(target.received) == 1, "the target takes it")
                # In the middle of whatever comes of that: the mark has moved, or is about to.
                await node.kill()
            async with running_node(folder, tmp_path / "data") as node:
                await until(lambda: {*done()} == {*RECORDS} - {*POISON}, "the shard goes on to its end")
                await until(lambda: sorted(target.records, key=int) == [*POISON], "every dead letter arrives, once")
                assert not (await trigger(node))["held_up"]
                queues = (await node.json("GET", "/status"))["queues"]
                assert not any(queue["name"] == "dead-letters" for queue in queues), "nothing has taken another way"
    assert {*done()} == {*RECORDS} - {*POISON}, "and nothing else"
    for record in target.received:
        assert record["requestContext"]["condition"] == "RetryAttemptsExhausted"
        assert record["KinesisBatchInfo"]["batchSize"] == 1


async def test_a_node_stops_while_its_dead_letter_target_is_down(tmp_path: Path, target: Target) -> None:
    need(moto.missing())
    with moto.server(tmp_path) as server:
        folder = project(tmp_path, server.url, target)

        async def waits(node: RunningNode) -> bool:
            (trigger,) = (await node.function("work"))["triggers"]
            return bool(trigger["held_up"])

        async with aws.client("kinesis", server.url) as kinesis:
            await kinesis.call("create_stream", StreamName="records", ShardCount=1)
            await kinesis.call("put_record", StreamName="records", Data=b"3", PartitionKey="same")
            async with running_node(folder, tmp_path / "data") as node:
                await until(lambda: waits(node), "it waits for the target")
                assert await node.stop() == 0
            await target.up()
            async with running_node(folder, tmp_path / "data") as node:
                await until(lambda: target.records == ["3"], "and it arrives once it is up, once")
                assert await node.stop() == 0

"""Logs written to a CloudWatch Logs elsewhere: moto, MiniStack, and one that does what the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from eventfn.aws import log_writer
from eventfn.aws.clients import Clients
from eventfn.aws.log_writer import LogWriter
from eventfn.clock import SystemClock
from eventfn.functions.model import Aws
from eventfn.observe.logs import LogStore, read
from eventfn.observe.metrics import Metrics
from eventfn.testing import FakeClock
from tests.servers.aws import Servers, client
from tests.servers.aws_answers import AwsAnswers
from tests.servers.process import free_port
from tests.support import running_node, until, write_project


class Bench:
    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.store = LogStore(folder, self.clock)
        self.clients = Clients(Aws(endpoints={"logs": url}))
        self.writer = LogWriter(self.store, self.clients, lambda name: f"/aws/lambda/{name}", self.metrics, self.clock)

    def write(self, *texts: str, stream: str = "s", timestamp: int | None = None) -> None:
        moment = SystemClock().now_ms() if timestamp is None else timestamp
        self.writer.write_all("hello", stream, [(moment + at, text) for at, text in enumerate(texts)])

    async def close(self) -> None:
        await self.store.close()
        await self.clients.close()


@pytest_asyncio.fixture
async def aws(servers: Servers) -> AsyncGenerator[AwsAnswers]:
    async with AwsAnswers(servers.get("moto").url) as answers:
        yield answers


@pytest_asyncio.fixture
async def bench(aws: AwsAnswers, tmp_path: Path) -> AsyncGenerator[Bench]:
    made = Bench(tmp_path, aws.url)
    made.store.open()
    yield made
    await made.close()


@pytest.mark.parametrize("server", ["moto", "ministack"])
async def test_a_nodes_logs_are_there_too(servers: Servers, tmp_path: Path, server: str) -> None:
    url = servers.get(server).url
    project = write_project(
        tmp_path / "project",
        f"""
        [aws.endpoints]
        logs = "{url}"

        [functions.hello]
        handler = "work.handler"

        [functions.hello.logging_config]
        log_group = "/of/{server}"
        """,
        work="""
            def handler(event, context):
                print("hello from", event)
                return context.log_stream_name
        """,
    )
    async with client("logs", url, "us-east-1") as logs:
        async with running_node(project, tmp_path / "data") as node:
            path = "/2015-03-31/functions/hello/invocations"
            stream = json.loads((await node.request("POST", path, data=b'"one"'))[1])

            async def messages() -> list[str]:
                found = await logs.call("get_log_events", logGroupName=f"/of/{server}", logStreamName=stream)
                return [event["message"] for event in found["events"]]

            async def written() -> bool:
                groups = await logs.call("describe_log_groups", logGroupNamePrefix="/of/")
                return bool(groups["logGroups"]) and any("one" in message for message in await messages())

            await until(written, "the first line")
            await node.request("POST", path, data=b'"two"')
        found = await messages()
    assert [message for message in found if message.startswith("hello")] == ["hello from one", "hello from two"]
    assert len([message for message in found if message.startswith("REPORT")]) == 2  # what came last was not lost


async def test_what_is_not_taken_is_tried_again_in_order(bench: Bench, aws: AwsAnswers) -> None:
    aws.refuse("PutLogEvents", "ServiceUnavailableException", status=503, times=3)  # the client itself tries as often
    bench.write("a", "b")
    await bench.writer.flush()
    bench.write("c", timestamp=SystemClock().now_ms() + 10)
    await bench.writer.flush()
    assert [event["message"] for event in aws.asked("PutLogEvents")[-1]["logEvents"]] == ["a", "b", "c"]
    assert bench.metrics.log_events_dropped == 0


async def test_a_group_that_somebody_deleted_is_made_again(bench: Bench, aws: AwsAnswers) -> None:
    bench.write("a")
    await bench.writer.flush()
    aws.refuse("PutLogEvents", "ResourceNotFoundException")
    bench.write("b")
    await bench.writer.flush()
    await bench.writer.flush()
    assert len(aws.asked("CreateLogStream")) == 2
    assert [event["message"] for event in aws.asked("PutLogEvents")[-1]["logEvents"]] == ["b"]


async def test_what_is_refused_for_good_is_dropped_and_counted(bench: Bench, aws: AwsAnswers) -> None:
    aws.refuse("PutLogEvents", "InvalidParameterException", "too old")
    bench.write("a", "b")
    await bench.writer.flush()
    bench.write("c")
    await bench.writer.flush()
    assert [event["message"] for event in aws.asked("PutLogEvents")[-1]["logEvents"]] == ["c"]
    assert bench.metrics.log_events_dropped == 2


async def test_batches_keep_to_the_limits(bench: Bench, aws: AwsAnswers) -> None:
    bench.write(*["x"] * 10_001, "", "\ud800", "é" * 200_000)
    bench.write(*["y" * 200_000] * 6, stream="large")
    bench.write("early", stream="days", timestamp=SystemClock().now_ms() - 100_000_000)
    bench.write("late", stream="days")
    await bench.writer.flush()
    sizes: dict[str, list[int]] = {}
    for asked in aws.asked("PutLogEvents"):
        sizes.setdefault(asked["logStreamName"], []).append(len(asked["logEvents"]))
        assert sum(len(event["message"].encode()) + 26 for event in asked["logEvents"]) <= 1_048_576
        assert all(1 <= len(event["message"].encode()) <= 262_118 for event in asked["logEvents"])
    assert sizes == {"s": [10_000, 4], "large": [5, 1], "days": [1, 1]}


async def test_memory_is_bounded_and_the_files_have_everything(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "_MOST_WAITING", 1000)
    for at in range(100):
        bench.write(f"line {at:02}")  # 33 bytes each
    assert bench.metrics.log_events_dropped == 100 - 1000 // 33
    await bench.store.close()
    assert [line.message for line in read(bench.folder, "hello")] == [f"line {at:02}" for at in range(100)]
    await bench.writer.flush()
    bench.write("room again")
    assert bench.metrics.log_events_dropped == 100 - 1000 // 33


async def test_a_server_that_is_not_there_holds_nobody_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, f"http://127.0.0.1:{free_port()}")
    bench.store.open()
    bench.write("a", "b", "c")
    await bench.writer.flush()
    assert bench.metrics.log_events_dropped == 0
    await bench.writer.close(5)
    assert bench.metrics.log_events_dropped == 3
    await bench.close()
    assert [line.message for line in read(bench.folder, "hello")] == ["a", "b", "c"]


def _messages(asked: list[dict[str, Any]]) -> list[str]:
    return [event["message"] for each in asked for event in each["logEvents"]]


async def test_it_runs_by_itself_and_backs_off(bench: Bench, aws: AwsAnswers) -> None:
    task = asyncio.create_task(bench.writer.run())
    try:
        bench.write("first")

        async def taken() -> bool:
            await bench.clock.advance(log_writer.FLUSH_SECONDS)
            return "first" in _messages(aws.asked("PutLogEvents"))

        await until(taken, "a round by itself")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

"""CloudWatch Logs' read operations by boto3, on a node whose functions log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

from eventfn.clock import SystemClock
from eventfn.observe.logs import Line, encode
from tests.api.boto import boto_client
from tests.support import RunningNode, running_node, until, write_project

GROUP = "/aws/lambda/hello"
CODE = """
    import json


    def handler(event, context):
        for line in event:
            print(json.dumps(line) if isinstance(line, dict) else line)
        return context.log_stream_name
"""


class Logs:
    """boto3's client, off the loop; `call("describe_log_groups")`."""

    def __init__(self, node: RunningNode) -> None:
        self._client = boto_client("logs", node.admin, inject_host_prefix=False)

    async def call(self, operation: str, **parameters: Any) -> Any:
        return await asyncio.to_thread(getattr(self._client, operation), **parameters)

    async def pages(self, operation: str, **parameters: Any) -> list[Any]:
        return await asyncio.to_thread(lambda: list(self._client.get_paginator(operation).paginate(**parameters)))

    async def messages(self, **parameters: Any) -> list[str]:
        answer = await self.call("filter_log_events", logGroupName=GROUP, **parameters)
        return [event["message"] for event in answer["events"]]

    async def refused(self, operation: str, **parameters: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as refused:
            await self.call(operation, **parameters)
        said = refused.value.response["Error"]
        return said["Code"], said["Message"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[RunningNode]:
    folder = tmp_path_factory.mktemp("logs")
    project = write_project(
        folder / "project",
        """
        [functions.hello]
        handler = "work.handler"

        [functions.other]
        handler = "work.handler"
        """,
        work=CODE,
    )
    logs = folder / "data" / "logs"
    logs.mkdir(parents=True)
    (logs / "gone.log").write_bytes(encode([Line(1_000_000 + at, "s", f"line {at}") for at in range(25_000)]))
    async with running_node(project, folder / "data") as node:
        yield node


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def invoke(node: RunningNode, function: str, event: Any) -> str:
    status, body = await node.request("POST", f"/2015-03-31/functions/{function}/invocations", data=json.dumps(event))
    assert status == 200, body
    found: str = json.loads(body)
    return found


async def test_groups_are_those_of_functions_and_of_logs_that_are_left(node: RunningNode) -> None:
    logs = Logs(node)
    groups = (await logs.call("describe_log_groups"))["logGroups"]
    assert [group["logGroupName"] for group in groups] == ["/aws/lambda/gone", GROUP, "/aws/lambda/other"]
    assert groups[1]["arn"] == "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/hello:*"
    pages = await logs.pages("describe_log_groups", PaginationConfig={"PageSize": 2})
    assert [len(page["logGroups"]) for page in pages] == [2, 1]
    assert len((await logs.call("describe_log_groups", logGroupNamePrefix=GROUP))["logGroups"]) == 1
    assert len((await logs.call("describe_log_groups", logGroupNamePattern="HELL"))["logGroups"]) == 1


async def test_what_a_function_prints_is_found(node: RunningNode) -> None:
    logs = Logs(node)
    stream = await invoke(node, "hello", ["first ERROR", {"level": "WARN", "status": 503}, "second"])
    await until(lambda: logs.messages(filterPattern="second"), "the lines are there")
    everything = await logs.messages()
    assert [line for line in everything if "RequestId" not in line and "INIT_START" not in line] == [
        "first ERROR",
        '{"level": "WARN", "status": 503}',
        "second",
    ]
    assert any(line.startswith("REPORT RequestId") for line in everything)
    assert await logs.messages(filterPattern="?ERROR ?second") == ["first ERROR", "second"]
    assert await logs.messages(filterPattern="[order, level = E*]") == ["first ERROR"]
    assert await logs.messages(filterPattern="{ $.status >= 500 }") == ['{"level": "WARN", "status": 503}']
    assert await logs.messages(logStreamNames=[stream], filterPattern="ERROR") == ["first ERROR"]
    assert await logs.messages(logStreamNames=["another"]) == []
    assert await logs.messages(logStreamNamePrefix=stream[:12], filterPattern="ERROR") == ["first ERROR"]

    streams = await logs.call("describe_log_streams", logGroupName=GROUP, orderBy="LastEventTime", descending=True)
    assert streams["logStreams"][0]["logStreamName"] == stream
    by_arn = await logs.call(
        "filter_log_events", logGroupIdentifier=streams["logStreams"][0]["arn"].split(":log-stream")[0]
    )
    assert len(by_arn["events"]) == len(everything)
    events = await logs.call("get_log_events", logGroupName=GROUP, logStreamName=stream, startFromHead=True)
    assert [event["message"] for event in events["events"]] == everything

    event = (await logs.call("filter_log_events", logGroupName=GROUP, filterPattern="second"))["events"][0]
    at = event["timestamp"]
    assert "second" in await logs.messages(startTime=at, endTime=at)
    assert await logs.messages(endTime=at - 60_000) == []
    assert await logs.messages(startTime=at + 60_000) == []


async def test_new_events_are_followed_as_aws_logs_tail_does(node: RunningNode) -> None:
    """It asks again from the latest time that it has seen, and leaves out ids that it has shown."""
    logs = Logs(node)
    await invoke(node, "other", ["before"])
    shown: dict[str, str] = {}
    start = SystemClock().now_ms() - 60_000

    async def look() -> None:
        nonlocal start
        parameters: dict[str, Any] = {
            "logGroupName": "/aws/lambda/other",
            "startTime": start,
            "filterPattern": "-RequestId",
        }
        while True:
            answer = await logs.call("filter_log_events", **parameters)
            for event in answer["events"]:
                shown[event["eventId"]] = event["message"]
                start = max(start, event["timestamp"])
            if "nextToken" not in answer:
                return
            parameters["nextToken"] = answer["nextToken"]

    async def sees(text: str) -> bool:
        await look()
        return text in shown.values()

    await until(lambda: sees("before"), "the first line")
    await invoke(node, "other", ["after"])
    await until(lambda: sees("after"), "the second line")
    assert [text for text in shown.values() if "INIT_START" not in text] == ["before", "after"]


async def test_many_events_come_in_pages(node: RunningNode) -> None:
    logs = Logs(node)
    group = "/aws/lambda/gone"
    pages = await logs.pages("filter_log_events", logGroupName=group)
    assert len(pages) >= 3
    events = [event for page in pages for event in page["events"]]
    assert [event["message"] for event in events] == [f"line {at}" for at in range(25_000)]
    assert len({event["eventId"] for event in events}) == 25_000
    assert all(len(event["eventId"]) == 56 for event in events)

    last = await logs.call("get_log_events", logGroupName=group, logStreamName="s", limit=10)
    assert [event["message"] for event in last["events"]] == [f"line {at}" for at in range(24_990, 25_000)]
    before = await logs.call(
        "get_log_events", logGroupName=group, logStreamName="s", limit=10, nextToken=last["nextBackwardToken"]
    )
    assert [event["message"] for event in before["events"]] == [f"line {at}" for at in range(24_980, 24_990)]
    again = await logs.call(
        "get_log_events", logGroupName=group, logStreamName="s", limit=10, nextToken=before["nextForwardToken"]
    )
    assert again["events"] == last["events"]
    end = await logs.call("get_log_events", logGroupName=group, logStreamName="s", nextToken=last["nextForwardToken"])
    assert (end["events"], end["nextForwardToken"]) == ([], last["nextForwardToken"])
    first = await logs.call("get_log_events", logGroupName=group, logStreamName="s", limit=2, startFromHead=True)
    assert [event["message"] for event in first["events"]] == ["line 0", "line 1"]
    window = await logs.call(
        "get_log_events", logGroupName=group, logStreamName="s", startTime=1_024_990, endTime=1_024_992
    )
    assert [event["message"] for event in window["events"]] == ["line 24990", "line 24991"]


async def test_what_is_not_there_or_not_understood(node: RunningNode) -> None:
    logs = Logs(node)
    no_group = ("ResourceNotFoundException", "The specified log group does not exist.")
    assert await logs.refused("filter_log_events", logGroupName="/aws/lambda/nobody") == no_group
    assert await logs.refused("describe_log_streams", logGroupName="/aws/lambda/nobody") == no_group
    assert await logs.refused("get_log_events", logGroupName=GROUP, logStreamName="nothing") == (
        "ResourceNotFoundException",
        "The specified log stream does not exist.",
    )
    assert await logs.refused("filter_log_events", logGroupName=GROUP, filterPattern="%a%") == (
        "InvalidParameterException",
        "Invalid filter pattern: regular expressions, %a%, are not supported",
    )
    bad_token = ("InvalidParameterException", "The specified nextToken is invalid.")
    for token in ("x", "1.g", "f/1.2", "0/0", "99999999999999999.1"):
        assert await logs.refused("filter_log_events", logGroupName=GROUP, nextToken=token) == bad_token
        assert (
            await logs.refused("get_log_events", logGroupName=GROUP, logStreamName="s", nextToken=f"x{token}")
            == bad_token
        )
    code, message = await logs.refused(
        "put_log_events", logGroupName=GROUP, logStreamName="s", logEvents=[{"timestamp": 1, "message": "x"}]
    )
    assert code == "UnknownOperationException"
    assert message.startswith("PutLogEvents: ")
    code, _ = await logs.refused(
        "start_live_tail", logGroupIdentifiers=["arn:aws:logs:us-east-1:000000000000:log-group:x"]
    )
    assert code == "UnknownOperationException"


async def test_who_has_no_signature_and_no_token_is_refused(node: RunningNode) -> None:
    import aiohttp

    headers = {"X-Amz-Target": "Logs_20140328.DescribeLogGroups"}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{node.admin}/", headers=headers, data=b"{}") as answer:
            assert answer.status == 403
        async with session.post(f"{node.admin}/", data=b"{}") as answer:
            assert answer.status == 403


async def test_no_body_breaks_it(node: RunningNode) -> None:
    headers = {"X-Amz-Target": "Logs_20140328.FilterLogEvents"}
    for body in (
        b"",
        b"{",
        b"[]",
        b'{"logGroupName": 1}',
        b'{"logGroupName": "x", "limit": 0}',
        b"\xff",
        b'{"logGroupName":"\\ud800"}',
    ):
        status, answer = await node.request("POST", "/", headers=headers, data=body)
        assert status == 400, (body, answer)
        assert json.loads(answer)["__type"] in (
            "InvalidParameterException",
            "SerializationException",
            "ResourceNotFoundException",
        )


async def test_a_log_of_objects(tmp_path: Path) -> None:
    project = write_project(
        tmp_path / "project",
        """
        [functions.structured]
        handler = "work.handler"

        [functions.structured.logging_config]
        log_format = "JSON"
        application_log_level = "WARN"
        log_group = "/shared/all"
        """,
        work="""
            import json
            import logging
            import os


            def handler(event, context):
                log = logging.getLogger("mine")
                log.info("not wanted")
                log.warning("wanted\\nin lines", extra={"order": 7})
                print(json.dumps({"level": "DEBUG", "message": "nor this"}))
                print("plain")
                if event == "fail":
                    raise ValueError("of the handler")
                return [os.environ[name] for name in event]
        """,
    )
    names = ["AWS_LAMBDA_LOG_FORMAT", "AWS_LAMBDA_LOG_LEVEL", "AWS_LAMBDA_LOG_GROUP_NAME"]
    async with running_node(project, tmp_path / "data") as node:
        path = "/2015-03-31/functions/structured/invocations"
        status, body = await node.request("POST", path, data=json.dumps(names))
        assert (status, json.loads(body)) == (200, ["JSON", "WARN", "/shared/all"])
        status, body = await node.request("POST", path, data=b'"fail"')
        logs = Logs(node)

        async def found() -> list[str] | None:
            answer = await logs.call("filter_log_events", logGroupName="/shared/all")
            lines = [event["message"] for event in answer["events"]]
            return lines if sum("platform.report" in line for line in lines) == 2 else None

        lines = await until(found, "both reports are there")
    plain = [line for line in lines if not line.startswith("{")]
    assert plain == ["plain", "plain"]
    objects = [json.loads(line) for line in lines if line.startswith("{")]
    kinds = [each.get("type", each.get("level")) for each in objects]
    invocation = ["platform.start", "WARNING", "platform.report"]
    assert kinds == ["platform.initStart", *invocation, *invocation[:2], "ERROR", "platform.report"]
    warning, error = objects[2], objects[6]
    assert {"message": "wanted\nin lines", "logger": "mine", "order": 7}.items() <= warning.items()
    assert warning["requestId"] == objects[1]["record"]["requestId"]
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "of the handler")
    assert [each["record"]["status"] for each in objects if each.get("type") == "platform.report"] == [
        "success",
        "failure",
    ]

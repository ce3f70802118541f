"""InvokeWithResponseStream as boto3 sees it: a real node, real environments."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.api.boto import REGION, Api
from tests.support import PATIENCE, RunningNode, running_node, until, write_project

TOML = """
[functions.words]
handler = "work.words"

[functions.whole]
handler = "work.whole"

[functions.broken]
handler = "work.broken"

[functions.endless]
handler = "work.endless"
timeout = "60s"

[functions.late]
handler = "work.late"
timeout = "1s"

[functions.none]
handler = "work.whole"
reserved_concurrency = 0
"""
WORK = """
import os, time

async def words(event, context):
    print("in the log")
    for word in event:
        yield word

def whole(event, context):
    return event

def broken(event, context):
    yield "some "
    raise ValueError("half-way")

def endless(event, context):
    while True:
        yield bytes(100_000)

def late(event, context):
    yield "some"
    time.sleep(60)
"""


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[RunningNode]:
    folder = write_project(tmp_path / "project", TOML, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:
        yield node


@pytest.fixture
def api(node: RunningNode) -> Api:
    return Api(node.admin)


async def streamed(api: Api, function: str, event: Any = None, **more: Any) -> tuple[bytes, dict[str, str]]:
    """All chunks together, and what the last message says."""
    given = {"FunctionName": function, "Payload": json.dumps(event).encode(), **more}
    answer = await asyncio.to_thread(lambda: api.client.invoke_with_response_stream(**given))
    assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    assert answer["ExecutedVersion"] == "$LATEST"
    messages = await asyncio.to_thread(list, answer["EventStream"])
    *chunks, (last) = messages
    assert all(list(each) == ["PayloadChunk"] for each in chunks)
    return b"".join(each["PayloadChunk"]["Payload"] for each in chunks), last["InvokeComplete"]


async def test_what_is_yielded_arrives(api: Api) -> None:
    assert await streamed(api, "words", ["one ", "zwölf"]) == ("one zwölf".encode(), {})
    assert await streamed(api, "words", []) == (b"", {})
    text = "x" * 1_000_000
    assert await streamed(api, "words", [text, text, text]) == (3 * text.encode(), {})


async def test_an_answer_in_one_piece_is_one_chunk(api: Api) -> None:
    assert await streamed(api, "whole", {"a": [1]}) == (b'{"a": [1]}', {})


async def test_the_end_of_the_log_comes_last(api: Api) -> None:
    _, complete = await streamed(api, "words", ["one"], LogType="Tail")
    log = base64.b64decode(complete["LogResult"]).decode()
    assert "in the log" in log
    assert "REPORT RequestId:" in log


async def test_an_error_half_way_leaves_what_was_sent_and_is_told_last(api: Api) -> None:
    body, complete = await streamed(api, "broken")
    assert body == b"some "
    assert complete["ErrorCode"] == "Unhandled"
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "half-way"


async def test_time_runs_out_half_way(api: Api) -> None:
    body, complete = await streamed(api, "late")
    assert body == b"some"
    assert json.loads(complete["ErrorDetails"])["errorType"] == "Sandbox.Timedout"


async def test_the_first_chunk_is_there_before_the_last_is_made(api: Api) -> None:
    def first(count: int) -> int:
        answer = api.client.invoke_with_response_stream(FunctionName="endless")
        messages = iter(answer["EventStream"])
        size = sum(len(next(messages)["PayloadChunk"]["Payload"]) for _ in range(count))
        answer["EventStream"].close()
        return size

    assert await asyncio.to_thread(first, 50) > 0


async def test_whoever_leaves_closes_the_generator(node: RunningNode) -> None:
    address = urlsplit(node.admin)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as client:
        client.sendall(
            b"POST /2021-11-15/functions/endless/response-streaming-invocations HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/lambda/aws4_request, "
            b"SignedHeaders=host, Signature=00\r\nContent-Length: 4\r\n\r\nnull"
        )
        assert await asyncio.to_thread(client.recv, 4096)

    async def closed() -> bool:
        in_flight: int = (await node.function("endless"))["environments"]["in_flight"]
        return in_flight == 0

    await until(closed, "nothing is in flight")
    assert (await node.function("endless"))["counts"]["errors"] == 0


async def test_a_dry_run_runs_nothing(api: Api) -> None:
    answer = await asyncio.to_thread(
        lambda: api.client.invoke_with_response_stream(FunctionName="words", InvocationType="DryRun")
    )
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    answer["EventStream"].close()


async def test_what_is_refused_is_refused_before_anything_is_streamed(api: Api) -> None:
    assert await api.refused("invoke_with_response_stream", FunctionName="nowhere") == (
        "ResourceNotFoundException",
        f"Function not found: arn:aws:lambda:{REGION}:000000000000:function:nowhere:$LATEST",
    )
    code, message = await api.refused("invoke_with_response_stream", FunctionName="none")
    assert (code, message) == ("TooManyRequestsException", "Rate Exceeded.")
    code, message = await api.refused("invoke_with_response_stream", FunctionName="words", Payload=b"{")
    assert code == "InvalidRequestContentException"

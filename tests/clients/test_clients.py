"""Amazon's own runtime clients, unmodified, each in a function of a real node."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from tests.api.lab import Lab
from tests.clients.all import CLIENTS
from tests.servers.needed import need
from tests.support import RunningNode, running_node, write_project

pytestmark = pytest.mark.asyncio(loop_scope="module")

HANDLERS = {
    "python": "function.handler",
    "node": "index.handler",
    "go": "handler",
    "rust": "handler",
    "java": "Function",
}
STREAMS = {"node": "index.stream", "go": "stream", "rust": "stream"}  # the other two have no streaming
ERROR_TYPES = {
    "python": "ValueError",
    "node": "TypeError",
    "go": "errorString",
    "rust": "&alloc::boxed::Box<dyn core::error::Error + core::marker::Send + core::marker::Sync>",
    "java": "java.lang.IllegalStateException",
}


class Called(NamedTuple):
    value: Any
    error: str | None
    log: str
    request_id: str


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    need(CLIENTS[name].missing())
    return name


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    """One node for all: each environment is its function's own anyway."""
    folder = tmp_path_factory.mktemp("clients")
    built = {name: build.folder for name, build in CLIENTS.items() if build.missing() is None}
    functions = [(name, HANDLERS[name], code) for name, code in built.items()]
    functions += [(f"{name}-stream", handler, built[name]) for name, handler in STREAMS.items() if name in built]
    declared = "\n".join(
        f"""
        [functions.{name}]
        runtime = "provided.al2023"
        handler = "{handler}"
        code = "{code}"
        memory_size = "512 MB"
        timeout = "8s"
        """
        for name, handler, code in functions
    )
    async with running_node(write_project(folder / "project", declared), folder / "data") as running:
        yield running


async def invoke(node: RunningNode, function: str, event: Any, trace: str | None = None) -> Called:
    headers = {"X-Amz-Log-Type": "Tail"} | ({} if trace is None else {"X-Amzn-Trace-Id": trace})
    path = f"{node.admin}/2015-03-31/functions/{function}/invocations"
    body = io.BytesIO(json.dumps(event).encode())
    async with node._operator.post(path, data=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        said = await answer.read()
        log = base64.b64decode(answer.headers["X-Amz-Log-Result"]).decode()
        return Called(
            json.loads(said), answer.headers.get("X-Amz-Function-Error"), log, answer.headers["x-amzn-RequestId"]
        )


async def test_a_handler_has_its_event_and_context(node: RunningNode, client: str) -> None:
    trace = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0"
    event = {"do": "echo", "text": "ä\u2028", "number": 1.5, "deep": [{"a": [True]}]}
    for _ in range(3):
        called = await invoke(node, client, event, trace)
        assert called.error is None, called.log
        answer = called.value
        assert answer["event"] == event
        assert answer["requestId"] == called.request_id
        assert answer["arn"] == f"arn:aws:lambda:us-east-1:000000000000:function:{client}"
        assert 0 < answer["left"] <= 8_000
        assert answer["name"] == client
        assert answer["trace"].startswith("Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700")


async def test_a_handlers_error_is_the_answer(node: RunningNode, client: str) -> None:
    called = await invoke(node, client, {"do": "fail"})
    assert called.error == "Unhandled"
    assert called.value["errorMessage"] == "boom"
    assert called.value["errorType"] == ERROR_TYPES[client]
    assert (await invoke(node, client, {"do": "echo"})).error is None


async def test_what_a_handler_prints_is_in_its_log(node: RunningNode, client: str) -> None:
    called = await invoke(node, client, {"do": "log"})
    assert "a line of the function" in called.log
    assert f"START RequestId: {called.request_id} Version: $LATEST" in called.log
    assert f"REPORT RequestId: {called.request_id}" in called.log


async def test_a_runtime_that_exits_fails_its_request_only(node: RunningNode, client: str) -> None:
    called = await invoke(node, client, {"do": "exit"})
    assert called.error == "Unhandled"
    assert called.value == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {called.request_id} Error: Runtime exited with error: exit status 3",
    }
    assert (await invoke(node, client, {"do": "echo"})).error is None


async def test_a_handler_that_hangs_is_ended_and_the_next_request_served(node: RunningNode) -> None:
    """All of them at once: each takes its whole timeout."""
    names = [name for name, build in CLIENTS.items() if build.missing() is None]
    for called in await asyncio.gather(*(invoke(node, name, {"do": "sleep"}) for name in names)):
        assert called.value == {
            "errorType": "Sandbox.Timedout",
            "errorMessage": f"RequestId: {called.request_id} Error: Task timed out after 8.00 seconds",
        }
    for called in await asyncio.gather(*(invoke(node, name, {"do": "echo"}) for name in names)):
        assert called.error is None, called.log


async def test_a_large_event_and_its_response_pass(node: RunningNode, client: str) -> None:
    event = {"do": "echo", "text": uuid.uuid4().hex * 100_000}
    assert (await invoke(node, client, event)).value["event"] == event


@pytest.mark.parametrize("client", STREAMS, indirect=True)
async def test_a_response_is_streamed(node: RunningNode, client: str) -> None:
    def parts() -> list[bytes]:
        answer = Lab(node.admin).client.invoke_with_response_stream(FunctionName=f"{client}-stream")
        *chunks, last = answer["EventStream"]
        assert last == {"InvokeComplete": {}}
        return [chunk["PayloadChunk"]["Payload"] for chunk in chunks]

    found = await asyncio.to_thread(parts)
    assert b"".join(found).endswith(b"part 0\npart 1\npart 2\n")


@pytest.mark.parametrize("client", STREAMS, indirect=True)
async def test_a_streamed_response_is_one_to_who_does_not_ask_for_a_stream(node: RunningNode, client: str) -> None:
    path = f"{node.admin}/2015-03-31/functions/{client}-stream/invocations"
    async with node._operator.post(path, json={}) as answer:
        body = await answer.read()
        if client == "rust":  # it streams HTTP responses only
            prelude, body = body.split(b"\0" * 8)
            assert json.loads(prelude)["statusCode"] == 200
        assert (answer.status, body) == (200, b"part 0\npart 1\npart 2\n")

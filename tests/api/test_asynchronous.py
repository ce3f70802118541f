"""Asynchronous events of functions made through the API: what is configured for the qualifier they came in with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.api import signing
from tests.api.test_functions import ARN, Client, code, says
from tests.support import RunningNode, running_node, until, write_project

pytestmark = pytest.mark.asyncio(loop_scope="module")

AGAIN = code(
    Path(signing.__file__).read_text()
    + """
def handler(event, context):
    url = os.environ["AWS_ENDPOINT_URL_LAMBDA"] + "/2015-03-31/functions/" + context.function_name + "/invocations"
    trace = os.environ["_X_AMZN_TRACE_ID"]
    again = signed("POST", url, b'"again"', x_amz_invocation_type="Event", x_amzn_trace_id=trace)
    urllib.request.urlopen(again).close()
"""
)
FAILS = code("def handler(event, context): raise ValueError(context.invoked_function_arn)\n")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    folder = tmp_path_factory.mktemp("node")
    project = write_project(folder / "project", '[aws]\nretry_delays = ["50ms", "100ms"]\n')
    async with running_node(project, folder / "data") as node:
        yield node


@pytest.fixture
def client(node: RunningNode) -> Client:
    return Client(node)


async def record(node: RunningNode, event: object) -> dict[str, Any]:
    """The record of a failed event that nobody was configured for, in the built-in dead letters."""

    async def found() -> dict[str, Any] | None:
        bodies = [json.loads(message["body"]) for message in await node.messages("dead-letters")]
        return next((body for body in bodies if body.get("requestPayload") == event), None)

    arrived: dict[str, Any] = await until(found, f"the record of {event} arrives")
    return arrived


async def published(client: Client, name: str, archive: bytes) -> None:
    await client.create(name, archive, Publish=True)
    await client.wait("published_version_active", FunctionName=name, Qualifier="1")
    await client("create_alias", FunctionName=name, Name="live", FunctionVersion="1")


async def test_the_record_tells_the_qualifier_and_the_version_that_ran(client: Client, node: RunningNode) -> None:
    await published(client, "a", FAILS)
    await client("put_function_event_invoke_config", FunctionName="a", Qualifier="live", MaximumRetryAttempts=1)
    await client("invoke", FunctionName="a", Qualifier="live", InvocationType="Event", Payload=b'"by alias"')
    found = await record(node, "by alias")
    assert found["requestContext"]["functionArn"] == f"{ARN}a:live"
    assert found["requestContext"]["condition"] == "RetriesExhausted"
    assert found["requestContext"]["approximateInvokeCount"] == 2
    assert found["responseContext"] == {"statusCode": 200, "executedVersion": "1", "functionError": "Unhandled"}
    assert found["responsePayload"]["errorMessage"] == f"{ARN}a:live"

    await client("invoke", FunctionName="a", InvocationType="Event", Payload=b'"by name"')
    found = await record(node, "by name")
    assert found["requestContext"]["functionArn"] == f"{ARN}a:$LATEST"
    assert found["requestContext"]["approximateInvokeCount"] == 3
    assert found["responseContext"]["executedVersion"] == "$LATEST"


async def test_a_failed_event_goes_to_the_function_that_is_its_destination(client: Client, node: RunningNode) -> None:
    await published(client, "audit", FAILS)
    await client("put_function_event_invoke_config", FunctionName="audit", Qualifier="live", MaximumRetryAttempts=0)
    await client.create("b", FAILS)
    await client(
        "put_function_event_invoke_config",
        FunctionName="b",
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": f"{ARN}audit:live"}},
    )
    await client("invoke", FunctionName="b", InvocationType="Event", Payload=b'"b"')

    async def audited() -> dict[str, Any] | None:
        for message in await node.messages("dead-letters"):
            payload = json.loads(message["body"]).get("requestPayload")
            if isinstance(payload, dict) and payload.get("requestPayload") == "b":
                found: dict[str, Any] = json.loads(message["body"])
                return found
        return None

    found = await until(audited, "the destination has run")
    assert found["requestContext"]["functionArn"] == f"{ARN}audit:live"
    assert found["requestPayload"]["requestContext"]["functionArn"] == f"{ARN}b:$LATEST"


async def test_a_function_without_any_concurrency_never_runs(client: Client, node: RunningNode) -> None:
    await client.create("c", says("never"))
    await client("put_function_concurrency", FunctionName="c", ReservedConcurrentExecutions=0)
    refused = await client.refused("invoke", FunctionName="c")
    assert refused[:2] == (429, "TooManyRequestsException")
    await client("invoke", FunctionName="c", InvocationType="Event", Payload=b'"c"')
    found = await record(node, "c")
    assert found["requestContext"]["condition"] == "ZeroReservedConcurrency"
    assert found["requestContext"]["approximateInvokeCount"] == 0
    assert "responseContext" not in found

    await client("delete_function_concurrency", FunctionName="c")
    assert await client.invoke("c") == "never"


async def test_an_event_that_came_back_goes_to_its_qualifier_again(client: Client, node: RunningNode) -> None:
    await published(client, "d", FAILS)
    await client("put_function_event_invoke_config", FunctionName="d", Qualifier="live", MaximumRetryAttempts=0)
    await client("invoke", FunctionName="d", Qualifier="live", InvocationType="Event", Payload=b'"again"')
    first = await record(node, "again")
    assert first["responseContext"]["executedVersion"] == "1"
    await client("update_function_code", FunctionName="d", ZipFile=says("mended"), Publish=True)
    await client.wait("published_version_active", FunctionName="d", Qualifier="2")
    await client("update_alias", FunctionName="d", Name="live", FunctionVersion="2")
    await node.json("POST", "/queues/dead-letters/redrive")

    async def gone() -> bool:
        bodies = [json.loads(message["body"]) for message in await node.messages("dead-letters")]
        return not any(body.get("requestPayload") == "again" for body in bodies)

    await until(gone, "the event has run on the version that its alias leads to now")


async def test_a_function_that_invokes_itself_is_stopped(client: Client, node: RunningNode) -> None:
    await client.create("loop", AGAIN)
    await client("invoke", FunctionName="loop", InvocationType="Event", Payload=b'"first"')

    async def stopped() -> dict[str, Any] | None:
        bodies = [json.loads(message["body"]) for message in await node.messages("dead-letters")]
        return next((body for body in bodies if body["requestContext"]["functionArn"] == f"{ARN}loop:$LATEST"), None)

    found = await until(stopped, "the chain ends")
    assert found["requestContext"]["condition"] == "RecursiveInvocation", found.get("responsePayload")
    assert (await node.function("loop"))["counts"]["invocations"] == 16

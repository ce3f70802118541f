"""A hostile function at the API of a node without keys, from the real sandbox: it is itself there, or nobody."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.api import signing
from tests.support import RunningNode, running_node, write_project

pytestmark = pytest.mark.asyncio(loop_scope="module")

ARN = "arn:aws:lambda:us-east-1:000000000000:function:victim"
VICTIM = "/2015-03-31/functions/victim"
INVOKE = f"{VICTIM}/invocations"
ANY = (
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host;x-amz-date, Signature="
    + "0" * 64
)
CODE = (
    Path(signing.__file__).read_text()
    + """
import socket
import struct
import urllib.error


def told(event, context):
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    url = os.environ["AWS_ENDPOINT_URL_LAMBDA"] + "/2015-03-31/functions/victim/invocations"
    request = signed("POST", url, b"{}")
    return {"variables": {name: os.environ[name] for name in names}, "headers": dict(request.header_items())}


def ask(event, context):
    own, url = dict(os.environ), os.environ["AWS_ENDPOINT_URL_LAMBDA"] + event["path"]
    os.environ.update(event.get("variables", {}))
    body, method = event.get("body", "").encode(), event.get("method", "GET")
    try:
        if "headers" in event:
            request = urllib.request.Request(url, body or None, event["headers"], method=method)
        elif "signed_for" in event:
            path, signed_body = event["signed_for"]
            other = signed(method, os.environ["AWS_ENDPOINT_URL_LAMBDA"] + path, signed_body.encode())
            request = urllib.request.Request(url, body, dict(other.header_items()), method=method)
        else:
            request = signed(method, url, body, event.get("service", "lambda"), **event.get("more", {}))
    finally:
        os.environ.update(own)
    try:
        with urllib.request.urlopen(request) as answer:
            return [answer.status, answer.read().decode(), ""]
    except urllib.error.HTTPError as error:
        return [error.code, error.read().decode(), error.headers.get("x-amzn-ErrorType", "")]


def hit_and_run(event, context):
    host, _, port = os.environ["AWS_ENDPOINT_URL_LAMBDA"].removeprefix("http://").rpartition(":")
    for number in range(40):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(event.encode())
            if number % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
"""
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningNode]:
    folder = tmp_path_factory.mktemp("hostile")
    async with hostile_node(folder) as node:
        yield node


@contextlib.asynccontextmanager
async def hostile_node(folder: Path, *options: str) -> AsyncGenerator[RunningNode]:
    functions = [
        f'[functions.{name}]\nhandler = "work.{handler}"\nnetwork = "aws"\ntimeout = 30\n'
        for name, handler in (("victim", "told"), ("hostile", "ask"), ("own", "told"), ("runner", "hit_and_run"))
    ]
    project = write_project(folder / "project", "\n".join(functions), work=CODE)
    async with running_node(project, folder / "data", *options) as node:
        yield node


async def invoke(node: RunningNode, function: str, event: Any) -> Any:
    status, body = await node.request("POST", f"/2015-03-31/functions/{function}/invocations", data=json.dumps(event))
    assert status == 200, body
    return json.loads(body)


async def ask(node: RunningNode, **event: Any) -> tuple[int, str, str]:
    status, body, error = await invoke(node, "hostile", event)
    return status, body, error


async def test_with_its_own_credentials_it_invokes_another(node: RunningNode) -> None:
    status, body, _ = await ask(node, path=INVOKE, method="POST", body="{}")
    assert (status, json.loads(body)["headers"]["Host"]) == (200, node.admin.removeprefix("http://"))


@pytest.mark.parametrize("path", [INVOKE, VICTIM, "/2015-03-31/functions/"])
async def test_nobodys_signature_is_nothing(node: RunningNode, path: str) -> None:
    token = json.loads((node.data / "node.json").read_text())["token"]
    method = "POST" if path == INVOKE else "GET"
    for headers, expected in (
        ({}, "MissingAuthenticationTokenException"),
        ({"Authorization": f"Bearer {token}"}, "MissingAuthenticationTokenException"),
        ({"Authorization": ANY, "X-Amz-Date": "20260101T000000Z"}, "UnrecognizedClientException"),
        (
            {"Authorization": ANY, "X-Amz-Date": "20260101T000000Z", "X-Amz-Security-Token": "eA=="},
            "UnrecognizedClientException",
        ),
        ({"Authorization": "AWS4-HMAC-SHA256 Credential=x"}, "IncompleteSignatureException"),
    ):
        status, _, error = await ask(node, path=path, method=method, headers=headers)
        assert (status, error) == (403, expected)


async def test_anothers_credentials_are_nothing(node: RunningNode) -> None:
    victims = await invoke(node, "victim", {})
    stolen = victims["variables"]
    replayed = await ask(node, path=INVOKE, method="POST", body="{}", headers=victims["headers"])
    assert (replayed[0], replayed[2]) == (403, "UnrecognizedClientException")
    for variables, expected in (
        (stolen, "UnrecognizedClientException"),
        ({"AWS_SESSION_TOKEN": stolen["AWS_SESSION_TOKEN"]}, "UnrecognizedClientException"),
        ({"AWS_ACCESS_KEY_ID": stolen["AWS_ACCESS_KEY_ID"]}, "UnrecognizedClientException"),
        ({"AWS_SECRET_ACCESS_KEY": stolen["AWS_SECRET_ACCESS_KEY"]}, "InvalidSignatureException"),
    ):
        answer = await ask(node, path=INVOKE, method="POST", body="{}", variables=variables)
        assert (answer[0], answer[2]) == (403, expected)


async def test_what_it_has_signed_cannot_be_used_for_something_else(node: RunningNode) -> None:
    for path, body in ((INVOKE, "[]"), (INVOKE + "?Qualifier=1", "{}"), (INVOKE.replace("victim", "own"), "{}")):
        status, _, error = await ask(node, path=path, method="POST", body=body, signed_for=[INVOKE, "{}"])
        assert (status, error) == (403, "InvalidSignatureException")


def forbidden() -> Iterator[tuple[str, str, str, str]]:
    yield "GET", VICTIM, "lambda:GetFunction", ARN
    yield "GET", f"{VICTIM}/configuration", "lambda:GetFunctionConfiguration", ARN
    yield "GET", "/2015-03-31/functions/", "lambda:ListFunctions", "*"
    yield "DELETE", VICTIM, "lambda:DeleteFunction", ARN
    yield "DELETE", "/2015-03-31/functions/hostile", "lambda:DeleteFunction", ARN.replace("victim", "hostile")
    yield "GET", f"{VICTIM}/policy", "lambda:GetPolicy", ARN
    execution = f"{ARN}:$LATEST/durable-execution/a/b"
    path = "/2025-12-01/durable-executions/" + execution.replace("/", "%2F").replace(":", "%3A").replace("$", "%24")
    yield "GET", f"{path}/state?CheckpointToken=eA%3D%3D", "lambda:GetDurableExecutionState", execution
    yield "GET", path, "lambda:GetDurableExecution", execution


@pytest.mark.parametrize(("method", "path", "action", "resource"), [*forbidden()])
async def test_it_may_do_no_more(node: RunningNode, method: str, path: str, action: str, resource: str) -> None:
    status, body, error = await ask(node, path=path, method=method)
    assert (status, error) == (403, "AccessDeniedException")
    assert json.loads(body)["Message"] == (
        "User: arn:aws:sts::000000000000:assumed-role/hostile/hostile is not authorized to perform: "
        f"{action} on resource: {resource} because no identity-based policy allows the {action} action"
    )


async def test_it_reads_no_logs(node: RunningNode) -> None:
    more = {"x_amz_target": "Logs_20140328.DescribeLogGroups", "content_type": "application/x-amz-json-1.1"}
    status, body, _ = await ask(node, path="/", method="POST", body="{}", service="logs", more=more)
    assert status in (400, 403)
    assert "logs:DescribeLogGroups" in body
    status, body, _ = await ask(
        node, path="/", method="POST", body="{}", headers={"X-Amz-Target": more["x_amz_target"], "Authorization": ANY}
    )
    assert status in (400, 403)
    assert "logGroups" not in body


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/status", "/queues", "/code/folder.zip?Path=/etc", "/"])
async def test_the_nodes_own_pages_answer_no_function(node: RunningNode, path: str) -> None:
    token = json.loads((node.data / "node.json").read_text())["token"]
    for headers in ({}, {"Authorization": f"Bearer {token}"}):
        status, body, _ = await ask(node, path=path, headers=headers)
        assert (status, "nothing else" in body) == (403, True), body


async def test_who_is_gone_before_he_is_read_was_a_function_too(node: RunningNode) -> None:
    path = "/2020-04-22/code-signing-configs/"
    profile = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/mine/1234567890"
    body = json.dumps({"AllowedPublishers": {"SigningProfileVersionArns": [profile]}})
    assert (await node.request("POST", path, data=body))[0] == 201  # of the operator
    head = f"Host: 127.0.0.1\r\nAuthorization: {ANY}\r\nX-Amz-Date: 20260101T000000Z\r\n"
    await invoke(node, "runner", f"POST {path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}")
    assert (await invoke(node, "victim", {}))["variables"]
    assert len((await node.json("GET", path))["CodeSigningConfigs"]) == 1


@pytest.mark.parametrize("listen", ["localhost:0", "[::1]:0"])
async def test_wherever_the_api_listens(tmp_path: Path, listen: str) -> None:
    async with hostile_node(tmp_path, "--admin", listen) as node:
        assert (await ask(node, path=INVOKE, method="POST", body="{}"))[0] == 200
        for headers in ({}, {"Authorization": ANY, "X-Amz-Date": "20260101T000000Z"}):
            assert (await ask(node, path=VICTIM, headers=headers))[0] == 403
        assert (await ask(node, path="/healthz", headers={}))[0] == 403

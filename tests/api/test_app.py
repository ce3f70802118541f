"""Who may ask, and what everybody is told."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from tests.api.fake_node import FakeNode
from tests.api.listening import Listening

Client = TestClient[Any, Any]
TOKEN = "t0ken"

PROTECTED = [
    ("GET", "/status"),
    ("GET", "/queues"),
    ("DELETE", "/queues/work/messages"),
    ("POST", "/2015-03-31/functions/hello/invocations"),
    ("GET", "/no-such-thing"),
]


@pytest.mark.parametrize(("method", "path"), PROTECTED)
@pytest.mark.parametrize("header", ["", "Bearer", "Bearer t0ke", "Bearer t0ken2", "Basic t0ken", "t0ken", "Bearer é"])
async def test_without_the_token_nothing_is_told(
    client: Client, node: FakeNode, method: str, path: str, header: str
) -> None:
    answer = await client.request(method, path, headers={"Authorization": header})
    code = "MissingAuthenticationTokenException" if path.startswith("/2015") else "AccessDeniedException"
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (403, code)
    assert "node.json" in (await answer.json())["Message"]
    assert node.calls == []


async def test_health_and_metrics_need_no_token(client: Client, node: FakeNode) -> None:
    node.metrics.function("hello").invocations = 7
    health = await client.get("/healthz", headers={"Authorization": ""})
    assert (health.status, await health.json()) == (200, {"status": "ok"})
    metrics = await client.get("/metrics", headers={"Authorization": ""})
    assert metrics.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'eventfn_invocations_total{function="hello"} 7\n' in await metrics.text()


async def test_a_draining_node_is_not_healthy(client: Client, node: FakeNode) -> None:
    node.draining = True
    health = await client.get("/healthz")
    assert (health.status, await health.json()) == (503, {"status": "draining"})


async def test_the_status_document_is_answered_whole(client: Client) -> None:
    document = await (await client.get("/status")).json()
    assert document["functions"][0]["name"] == "hello"
    assert document["queues"][1]["depth"] == {"visible": 2, "in_flight": 0, "delayed": 0, "oldest_ms": None}


async def test_what_does_not_exist_is_told_as_lambda_does(client: Client) -> None:
    answer = await client.get("/2015-03-31/nothing")
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (404, "UnknownOperationException")
    assert "x-amzn-RequestId" in answer.headers
    answer = await client.put("/queues")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8081", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8081", 200),
        ("[::1]", 200),
        ("127.8.8.8", 200),
        ("evil.example", 403),
        ("evil.example:8081", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:80", 403),
        ("10.0.0.1:8081", 403),
        ("", 403),
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/status"])
async def test_only_loopback_names_are_answered_on_loopback(client: Client, host: str, status: int, path: str) -> None:
    assert (await client.get(path, headers={"Host": host})).status == status


async def test_elsewhere_the_operators_names_are_his_own(node: FakeNode) -> None:
    async with Client(Listening(node, TOKEN, loopback=False)) as client:
        assert (await client.get("/metrics", headers={"Host": "node7.internal"})).status == 200
        assert (await client.get("/status", headers={"Host": "node7.internal"})).status == 403

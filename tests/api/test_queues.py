from __future__ import annotations

import io
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from eventfn.engine.contract import Claim, Message
from eventfn.event import MAX_ASYNC_REQUEST
from eventfn.trigger import QueueMessage
from tests.api.fake_node import FakeNode

Client = TestClient[Any, Any]


async def test_queues_are_listed_with_their_depths(client: Client) -> None:
    listed = await (await client.get("/queues")).json()
    assert [(queue["name"], queue["depth"]["visible"]) for queue in listed] == [("work", 0), ("dead-letters", 2)]
    assert listed[1]["dead_letter_for"] == ["fn:hello"]


async def test_a_peek_shows_messages_as_they_lie(client: Client, node: FakeNode) -> None:
    node.messages = [
        Message(Claim("q/work", 4, 1), "m4", b'{"a": 1}', {"ErrorMessage": "boom"}, 1, 2, 5, 6, 7, group="g"),
        Message(Claim("q/work", 5, 1), "m5", b"plain", {}, 1, 1, 5, 6, 7, last_error="ValueError: no"),
    ]
    answer = await client.get("/queues/work/messages?limit=2&after=3")
    first, second = await answer.json()
    assert first == {
        "id": "m4",
        "sequence": 4,
        "body": '{"a": 1}',
        "attributes": {"ErrorMessage": "boom"},
        "receives": 2,
        "sent_ms": 5,
        "visible_ms": 7,
        "group": "g",
        "error": "boom",
    }
    assert second["error"] == "ValueError: no"
    assert node.calls == [{"queue": "work", "limit": 2, "after": 3}]


async def test_a_message_is_sent(client: Client, node: FakeNode) -> None:
    asked = {"body": "é", "attributes": {"k": "v"}, "delay": 2.5, "group": "g", "dedupe_key": "d"}
    answer = await client.post("/queues/work/messages", json=asked)
    assert (answer.status, await answer.json()) == (201, {"id": "message-1"})
    assert node.calls == [{"queue": "work", "message": QueueMessage("é".encode(), {"k": "v"}, 2.5, "g", "d")}]


@pytest.mark.parametrize(
    "body", ['{"bdy": "x"}', "{}", '{"body": "x", "delay": -1}', '{"body": "x", "delay": 901}', "x", '{"body": 1}']
)
async def test_a_message_that_is_not_one_is_refused(client: Client, node: FakeNode, body: str) -> None:
    answer = await client.post("/queues/work/messages", data=body)
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (400, "InvalidRequestContentException")
    assert node.calls == []


async def test_a_message_over_its_limit_is_refused(client: Client, node: FakeNode) -> None:
    answer = await client.post(
        "/queues/work/messages", data=io.BytesIO(b'{"body": "%b"}' % (b"x" * (MAX_ASYNC_REQUEST + 1)))
    )
    assert (answer.status, node.calls) == (413, [])


async def test_a_purge_says_how_many_went(client: Client, node: FakeNode) -> None:
    assert await (await client.delete("/queues/work/messages")).json() == {"purged": 2}
    assert node.calls == [{"queue": "work"}]


@pytest.mark.parametrize(("body", "limit"), [(None, None), ({"limit": 5}, 5)])
async def test_a_redrive_says_what_went_back_and_what_stayed(
    client: Client, node: FakeNode, body: dict[str, int] | None, limit: int | None
) -> None:
    answer = (
        await client.post("/queues/dead-letters/redrive", json=body)
        if body
        else await client.post("/queues/dead-letters/redrive")
    )
    assert await answer.json() == {"moved": 3, "kept": {"m4": "it does not say where it came from"}}
    assert node.calls == [{"queue": "dead-letters", "limit": limit}]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/queues/wrok/messages"),
        ("POST", "/queues/wrok/messages"),
        ("DELETE", "/queues/wrok/messages"),
        ("POST", "/queues/wrok/redrive"),
    ],
)
async def test_a_queue_that_nobody_knows_is_not_made_by_a_typing_mistake(
    client: Client, node: FakeNode, method: str, path: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status == 404
    assert (await answer.json())["Message"] == "Queue not found: wrok (did you mean 'work'?)"
    assert node.calls == []


@pytest.mark.parametrize("query", ["limit=x", "limit=-1", "limit=1001", "after=1.5", "limit=²"])
async def test_numbers_are_checked(client: Client, node: FakeNode, query: str) -> None:
    answer = await client.get(f"/queues/work/messages?{query}")
    assert (answer.status, node.calls) == (400, [])

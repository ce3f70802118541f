"""Responses that are sent while the function makes them, over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventfn.errors import PayloadTooLarge
from eventfn.event import Outcome, OutcomeKind
from eventfn_http import HttpSettings
from eventfn_http.streaming import PRELUDE

STREAMED = (HttpSettings(path="/stream", invoke_mode="RESPONSE_STREAM"), HttpSettings(path="/hello"))
GET = b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"
GET_1_0 = b"GET /stream HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"

StartNode = Callable[..., Awaitable[Any]]


@pytest.fixture
async def node(start: StartNode) -> Any:
    node = await start(STREAMED)
    node.caller.later = True
    return node


@pytest.fixture
async def client(node: Any) -> Any:
    return await node.client()


async def begun(node: Any, client: Any, request: bytes = GET) -> Any:
    await client.send(request)
    await node.caller.called(len(node.caller.streamed) + 1)
    return node.caller.streamed[-1]


def prelude(**said: Any) -> bytes:
    return json.dumps(said).encode() + bytes(8)


async def test_parts_arrive_as_they_are_made_and_the_connection_is_kept(node: Any, client: Any) -> None:
    for _ in range(2):
        function = await begun(node, client)
        function.begin()
        head = await client.head()
        assert (head.status, head.headers["transfer-encoding"]) == (200, "chunked")
        assert head.headers["content-type"] == "application/octet-stream"
        assert head.headers["x-amzn-requestid"] == node.caller.events[-1]["requestContext"]["requestId"]
        assert "content-length" not in head.headers
        function.write(b"one")
        assert await client.chunk() == b"one"
        function.write(b"two")
        assert await client.chunk() == b"two"
        function.end()
        assert await client.chunk() == b""
    node.caller.later = False
    assert (await client.ask(GET.replace(b"/stream", b"/hello"))).body == b"hello"


async def test_the_function_says_what_its_content_is(node: Any, client: Any) -> None:
    function = await begun(node, client)
    function.begin("text/event-stream")
    assert (await client.head()).headers["content-type"] == "text/event-stream"
    function.end()


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_status_headers_and_cookies_come_first_however_they_are_cut(node: Any, client: Any, size: int) -> None:
    function = await begun(node, client)
    function.begin(PRELUDE)
    said = prelude(statusCode=201, headers={"X-A": "b", "Content-Type": "text/plain"}, cookies=["a=1", "b=2"]) + b"body"
    function.write(*(said[at : at + size] for at in range(0, len(said), size)))
    head = await client.head()
    assert (head.status, head.headers["x-a"], head.headers["content-type"]) == (201, "b", "text/plain")
    assert [value for name, value in head.all_headers if name == "set-cookie"] == ["a=1", "b=2"]
    function.end()
    body = b""
    while chunk := await client.chunk():
        body += chunk
    assert body == b"body"


async def test_a_prelude_without_a_status_is_200(node: Any, client: Any) -> None:
    function = await begun(node, client)
    function.begin(PRELUDE)
    function.write(prelude(headers={}))
    assert (await client.head()).status == 200
    function.end()


@pytest.mark.parametrize(
    "said",
    [
        prelude(statusCode=99),
        prelude(headers={"a": "b\r\nc: d"}),
        b"no json" + bytes(8),
        b"[]" + bytes(8),
        b'{"statusCode": 200}',
        b"x" * 200_000,
    ],
    ids=["a status that is none", "a line break", "no json", "no object", "no end", "no end in sight"],
)
async def test_a_prelude_that_is_none_is_502(node: Any, client: Any, said: bytes) -> None:
    function = await begun(node, client)
    function.begin(PRELUDE)
    function.write(said)
    assert function.gone is (b'statusCode": 200' not in said)
    function.write(b"more")
    function.end()
    answer = await client.answer()
    assert (answer.status, answer.body) == (502, b"Internal Server Error")


async def test_an_error_half_way_leaves_the_body_without_its_end(node: Any, client: Any) -> None:
    function = await begun(node, client)
    function.begin()
    function.write(b"some")
    function.end(OutcomeKind.FUNCTION_ERROR, b"{}")
    await client.head()
    assert await client.chunk() == b"some"
    assert await client.closed() == b"", "no last chunk: the client knows that something is missing"


@pytest.mark.parametrize(
    ("kind", "status"),
    [(OutcomeKind.FUNCTION_ERROR, 502), (OutcomeKind.THROTTLED, 429), (OutcomeKind.SYSTEM_ERROR, 503)],
)
async def test_what_fails_before_it_began_is_answered_as_ever(
    node: Any, client: Any, kind: OutcomeKind, status: int
) -> None:
    function = await begun(node, client)
    function.end(kind, b"{}")
    assert (await client.answer()).status == status


async def test_an_answer_in_one_piece_is_mapped_as_ever(node: Any, client: Any) -> None:
    node.caller.later = False
    node.caller.outcome = Outcome(OutcomeKind.SUCCESS, b'{"statusCode":404,"body":"no"}')
    answer = await client.ask(GET)
    assert (answer.status, answer.body, answer.headers["content-length"]) == (404, b"no", "2")


async def test_a_generator_of_nothing_is_an_empty_body(node: Any, client: Any) -> None:
    function = await begun(node, client)
    function.end()
    assert (await client.head()).status == 200
    assert await client.chunk() == b""


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
async def test_where_no_body_belongs_the_function_is_stopped(node: Any, client: Any, method: bytes) -> None:
    function = await begun(node, client, GET.replace(b"GET", method))
    function.begin(PRELUDE)
    function.write(prelude(statusCode=200 if method == b"HEAD" else 204) + b"never seen")
    assert function.gone
    function.write(b"nor this")
    function.end()
    head = await client.head()
    assert head.status == (200 if method == b"HEAD" else 204)
    node.caller.later = False
    assert (await client.ask(GET.replace(b"/stream", b"/hello"))).body == b"hello", "nothing stands between"


async def test_http_1_0_gets_bytes_until_the_connection_ends(node: Any, client: Any) -> None:
    function = await begun(node, client, GET_1_0)
    function.begin()
    function.write(b"one", b"two")
    function.end()
    head = await client.head()
    assert head.headers["connection"] == "close"
    assert "transfer-encoding" not in head.headers
    assert await client.closed() == b"onetwo"


async def test_a_pipelined_request_waits_for_the_end_of_the_stream(node: Any, client: Any) -> None:
    function = await begun(node, client, GET + GET)
    function.begin()
    function.write(b"one")
    assert len(node.caller.streamed) == 1
    function.end()
    await node.caller.called(2)
    node.caller.streamed[1].begin()
    node.caller.streamed[1].end()
    await client.head()
    assert [await client.chunk(), await client.chunk()] == [b"one", b""]
    await client.head()
    assert await client.chunk() == b""


async def fill(function: Any) -> int:
    """As an environment does that is held back: until the client takes no more. How much it was."""
    size = 0
    while not function.full:
        function.write(bytes(65_536))
        size += 65_536
        await asyncio.sleep(0)
    return size


async def test_a_slow_client_holds_the_function_back_and_goes_on(node: Any) -> None:
    client = await node.client()
    function = await begun(node, client)
    function.begin()
    size = await fill(function)
    await client.head()
    taken = 0
    while taken < size:
        taken += len(await client.chunk())
    await function.changed()
    assert not function.full
    function.end()
    assert await client.chunk() == b""


async def test_a_client_that_takes_nothing_is_dropped(start: StartNode) -> None:
    node = await start(STREAMED, write_timeout=5)
    node.caller.later = True
    function = await begun(node, await node.client())
    function.begin()
    await fill(function)
    while not function.gone:
        await node.clock.advance(5)
    await function.changed()


async def test_what_comes_after_it_was_held_back_is_not_held_against_a_slow_client(
    wire: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wired = wire(write_timeout=5)
    wired.node.mount(STREAMED)
    wired.caller.later = True
    wired.feed(GET)
    (function,) = wired.caller.streamed
    function.begin()
    unsent = 65_536
    monkeypatch.setattr(wired.transport, "get_write_buffer_size", lambda: unsent)
    wired.connection.pause_writing()
    unsent = 300_000
    function.write(bytes(234_464))  # was on its way already
    sweep = asyncio.ensure_future(wired.node.trigger.server.sweep())
    for _ in range(3):
        unsent -= 50_000  # it takes some, and has more left than when it was held back
        await wired.node.clock.advance(6)
        assert not function.gone
    await wired.node.clock.advance(6)
    assert function.gone, "it has taken nothing since"
    sweep.cancel()


async def test_a_client_that_has_left_stops_the_function(node: Any) -> None:
    client = await node.client()
    function = await begun(node, client)
    function.begin()
    function.write(b"one")
    await client.head()
    client.writer.transport.abort()
    async with asyncio.timeout(10):
        while not function.gone:  # one who has only said all he had to say still listens: what is sent tells
            function.write(b"nobody hears this")
            await asyncio.sleep(0)
    function.end()


async def test_a_client_that_leaves_while_it_holds_back_stops_the_function(node: Any) -> None:
    with socket.create_connection(("127.0.0.1", node.port)) as client:
        client.sendall(GET)
        await node.caller.called()
        (function,) = node.caller.streamed
        function.begin()
        await fill(function)
    await function.changed()
    assert function.gone


async def test_an_event_that_is_too_large_is_413(node: Any, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise PayloadTooLarge(8_000_000, 6_291_456)

    monkeypatch.setattr(node.caller, "invoke", refuse)
    assert (await client.ask(GET)).status == 413
    assert (await client.ask(GET.replace(b"/stream", b"/hello"))).status == 413


def test_a_stream_needs_a_caller_who_waits() -> None:
    with pytest.raises(ValueError, match="async = true has none"):
        HttpSettings(path="/", asynchronous=True, invoke_mode="RESPONSE_STREAM")


async def test_a_drain_waits_for_what_is_streamed(node: Any, client: Any) -> None:
    function = await begun(node, client)
    function.begin()
    draining = asyncio.ensure_future(node.trigger.drain(60))
    await client.head()
    function.write(b"still")
    assert await client.chunk() == b"still"
    function.end()
    assert await client.chunk() == b""
    await client.close()
    await asyncio.wait_for(draining, 10)

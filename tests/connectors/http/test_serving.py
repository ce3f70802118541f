"""Requests over real sockets: answers, order, refusals on the way, timeouts, slow readers, drain."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventfn.errors import ConnectorError, EngineFull, PayloadTooLarge, ShuttingDown, Throttled
from eventfn.event import Outcome, OutcomeKind
from eventfn_http import HttpSettings
from eventfn_http.server import MOST_LENT
from tests.support import until

GET = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSING = b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
POST = b"POST /hello HTTP/1.1\r\nHost: a\r\n"

StartNode = Callable[..., Awaitable[Any]]


def returning(**answer: Any) -> Outcome:
    return Outcome(OutcomeKind.SUCCESS, json.dumps(answer).encode())


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_answers_and_keeps_the_connection(node: Any, client: Any) -> None:
    for _ in range(2):
        answer = await client.ask(GET)
        assert (answer.status, answer.body) == (200, b"hello")
        assert answer.headers["x-amzn-requestid"] == node.caller.events[-1]["requestContext"]["requestId"]
        assert answer.headers["date"] == "Tue, 14 Nov 2023 22:13:20 GMT"
        assert "connection" not in answer.headers


async def test_request_ids_are_all_different(node: Any, client: Any) -> None:
    for _ in range(20):
        await client.ask(GET)
    assert len({event["requestContext"]["requestId"] for event in node.caller.events}) == 20


async def test_answers_later(node: Any, client: Any) -> None:
    node.caller.later = True
    await client.send(GET)
    await node.caller.called()
    node.caller.answer()
    assert (await client.answer()).body == b"hello"


async def test_pipelined_requests_are_answered_in_order_one_at_a_time(node: Any, client: Any) -> None:
    node.caller.later = True
    await client.send(b"".join(b"GET /items/%d HTTP/1.1\r\nHost: a\r\n\r\n" % at for at in range(3)))
    for at in range(3):
        await node.caller.called(at + 1)
        assert len(node.caller.events) == at + 1
        node.caller.answer(returning(statusCode=200, body=node.caller.events[at]["pathParameters"]["id"]))
        assert (await client.answer()).body == b"%d" % at


async def test_connection_close_is_obeyed(client: Any) -> None:
    answer = await client.ask(CLOSING)
    assert answer.headers["connection"] == "close"
    assert await client.closed() == b""


async def test_http_1_0(node: Any) -> None:
    client = await node.client()
    kept = await client.ask(b"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert kept.headers["connection"] == "keep-alive"
    closed = await client.ask(b"GET /hello HTTP/1.0\r\n\r\n")
    assert closed.headers["connection"] == "close"
    assert await client.closed() == b""


async def test_head_is_answered_like_get_without_its_body(node: Any, client: Any) -> None:
    await client.send(b"HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
    answer = await client.answer(body=False)
    assert (answer.status, answer.headers["content-length"]) == (200, "5")
    assert (await client.answer()).body == b"hello"
    assert node.caller.events[0]["requestContext"]["http"]["method"] == "HEAD"


@pytest.mark.parametrize("status", [204, 304])
async def test_no_body_where_none_may_be(node: Any, client: Any, status: int) -> None:
    node.caller.outcome = returning(statusCode=status, body="ignored")
    answer = await client.ask(GET)
    assert (answer.status, "content-length" in answer.headers) == (status, False)
    assert (await client.ask(GET)).status == status


async def test_a_large_body_both_ways(node: Any, client: Any) -> None:
    body = b"x" * 6_000_000
    node.caller.outcome = Outcome(OutcomeKind.SUCCESS, json.dumps("y" * 6_000_000).encode())
    sending = asyncio.create_task(client.send(POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)))
    assert (await client.answer()).body == b"y" * 6_000_000
    await sending
    assert len(node.caller.events[0]["body"]) == 8_000_000


async def test_large_and_small_requests_in_turn_on_one_connection(node: Any, client: Any) -> None:
    kind = b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b"
    bodies = [b"a" * 1_000_000, b"b", "ä".encode() * 400_000, b"", b"c" * 300_000, b"d"]
    sending = asyncio.create_task(client.send(b"".join(POST + kind % (len(body), body) for body in bodies)))
    for _ in bodies:
        assert (await client.answer()).status == 200
    await sending
    assert [event.get("body", "") for event in node.caller.events] == [body.decode() for body in bodies]
    assert node.trigger.server.lent == 0


async def test_what_is_set_aside_for_a_large_body_is_bounded_and_given_back(node: Any) -> None:
    announced = 6_000_000
    clients = [await node.client() for _ in range(12)]
    for client in clients:
        await client.send(POST + b"Content-Length: %d\r\n\r\n%b" % (announced, b"x" * 100_000))
    server = node.trigger.server
    await until(lambda: server.lent == MOST_LENT // announced * announced, "what is set aside")
    for client in clients[:6]:
        await client.close()
    await until(lambda: server.lent < 6 * announced, "what is set aside")
    for client in clients[6:]:
        await client.send(b"x" * (announced - 100_000))
        assert (await client.answer()).status == 200
    await until(lambda: server.lent == 0, "what is set aside")


async def test_a_large_body_that_stops_coming_is_given_up(node: Any, client: Any) -> None:
    await client.send(POST + b"Content-Length: 1000000\r\n\r\n" + b"x" * 200_000)
    await until(lambda: node.trigger.server.lent == 1_000_000, "what is set aside")
    await node.clock.advance(62)
    assert (await client.answer()).status == 408
    await client.send(b"x" * 800_000)  # too late: read, and thrown away
    client.writer.write_eof()
    assert await client.closed() == b""
    await until(lambda: node.trigger.server.lent == 0, "what is set aside")
    assert not node.caller.events


async def test_a_client_that_has_said_all_still_gets_its_answer(node: Any, client: Any) -> None:
    node.caller.later = True
    await client.send(GET)
    client.writer.write_eof()
    await node.caller.called()
    node.caller.answer()
    assert (await client.answer()).body == b"hello"
    assert await client.closed() == b""


async def test_a_client_that_leaves_in_the_middle_is_harmless(node: Any) -> None:
    node.caller.later = True
    gone = await node.client()
    await gone.send(GET + GET)
    await node.caller.called()
    await gone.close()
    here = await node.client()
    await here.send(GET)
    await node.caller.called(2)
    node.caller.answer()
    node.caller.answer()
    assert (await here.answer()).status == 200


# --- routes and access ------------------------------------------------------------------------------------------------


async def test_unknown_path_and_method(node: Any, client: Any) -> None:
    answer = await client.ask(b"POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    assert (answer.status, answer.body) == (404, b'{"message":"Not Found"}')
    answer = await client.ask(b"DELETE /hello HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    answer = await client.ask(b"OPTIONS /hello HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.status == 405
    assert node.caller.events == []


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"", 401),
        (b"Authorization: Bearer wrong\r\n", 401),
        (b"Authorization: Basic secret-1\r\n", 401),
        (b"x-api-key: secret-3\r\n", 401),
        (b"x-api-key:\r\n", 401),
        (b"Authorization: Bearer secret-1\r\n", 200),
        (b"authorization: bearer secret-2\r\n", 200),
        (b"X-Api-Key: secret-2\r\n", 200),
    ],
)
async def test_tokens(start: StartNode, header: bytes, status: int) -> None:
    node = await start(tokens=["secret-1", "secret-2"])
    client = await node.client()
    answer = await client.ask(b"GET /hello HTTP/1.1\r\nHost: a\r\n" + header + b"\r\n")
    assert answer.status == status
    if status == 200:
        event = node.caller.events[0]
        assert event["requestContext"]["accountId"] == "123456789012"
        assert "secret" not in json.dumps(event)
    else:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert node.caller.events == []


async def test_routes_are_swapped_under_way(node: Any, client: Any) -> None:
    assert (await client.ask(GET)).status == 200
    node.caller.later = True
    await client.send(GET)
    await node.caller.called(2)
    node.mount([HttpSettings(path="/other")])
    node.caller.answer()
    assert (await client.answer()).status == 200
    assert (await client.ask(GET)).status == 404
    await client.send(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
    await node.caller.called(3)
    node.caller.answer()
    assert (await client.answer()).status == 200


# --- Expect -----------------------------------------------------------------------------------------------------------


async def test_continue_when_the_body_will_be_taken(node: Any, client: Any) -> None:
    await client.send(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert (await client.answer(body=False)).status == 100
    assert (await client.ask(b"hello")).status == 200
    assert node.caller.events[0]["body"] == "aGVsbG8="


async def test_continue_waits_for_its_turn(node: Any, client: Any) -> None:
    node.caller.later = True
    await client.send(GET + POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    await node.caller.called()
    node.caller.answer()
    assert (await client.answer()).status == 200
    assert (await client.answer(body=False)).status == 100
    await client.send(b"hello")
    await node.caller.called(2)
    node.caller.answer()
    assert (await client.answer()).status == 200


async def test_no_continue_for_a_request_that_is_refused(client: Any) -> None:
    answer = await client.ask(b"POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert (answer.status, answer.headers["connection"]) == (404, "close")
    assert await client.closed() == b""


async def test_a_refused_upload_reads_why(start: StartNode) -> None:
    node = await start(max_body=1000)
    client = await node.client()
    sending = asyncio.create_task(client.send(POST + b"Content-Length: 50000000\r\n\r\n" + b"x" * 50_000_000))
    assert (await client.answer()).status == 413
    await sending
    assert await client.closed() == b""


# --- outcomes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "status", "body"),
    [
        (Outcome(OutcomeKind.FUNCTION_ERROR, b'{"errorMessage":"no"}'), 502, b"Internal Server Error"),
        (Outcome(OutcomeKind.THROTTLED, b"", retry_after=7), 429, b'{"message":"Too Many Requests"}'),
        (Outcome(OutcomeKind.SYSTEM_ERROR, b""), 503, b'{"message":"Service Unavailable"}'),
        (Outcome(OutcomeKind.SUCCESS, b'{"statusCode":"two"}'), 502, b"Internal Server Error"),
        (returning(statusCode=200, headers={"a": "b\r\nevil: 1"}), 502, b"Internal Server Error"),
    ],
)
async def test_outcomes(node: Any, client: Any, outcome: Outcome, status: int, body: bytes) -> None:
    node.caller.outcome = outcome
    answer = await client.ask(GET)
    assert (answer.status, answer.body) == (status, body)
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)
    assert (await client.ask(GET)).status == status


async def test_a_caller_that_raises_is_our_fault_and_nobody_hangs(node: Any, client: Any, caplog: Any) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    node.caller.invoke = broken
    assert (await client.ask(GET)).status == 503
    assert "a bug" in caplog.text


# --- asynchronous routes ----------------------------------------------------------------------------------------------


LATER = b"POST /later HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"


async def test_accepted_once_it_is_kept(node: Any, client: Any) -> None:
    node.caller.keep = asyncio.Event()
    await client.send(LATER + b"Idempotency-Key: order-7\r\n\r\n{}")
    await node.caller.called()
    node.caller.keep.set()
    answer = await client.answer()
    event, request_id, key = node.caller.submitted[0]
    assert (answer.status, json.loads(answer.body)) == (202, {"requestId": request_id})
    assert key == "http:POST /later:order-7"
    assert event["routeKey"] == "POST /later"


async def test_without_a_key_nothing_is_deduplicated(node: Any, client: Any) -> None:
    assert (await client.ask(LATER + b"\r\n{}")).status == 202
    assert node.caller.submitted[0][2] is None


@pytest.mark.parametrize("key", [b"", b"k" * 256])
async def test_keys_that_are_none(node: Any, client: Any, key: bytes) -> None:
    assert (await client.ask(LATER + b"Idempotency-Key: " + key + b"\r\n\r\n{}")).status == 400
    assert node.caller.submitted == []


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (Throttled("queue full", retry_after=9), 429),
        (PayloadTooLarge(2_000_000, 1_048_576), 413),
        (EngineFull("disk full"), 503),
        (ShuttingDown("draining"), 503),
        (RuntimeError("a bug"), 503),
    ],
)
async def test_what_could_not_be_kept(node: Any, client: Any, refusal: Exception, status: int) -> None:
    node.caller.refusal = refusal
    answer = await client.ask(LATER + b"\r\n{}")
    assert (answer.status, answer.headers.get("retry-after")) == (status, "9" if status == 429 else None)


# --- limits on time and number ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "timeout", "status"),
    [
        (b"GET /hello HT", 10, 408),
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nA: ", 10, 408),
        (POST + b"Content-Length: 5\r\n\r\nhe", 60, 408),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe", 60, 408),
    ],
)
async def test_slow_senders(node: Any, client: Any, sent: bytes, timeout: int, status: int) -> None:
    assert (await client.ask(GET)).status == 200
    await client.send(sent)
    await received(node)
    await node.clock.advance(timeout - 1)
    assert not client.reader.at_eof()
    await node.clock.advance(3)
    assert (await client.answer()).status == status
    assert await client.closed() == b""
    assert len(node.caller.events) == 1


async def test_a_node_that_stood_still_holds_that_against_nobody(node: Any, client: Any) -> None:
    await client.send(b"GET /hello HT")
    await received(node)
    node.clock.stand_still(
        60
    )  # what the client has sent in the meantime is not read before the deadlines are looked at
    await node.clock.advance(1)
    assert (await client.ask(b"TP/1.1\r\nHost: a\r\n\r\n")).status == 200
    await client.send(b"GET /hello HT")
    await received(node)
    for _ in range(12):
        node.clock.stand_still(0.5)  # a little late each time: that is no standing still
        await node.clock.advance(1)
    assert (await client.answer()).status == 408


async def received(node: Any) -> None:
    """Returns once the node has read what the client sent before: a later connection has been answered twice."""
    probe = await node.client()
    for _ in range(2):
        assert (await probe.ask(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")).status == 404


async def test_trickling_a_head_does_not_help(node: Any, client: Any) -> None:
    answering = asyncio.create_task(client.answer())
    for byte in b"GET /hello HTTP/1.1":
        await client.send(bytes([byte]))
        await received(node)
        await node.clock.advance(1)
        if answering.done():
            break
    assert (await answering).status == 408


async def test_idle_connections_are_closed_without_a_word(node: Any, client: Any) -> None:
    fresh = await node.client()
    await client.ask(GET)
    await received(node)
    await node.clock.advance(12)
    assert await fresh.closed() == b""
    assert (await client.ask(GET)).status == 200
    await node.clock.advance(77)
    assert await client.closed() == b""


async def test_a_slow_function_is_no_slow_client(node: Any, client: Any) -> None:
    node.caller.later = True
    await client.send(GET)
    await node.caller.called()
    await node.clock.advance(900)
    node.caller.answer()
    assert (await client.answer()).status == 200


async def test_a_client_that_reads_nothing_is_dropped(start: StartNode) -> None:
    node = await start(write_timeout=5)
    node.caller.outcome = Outcome(OutcomeKind.SUCCESS, json.dumps("y" * 6_000_000).encode())
    with socket.create_connection(("127.0.0.1", node.port)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(GET * 3)
        await node.caller.called()
        await node.clock.advance(60)
        assert len(node.caller.events) == 1, "nothing is served to who takes nothing"
        await node.trigger.drain(0)
        assert node.trigger.server.connections == 0


async def test_a_client_that_reads_slowly_gets_it_all(start: StartNode) -> None:
    node = await start(write_timeout=5)
    node.caller.outcome = Outcome(OutcomeKind.SUCCESS, json.dumps("y" * 6_000_000).encode())
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port, limit=64 * 1024)
    writer.write(CLOSING)
    total = 0
    while part := await reader.read(1_000_000):
        total += len(part)
        if node.trigger.server.connections:
            await node.clock.advance(1)
    assert total > 6_000_000
    writer.close()
    await writer.wait_closed()


async def test_too_many_connections(start: StartNode) -> None:
    node = await start(max_connections=2)
    first, second, third = [await node.client() for _ in range(3)]
    await first.ask(GET)
    await second.ask(GET)
    answer = await third.answer()
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    await third.close()
    await first.close()
    await received_close(node, 1)
    assert (await (await node.client()).ask(GET)).status == 200


async def received_close(node: Any, left: int) -> None:
    async with asyncio.timeout(60):
        while node.trigger.server.connections > left:
            await asyncio.sleep(0)


# --- the listener's life ----------------------------------------------------------------------------------------------


async def test_the_address_in_use_says_what_to_do(start: StartNode) -> None:
    node = await start()
    with pytest.raises(
        ConnectorError, match=f"127.0.0.1:{node.port} is in use by another process: .*listen in \\[http\\]"
    ):
        await start(listen=f"127.0.0.1:{node.port}")


async def test_an_address_of_another_machine(start: StartNode) -> None:
    with pytest.raises(ConnectorError, match=r"192\.0\.2\.1 is not an address of this machine"):
        await start(listen="192.0.2.1:8080")


async def test_drain_answers_what_is_under_way_and_closes_the_rest(node: Any) -> None:
    idle, busy, half = [await node.client() for _ in range(3)]
    await idle.ask(GET)
    await half.send(b"GET /hello HTTP/1.1\r\n")
    node.caller.later = True
    await busy.send(GET)
    await node.caller.called(2)
    await received(node)
    draining = asyncio.create_task(node.trigger.drain(30))
    assert await idle.closed() == b""
    with pytest.raises(ConnectionRefusedError):
        await node.client()
    node.caller.answer()
    answer = await busy.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert not draining.done()
    await half.send(b"Host: a\r\n\r\n")
    await node.caller.called(3)
    node.caller.answer()
    assert (await half.answer()).headers["connection"] == "close"
    async with asyncio.timeout(60):
        await draining


async def test_drain_waits_for_what_is_being_kept(node: Any, client: Any) -> None:
    node.caller.keep = asyncio.Event()
    await client.send(LATER + b"\r\n{}")
    await node.caller.called()
    await client.close()
    draining = asyncio.create_task(node.trigger.drain(30))
    await node.clock.advance(1)
    assert not draining.done()
    node.caller.keep.set()
    async with asyncio.timeout(60):
        await draining


async def test_drain_gives_up_at_its_deadline(node: Any, client: Any) -> None:
    node.caller.later = True
    await client.send(GET)
    await node.caller.called()
    draining = asyncio.create_task(node.trigger.drain(30))
    await node.clock.advance(31)
    assert draining.done()
    await node.trigger.close()
    assert await client.closed() == b""


async def test_close_works_at_any_time(start: StartNode) -> None:
    node = await start()
    await node.trigger.close()
    await node.trigger.close()
    await node.trigger.drain(1)

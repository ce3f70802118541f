"""Invoke past aiohttp: what goes which way, and that nobody can tell."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.api.plain import plain
from eventfn.event import MAX_SYNC_REQUEST, MAX_SYNC_RESPONSE, Outcome, OutcomeKind
from tests.api.fake_node import TOKEN, FakeNode
from tests.api.listening import Listening

PATH = "/2015-03-31/functions/hello/invocations"
PATIENCE = 30.0  # seconds


@pytest.fixture
async def listening(node: FakeNode) -> AsyncIterator[Listening]:
    found = Listening(node, TOKEN)
    async with found:
        yield found


class Wire:
    """A client that says every byte itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def answer(self) -> tuple[bytes, dict[str, str], bytes]:
        """Status line, headers, body."""
        async with asyncio.timeout(PATIENCE):
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            return first.encode(), headers, await self.reader.readexactly(int(headers.get("Content-Length", 0)))

    async def is_closed(self) -> bool:
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read(1) == b""


@pytest.fixture
async def wire(listening: Listening) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection(listening.host, listening.port, limit=2**24)
    yield Wire(reader, writer)
    writer.close()


def request(body: bytes = b"{}", *more: str, path: str = PATH, method: str = "POST") -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {TOKEN}", *more]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


async def turns() -> None:
    """Of the loop: what was sent before is read by then, and what is sent next is a read of its own."""
    for _ in range(10):
        await asyncio.sleep(0)


async def until_called(node: FakeNode, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(node.calls) < count:
            await asyncio.sleep(0)


# --- which way ------------------------------------------------------------------------------------------------------


async def test_a_plain_invoke_goes_past_aiohttp_and_the_connection_stays(
    listening: Listening, wire: Wire, node: FakeNode
) -> None:
    for _ in range(3):
        await wire.say(request())
        first, _, body = await wire.answer()
        assert (first, body) == (b"HTTP/1.1 200 OK", node.outcome.payload)
    assert (listening.handed_over, len(node.calls)) == (0, 3)


async def test_a_body_may_come_late_and_in_pieces(listening: Listening, wire: Wire, node: FakeNode) -> None:
    body = b'"' + b"x" * 200_000 + b'"'
    whole = request(body) + request(b"2")
    head = whole.index(b"\r\n\r\n") + 4
    for piece in (whole[:head], whole[head : head + 1], whole[head + 1 : 100_000], whole[100_000:]):
        await wire.say(piece)
        await turns()
    await wire.answer()
    await wire.answer()
    assert [call["payload"] for call in node.calls] == [body, b"2"]
    assert listening.handed_over == 0


@pytest.mark.parametrize("at", [1, 4, 20, 70, -3])
async def test_a_head_that_comes_in_pieces_is_aiohttps(
    listening: Listening, wire: Wire, node: FakeNode, at: int
) -> None:
    head, body = request(b"[1]")[:-3], b"[1]"
    await wire.say(head[:at])
    await turns()
    await wire.say(head[at:], body)
    first, _, _ = await wire.answer()
    assert (first, node.calls[0]["payload"], listening.handed_over) == (b"HTTP/1.1 200 OK", b"[1]", 1)


ZIPPED = gzip.compress(b"[1]")
OTHERS = {
    "chunked": request(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    + b"3\r\n[1]\r\n0\r\n\r\n",
    "compressed": request(ZIPPED, "Content-Encoding: gzip"),
    "no length": request().replace(b"Content-Length: 2\r\n\r\n{}", b"\r\n"),
    "an empty value": request(b"[1]", "X-Empty:"),
    "a space at the end": request(b"[1]", "X-Amz-Log-Type: Tail "),
    "no space": request(b"[1]", "X-Amz-Log-Type:Tail"),
    "not ASCII": request(b"[1]", "X-Any: é"),
    "twice": request(b"[1]", "X-Any: 1", "X-Any: 2"),
    "an escaped name": request(b"[1]", path=PATH.replace("hello", "h%65llo")),
    "HTTP/1.0": request(b"[1]").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "another Connection": request(b"[1]", "Connection: keep-alive, x"),
    "a large body": request(b'"' + b"x" * (MAX_SYNC_REQUEST - 2) + b'"'),
}


@pytest.mark.parametrize("name", OTHERS)
async def test_what_is_not_plain_is_answered_by_aiohttp(
    listening: Listening, wire: Wire, node: FakeNode, name: str
) -> None:
    await wire.say(OTHERS[name])
    first, _, body = await wire.answer()
    assert (first[9:], body) == (b"200 OK", node.outcome.payload)
    assert listening.handed_over == (0 if name == "an escaped name" else 1)
    assert node.calls[0]["name"] == "hello"


async def test_expect_is_aiohttps(listening: Listening, wire: Wire, node: FakeNode) -> None:
    whole = request(b"[1]", "Expect: 100-continue")
    await wire.say(whole[:-3])
    assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await wire.say(b"[1]")
    first, _, _ = await wire.answer()
    assert (first, listening.handed_over) == (b"HTTP/1.1 200 OK", 1)


ODD = {
    "two lengths": request(b"{}", "Content-Length: 1"),
    "the same length twice": request(b"{}", "Content-Length: 2"),
    "a length and chunks": request(b"{}", "Transfer-Encoding: chunked"),
    "a length with a sign": request().replace(b"Length: 2", b"Length: +2"),
    "a folded line": request(b"{}", "X-Any: a\r\n b"),
    "a NUL": request(b"{}", "X-Any: a\0b"),
    "a bare line feed": request(b"{}", "X-Any: a\nX-Other: b"),
    "a bare carriage return": request(b"{}", "X-Any: a\rX-Other: b"),
    "a space before the colon": request(b"{}", "X-Any : a"),
    "no colon": request(b"{}", "X-Any"),
    "two hosts": request(b"{}", "Host: 127.0.0.1"),
    "a long line": request(b"{}", "X-Any: " + "a" * 9_000),
    "many lines": request(b"{}", *(f"X-{number}: a" for number in range(200))),
    "no HTTP": request().replace(b"HTTP/1.1", b"HTTP/9.9"),
}


@pytest.mark.parametrize("name", ODD)
async def test_what_is_odd_is_refused_by_aiohttp(listening: Listening, wire: Wire, node: FakeNode, name: str) -> None:
    await wire.say(request())
    await wire.answer()
    await wire.say(ODD[name])
    first, _, _ = await wire.answer()
    assert b" 400 " in first
    assert (listening.handed_over, len(node.calls)) == (1, 1)


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 20))
def test_nothing_but_visible_ascii_is_plain(noise: bytes, at: int, drop: int) -> None:
    """A head that was changed anywhere is either refused or wholly what its bytes say."""
    whole = request()
    changed = whole[:at] + noise + whole[at + drop :]
    found = plain(changed, None)
    if found is None:
        return
    head = changed[: found.end]
    assert head.endswith(b"\r\n\r\n")
    assert re.fullmatch(rb"[ -~]+", head.replace(b"\r\n", b""))
    lines = head[:-4].decode().split("\r\n")
    assert lines[0] == f"POST {found.raw_path} HTTP/1.1"
    assert [f"{name}: {value}" for name, value in found.headers.items()] == lines[1:]
    assert found.length == int(found.headers["Content-Length"])


# --- the same answers ------------------------------------------------------------------------------------------------

SAME = {
    "answered": request(b"[1]", "X-Amzn-Trace-Id: Root=1"),
    "no body": request(b""),
    "with its log": request(b"{}", "X-Amz-Log-Type: Tail"),
    "as an event": request(b"{}", "X-Amz-Invocation-Type: Event"),
    "dry": request(b"{}", "X-Amz-Invocation-Type: DryRun"),
    "of an unknown type": request(b"{}", "X-Amz-Invocation-Type: Later"),
    "unknown": request(b"{}", path=PATH.replace("hello", "helo")),
    "qualified": request(b"{}", path=PATH + "?Qualifier=%24LATEST"),
    "badly qualified": request(b"{}", path=PATH + "?Qualifier=a.b"),
    "no JSON": request(b"{"),
    "no context": request(b"{}", "X-Amz-Client-Context: x"),
    "without a token": request().replace(b"Bearer", b"Bear"),
    "under another name": request().replace(b"localhost", b"evil.example"),
    "the last one": request(b"{}", "Connection: close"),
    "to be kept": request(b"{}", "Connection: Keep-Alive"),
}
OUTCOMES = {
    "success": Outcome(OutcomeKind.SUCCESS, b'"\xc3\xa9"', log_tail=b"log"),
    "nothing": Outcome(OutcomeKind.SUCCESS, b""),
    "failure": Outcome(OutcomeKind.FUNCTION_ERROR, b'{"errorType": "E"}', log_tail=b"log"),
    "throttled": Outcome(OutcomeKind.THROTTLED, b"", retry_after=7),
    "ours": Outcome(OutcomeKind.SYSTEM_ERROR, b"", error_message="so"),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("name", SAME)
async def test_it_answers_as_aiohttp_does(listening: Listening, node: FakeNode, name: str, outcome: str) -> None:
    node.outcome = OUTCOMES[outcome]

    async def told(*before: bytes) -> Any:
        reader, writer = await asyncio.open_connection(listening.host, listening.port)
        wire = Wire(reader, writer)
        for each in before:
            await wire.say(each)
            await wire.answer()
        await wire.say(SAME[name])
        first, headers, body = await wire.answer()
        del headers["x-amzn-RequestId"], headers["Date"]
        closed = "Connection" in headers and await wire.is_closed()
        writer.close()
        return first, headers, body, closed

    here = await told()
    assert listening.handed_over == 0
    there = await told(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert listening.handed_over == 1
    assert here == there
    ours, theirs = node.calls[: len(node.calls) // 2], node.calls[len(node.calls) // 2 :]
    assert [{**call, "request_id": ""} for call in ours] == [{**call, "request_id": ""} for call in theirs]


# --- one connection --------------------------------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_order(listening: Listening, wire: Wire, node: FakeNode) -> None:
    node.held = []
    await wire.say(*(request(b"%d" % number) for number in range(5)))
    for number in range(5):
        await until_called(node, number + 1)
        await turns()
        assert len(node.calls) == number + 1  # one at a time
        node.outcome = Outcome(OutcomeKind.SUCCESS, node.calls[number]["payload"])
        node.held.pop()()
        assert (await wire.answer())[2] == b"%d" % number
    assert listening.handed_over == 0


async def test_many_that_are_refused_at_once(wire: Wire) -> None:
    """More than Python has room for calls within calls."""
    await wire.say(request(b"{") * 5_000)
    for _ in range(5_000):
        assert (await wire.answer())[0] == b"HTTP/1.1 400 Bad Request"


async def test_invokes_and_other_operations_on_one_connection(listening: Listening, wire: Wire, node: FakeNode) -> None:
    other = request(b"", path="/2015-03-31/functions/hello", method="GET")
    health = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    await wire.say(request(b"1") + request(b"2") + health + request(b"3") + other + request(b"4"))
    answers = [await wire.answer() for _ in range(6)]
    assert [first for first, _, _ in answers] == [b"HTTP/1.1 200 OK"] * 6
    assert answers[2][2] == b'{"status":"ok"}'
    assert [call["payload"] for call in node.calls] == [b"1", b"2", b"3", b"4"]
    assert listening.handed_over == 1


async def test_what_comes_behind_a_last_request_is_nobodys(wire: Wire, node: FakeNode) -> None:
    await wire.say(request(b"1", "Connection: close") + request(b"2"))
    _, headers, _ = await wire.answer()
    assert headers["Connection"] == "close"
    assert await wire.is_closed()
    assert len(node.calls) == 1


async def test_who_leaves_in_the_middle_of_a_body_has_invoked_nothing(
    listening: Listening, wire: Wire, node: FakeNode
) -> None:
    await wire.say(request(b"[1, 2, 3]")[:-2])
    await turns()
    wire.writer.write_eof()
    assert await wire.is_closed()
    assert (node.calls, listening.handed_over) == ([], 0)


async def test_who_leaves_before_the_answer_does_not_end_the_function(
    listening: Listening, wire: Wire, node: FakeNode
) -> None:
    node.held = []
    await wire.say(request())
    await until_called(node, 1)
    wire.writer.transport.abort()
    reader, writer = await asyncio.open_connection(listening.host, listening.port)
    other = Wire(reader, writer)
    await other.say(request())  # by now the listener has seen the first one go
    await until_called(node, 2)
    for end in node.held:
        end()
    assert (await other.answer())[0] == b"HTTP/1.1 200 OK"
    writer.close()


async def test_a_slow_reader_of_large_answers_gets_them_and_holds_up_only_himself(
    listening: Listening, node: FakeNode
) -> None:
    node.outcome = Outcome(OutcomeKind.SUCCESS, b"1" * MAX_SYNC_RESPONSE)
    reader, writer = await asyncio.open_connection(listening.host, listening.port, limit=1024)
    slow = Wire(reader, writer)
    await slow.say(request() * 3)
    await until_called(node, 1)
    answered = len(node.calls)
    node.outcome = Outcome(OutcomeKind.SUCCESS, b"2")
    reader, writer = await asyncio.open_connection(listening.host, listening.port)
    quick = Wire(reader, writer)
    for _ in range(20):
        await quick.say(request())
        assert (await quick.answer())[2] == b"2"
    assert (answered, len(node.calls)) == (1, 21)  # the slow one's second waits until he has taken his first
    _, _, body = await slow.answer()
    assert body == b"1" * MAX_SYNC_RESPONSE
    assert [(await slow.answer())[2] for _ in range(2)] == [b"2", b"2"]
    assert listening.handed_over == 0
    slow.writer.close()
    writer.close()


async def test_who_leaves_in_the_middle_of_a_large_answer_takes_nothing_with_him(
    listening: Listening, wire: Wire, node: FakeNode
) -> None:
    node.outcome = Outcome(OutcomeKind.SUCCESS, b"1" * MAX_SYNC_RESPONSE)
    await wire.say(request() * 2)
    await wire.reader.readexactly(1_000)
    wire.writer.transport.abort()
    reader, writer = await asyncio.open_connection(listening.host, listening.port, limit=2**24)
    other = Wire(reader, writer)
    await other.say(request())
    assert len((await other.answer())[2]) == MAX_SYNC_RESPONSE
    writer.close()


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_a_request_under_way_is_answered_before_its_connection_closes(
    listening: Listening, wire: Wire, node: FakeNode
) -> None:
    node.held = []
    idle = Wire(*await asyncio.open_connection(listening.host, listening.port))
    await wire.say(request() + request())
    await until_called(node, 1)
    closing = asyncio.create_task(listening.close())
    assert await idle.is_closed()
    assert not closing.done()
    node.held.pop()()
    first, headers, _ = await wire.answer()
    assert (first, headers["Connection"]) == (b"HTTP/1.1 200 OK", "close")
    assert await wire.is_closed()
    async with asyncio.timeout(PATIENCE):
        await closing
    assert len(node.calls) == 1
    idle.writer.close()


async def test_a_large_answer_is_sent_whole_before_its_connection_closes(listening: Listening, node: FakeNode) -> None:
    node.held, node.outcome = [], Outcome(OutcomeKind.SUCCESS, b"1" * MAX_SYNC_RESPONSE)
    wire = Wire(*await asyncio.open_connection(listening.host, listening.port, limit=1024))
    await wire.say(request())
    await until_called(node, 1)
    closing = asyncio.create_task(listening.close())
    await turns()
    node.held.pop()()
    assert len((await wire.answer())[2]) == MAX_SYNC_RESPONSE
    await closing
    wire.writer.close()


async def test_one_that_does_not_end_is_given_a_second(listening: Listening, wire: Wire, node: FakeNode) -> None:
    node.held = []
    await wire.say(request())
    await until_called(node, 1)
    async with asyncio.timeout(PATIENCE):
        await listening.close()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await wire.answer()
    node.held.pop()()  # and finds nobody

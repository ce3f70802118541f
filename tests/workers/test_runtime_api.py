"""The local APIs without processes: who may say what when, and bytes that no client sends."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from eventfn.event import MAX_SYNC_RESPONSE, ResponseStream
from eventfn.workers.local_api import http
from eventfn.workers.local_api.answers import Answer
from eventfn.workers.local_api.extensions import Extensions, Facts
from eventfn.workers.local_api.http import Exchange, Server
from eventfn.workers.local_api.runtime import Event, Reported, Runtime
from eventfn.workers.local_api.telemetry import TELEMETRY, Subscriber, Telemetry

ID = "11111111-2222-3333-4444-555555555555"
FACTS = Facts("fn", "$LATEST", "main.handler", "000000000000")


class Posted(Exchange):
    """A request that has arrived, and its answer."""

    def __init__(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        self.answers: list[Answer] = []
        facts = {name.replace("_", "-"): value for name, value in headers.items()}
        super().__init__(None, method, path, facts)  # type: ignore[arg-type]  # it stands on no connection
        self.body += body

    def answer(self, answer: Answer) -> None:
        self.answers.append(answer)

    @property
    def status(self) -> int | None:
        assert len(self.answers) <= 1, "answered twice"
        return self.answers[0].status if self.answers else None

    @property
    def error(self) -> str:
        found: dict[str, str] = msgspec.json.decode(self.answers[0].body)
        return found["errorType"]


class Heard:
    """Whoever keeps the environment: what it was told, in order."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def runtime_ready(self) -> None:
        self.said.append("ready")

    def stream(self) -> ResponseStream | None:
        return None

    def responded(self, payload: bytes) -> None:
        self.said.append(payload)

    def response_too_large(self, limit: int) -> None:
        self.said.append(limit)

    def failed(self, error: Reported) -> None:
        self.said.append(("failed", error.error_type))

    def init_failed(self, error: Reported) -> None:
        self.said.append(("init failed", error.error_type))

    def extensions_registered(self) -> None:
        self.said.append("registered")

    def extension_ready(self) -> None:
        self.said.append("extension ready")

    def extension_failed(self, name: str, error_type: str) -> None:
        self.said.append((name, error_type))


def event(request_id: str = ID) -> Event:
    return Event(request_id, b"{}", 1, "arn:aws:lambda:us-east-1:000000000000:function:fn")


class Table:
    """A Runtime, and short words for what its client does."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.runtime = Runtime(self.heard)

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> Posted:
        posted = Posted(method, f"/2018-06-01/runtime/{path}", body, **headers)
        self.runtime.begins(posted)
        if len(posted.body) > posted.room:
            posted.too_large = True
        self.runtime.arrived(posted)
        return posted

    def next(self) -> Posted:
        return self.send("GET", "invocation/next")

    def respond(self, body: bytes = b"1", request_id: str = ID) -> Posted:
        return self.send("POST", f"invocation/{request_id}/response", body)


@pytest.fixture
def table() -> Table:
    return Table()


def test_a_request_from_next_to_next(table: Table) -> None:
    first = table.next()
    assert first.status is None, "it waits"
    table.runtime.give(event())
    assert first.status == 200
    assert ("Lambda-Runtime-Aws-Request-Id", ID) in first.answers[0].headers
    assert table.respond(b"[1]").status == 202
    assert table.next().status is None
    assert table.heard.said == ["ready", b"[1]", "ready"]


def test_the_same_event_is_given_until_it_is_answered(table: Table) -> None:
    table.next()
    table.runtime.give(event())
    assert [table.next().status, table.next().status] == [200, 200]
    assert table.heard.said == ["ready"]


def test_who_asks_twice_is_answered_once(table: Table) -> None:
    first, second = table.next(), table.next()
    assert (first.status, first.error) == (403, "InvalidStateTransition")
    table.runtime.give(event())
    assert second.status == 200


def test_an_event_waits_for_whoever_lost_his_connection(table: Table) -> None:
    first = table.next()
    table.runtime.lost(first)
    table.runtime.give(event())
    assert first.status is None
    assert table.next().status == 200


def _before(table: Table, state: str) -> None:
    if state == "Started":
        return
    if state == "InitError":
        table.send("POST", "init/error")
        return
    table.next()
    if state != "Ready":
        table.runtime.give(event())
    if state == "RuntimeResponseSentState":
        table.respond()


@pytest.mark.parametrize(
    ("state", "call", "status", "error"),
    [
        ("Started", ("POST", f"invocation/{ID}/response"), 400, "InvalidRequestID"),
        ("Ready", ("POST", f"invocation/{ID}/response"), 400, "InvalidRequestID"),
        ("Running", ("POST", "invocation/another/response"), 400, "InvalidRequestID"),
        ("RuntimeResponseSentState", ("POST", f"invocation/{ID}/response"), 403, "InvalidStateTransition"),
        ("RuntimeResponseSentState", ("POST", f"invocation/{ID}/error"), 403, "InvalidStateTransition"),
        ("Ready", ("POST", "init/error"), 403, "InvalidStateTransition"),
        ("Running", ("POST", "init/error"), 403, "InvalidStateTransition"),
        ("InitError", ("POST", "init/error"), 403, "InvalidStateTransition"),
        ("InitError", ("GET", "invocation/next"), 403, "InvalidStateTransition"),
        ("Started", ("GET", "restore/next"), 403, "InvalidStateTransition"),
        ("Started", ("POST", "restore/error"), 403, "InvalidStateTransition"),
    ],
)
def test_what_comes_in_the_wrong_state_is_refused(
    table: Table, state: str, call: tuple[str, str], status: int, error: str
) -> None:
    _before(table, state)
    assert table.runtime.state == state
    posted = table.send(*call)
    assert (posted.status, posted.error) == (status, error)
    assert table.runtime.state == state


def test_the_refusal_names_both_states(table: Table) -> None:
    _before(table, "RuntimeResponseSentState")
    assert msgspec.json.decode(table.respond().answers[0].body)["errorMessage"] == (
        "State transition from RuntimeResponseSentState to InvocationResponse failed for runtime. "
        "Error: State transition is not allowed"
    )


@pytest.mark.parametrize(
    "call", [("GET", "nowhere"), ("PUT", "invocation/next"), ("POST", "invocation//x"), ("GET", "")]
)
def test_what_there_is_not_is_not_found(table: Table, call: tuple[str, str]) -> None:
    assert table.send(*call).status == 404


def test_an_answer_that_is_too_large_is_its_requests_end(table: Table) -> None:
    _before(table, "Running")
    posted = table.respond(b"x" * (MAX_SYNC_RESPONSE + 1))
    assert (posted.status, posted.error) == (413, "RequestEntityTooLarge")
    assert table.heard.said[-1] == MAX_SYNC_RESPONSE
    assert table.next().status is None


@pytest.mark.parametrize(
    ("header", "body", "expected"),
    [
        ("Function.Odd", b"", "Function.Odd"),
        ("Function.Odd", b'{"errorType": "Mine"}', "Mine"),
        ("Function.odd!", b"no json", "Function.Unknown"),
        ("anything", b"[1]", "Runtime.Unknown"),
        ("", b'{"errorType": 5}', "Runtime.Unknown"),
        ("Function.Odd", b'{"a":' * 40_000 + b"1" + b"}" * 40_000, "Function.Odd"),
    ],
)
def test_an_error_is_called_what_it_says_if_that_can_be_understood(
    table: Table, header: str, body: bytes, expected: str
) -> None:
    _before(table, "Running")
    table.send("POST", f"invocation/{ID}/error", body, lambda_runtime_function_error_type=header)
    assert table.heard.said[-1] == ("failed", expected)


class Anything(RuleBasedStateMachine):
    """Whatever a client sends: each call is answered at once, but for one `next` that waits. Events end once."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.given = itertools.count()
        self.current = ""
        self.ended = 0
        self.sent: list[Posted] = []

    @rule()
    def ask(self) -> None:
        self.sent.append(self.table.next())

    @rule(right=st.booleans(), kind=st.sampled_from(["response", "error"]), body=st.binary(max_size=20))
    def answer(self, right: bool, kind: str, body: bytes) -> None:
        request_id = self.current if right else "another"
        self.sent.append(self.table.send("POST", f"invocation/{request_id}/{kind}", body))

    @rule(path=st.sampled_from(["init/error", "restore/error", "x"]))
    def say(self, path: str) -> None:
        self.sent.append(self.table.send("POST", path))

    @rule()
    def lose(self) -> None:
        if self.sent:
            self.table.runtime.lost(self.sent.pop())

    @precondition(lambda self: self.table.runtime.state == "Ready")
    @rule()
    def invoke(self) -> None:
        self.current = f"id-{next(self.given)}"
        self.table.runtime.give(event(self.current))

    @invariant()
    def nobody_waits_but_one(self) -> None:
        assert sum(posted.status is None for posted in self.sent) <= 1

    @invariant()
    def an_event_ends_once(self) -> None:
        ends = [said for said in self.table.heard.said if said not in ("ready", ("init failed", "Runtime.Unknown"))]
        assert len(ends) <= int(self.current.removeprefix("id-") or -1) + 1


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# --- extensions ------------------------------------------------------------------------------------------------------


class Agents:
    def __init__(self, *names: str) -> None:
        self.heard = Heard()
        numbers = itertools.count(1)
        self.extensions = Extensions(
            names, FACTS, lambda: f"{next(numbers):08d}-0000-0000-0000-000000000000", self.heard
        )

    def send(self, method: str, path: str, body: object = None, **headers: str) -> Posted:
        posted = Posted(method, f"/2020-01-01/extension/{path}", msgspec.json.encode(body), **headers)
        self.extensions.begins(posted)
        self.extensions.arrived(posted)
        return posted

    def register(self, name: str, *events: str) -> Posted:
        return self.send("POST", "register", {"events": events}, lambda_extension_name=name)

    def next(self, identifier: str) -> Posted:
        return self.send("GET", "event/next", lambda_extension_identifier=identifier)


def identifier_of(posted: Posted) -> str:
    return dict(posted.answers[0].headers)["Lambda-Extension-Identifier"]


def test_an_extension_from_its_registration_to_its_end() -> None:
    agents = Agents("agent")
    registered = agents.register("agent", "INVOKE", "SHUTDOWN")
    assert registered.status == 200
    assert msgspec.json.decode(registered.answers[0].body) == {
        "functionName": "fn", "functionVersion": "$LATEST", "handler": "main.handler",
    }  # fmt: skip
    me = identifier_of(registered)
    waiting = agents.next(me)
    assert agents.extensions.ready
    agents.extensions.invoke(event())
    assert not agents.extensions.ready
    assert msgspec.json.decode(waiting.answers[0].body)["requestId"] == ID
    last = agents.next(me)
    assert [each.name for each in agents.extensions.shut_down("spindown", 7)] == ["agent"]
    assert msgspec.json.decode(last.answers[0].body) == {
        "eventType": "SHUTDOWN", "shutdownReason": "spindown", "deadlineMs": 7,
    }  # fmt: skip
    assert agents.heard.said == ["registered", "extension ready", "extension ready"]


def test_who_wants_no_invocations_hears_of_none() -> None:
    agents = Agents("agent")
    me = identifier_of(agents.register("agent", "SHUTDOWN"))
    waiting = agents.next(me)
    agents.extensions.invoke(event())
    assert waiting.status is None
    assert agents.extensions.ready


def _refusals() -> Iterator[tuple[str, Posted, int, str]]:
    agents = Agents("agent")
    me = identifier_of(agents.register("agent", "INVOKE"))
    unknown = "99999999-0000-0000-0000-000000000000"
    name = {"lambda_extension_name": "x"}
    yield "no name", agents.send("POST", "register", {"events": []}), 403, "Extension.InvalidExtensionName"
    yield "no JSON object", agents.send("POST", "register", [], **name), 400, "InvalidRequestFormat"
    deep = msgspec.Raw(b"[" * 20_000 + b"]" * 20_000)
    yield "without end", agents.send("POST", "register", {"x": deep}, **name), 400, "InvalidRequestFormat"
    yield "no such event", agents.register("x", "RESTORE"), 403, "Extension.InvalidEventType"
    yield "no part of a runtime ends", agents.register("x", "SHUTDOWN"), 403, "Extension.InvalidEventType"
    yield "twice", agents.register("agent", "INVOKE"), 403, "Extension.InvalidExtensionState"
    yield "who", agents.send("GET", "event/next"), 403, "Extension.MissingExtensionIdentifier"
    yield "what", agents.next("me"), 403, "Extension.InvalidExtensionIdentifier"
    yield "a stranger", agents.next(unknown), 403, "Extension.UnknownExtensionIdentifier"
    bare = agents.send("POST", "init/error", {}, lambda_extension_identifier=me)
    yield "no type", bare, 403, "Extension.MissingHeader"
    many = Agents(*map(str, range(10)))
    yield "too many", many.register("x", "INVOKE"), 403, "Extension.TooManyExtensions"
    late = Agents("agent")
    late.extensions.close_registration()
    yield "too late", late.register("x", "INVOKE"), 403, "Extension.RegistrationClosed"


@pytest.mark.parametrize(("posted", "status", "error"), [pytest.param(*rest, id=name) for name, *rest in _refusals()])
def test_an_extension_is_refused(posted: Posted, status: int, error: str) -> None:
    assert (posted.status, posted.error) == (status, error)


@pytest.mark.parametrize(("path", "state"), [("init/error", "InitError"), ("exit/error", "ExitError")])
def test_an_extension_that_cannot_go_on_says_so_once(path: str, state: str) -> None:
    agents = Agents("agent")
    facts = {
        "lambda_extension_identifier": identifier_of(agents.register("agent", "INVOKE")),
        "lambda_extension_function_error_type": "odd",
    }
    assert agents.send("POST", path, {}, **facts).status == 202
    assert agents.heard.said[-1] == ("agent", f"Extension.{state}")
    assert agents.send("POST", path, {}, **facts).error == "Extension.InvalidExtensionState"
    assert agents.next(facts["lambda_extension_identifier"]).error == "Extension.InvalidExtensionState"


# --- bytes -----------------------------------------------------------------------------------------------------------


class Echo:
    """Answers with how much has arrived; `/later` never."""

    def __init__(self) -> None:
        self.lost_ones: list[str] = []
        self.seen: list[Exchange] = []

    def begins(self, exchange: Exchange) -> None:
        exchange.room = 100

    def arrived(self, exchange: Exchange) -> None:
        self.seen.append(exchange)
        if exchange.path != "/later":
            exchange.answer(Answer(200, json.dumps([len(exchange.body), exchange.too_large]).encode()))

    def lost(self, exchange: Exchange) -> None:
        self.lost_ones.append(exchange.path)


class Link:
    """A server, and what a client writes to it by hand."""

    def __init__(self) -> None:
        self.echo = Echo()
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        self.server = Server(listener, self.echo)

    async def send(self, data: bytes, *, end: bool = True) -> bytes:
        """All that comes back until the server ends the connection, or this side has."""
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(*self.address)
            try:
                writer.write(data)
                if end:
                    writer.write_eof()
                return await reader.read()
            except ConnectionError:
                return b""
            finally:
                writer.transport.abort()


@pytest_asyncio.fixture
async def link() -> AsyncIterator[Link]:
    link = Link()
    yield link
    link.server.close()


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", received)]


async def test_requests_in_one_piece_are_answered_one_by_one(link: Link) -> None:
    received = await link.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n" * 3000 + b"GET /b HTTP/1.0\r\n\r\n", end=False)
    assert statuses(received) == [200] * 3001


async def test_a_body_that_is_too_large_is_thrown_away_and_answered_for(link: Link) -> None:
    body = b"POST /a HTTP/1.1\r\nContent-Length: 5000000\r\nConnection: close\r\n\r\n" + 5_000_000 * b"x"
    received = await link.send(body, end=False)
    assert received.endswith(b"[0, true]")


async def test_who_offers_another_protocol_stays_with_this_one(link: Link) -> None:
    offer = b"GET /a HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n"
    received = await link.send(offer + offer + b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n", end=False)
    assert statuses(received) == [200] * 3


async def test_who_expects_to_go_on_may(link: Link) -> None:
    head = b"POST /a HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    assert statuses(await link.send(head + b"ab", end=False)) == [100, 200]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"rubbish\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"POST /a HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /" + 2_000_000 * b"a", 431),
        (b"GET /a HTTP/1.1\r\n" + 100_000 * b"Name: value\r\n", 431),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + 2_000_000 * b"a", 431),
    ],
)
async def test_what_cannot_be_understood_ends_its_connection_and_no_other(
    link: Link, data: bytes, expected: int
) -> None:
    received = await link.send(data, end=False)
    assert statuses(received) in ([expected], []), "or it was reset, with bytes of it unread"
    assert statuses(await link.send(b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n", end=False)) == [200]


async def test_one_head_at_a_time_may_be_large(link: Link) -> None:
    cause = b"GET /a HTTP/1.1\r\nX-Cause: " + 1_000_000 * b"a" + b"\r\nConnection: close\r\n\r\n"
    assert statuses(await link.send(cause, end=False)) == [200]
    assert statuses(await link.send(cause, end=False)) == [200], "leave is given back"


async def test_a_body_that_is_cut_short_is_told_apart(link: Link) -> None:
    received = await link.send(b"POST /a HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
    assert statuses(received) == [400]
    assert b"TruncatedHTTPRequest" in received
    assert link.echo.lost_ones == ["/a"]


async def test_who_leaves_while_he_waits_is_forgotten(link: Link) -> None:
    assert await link.send(b"GET /later HTTP/1.1\r\n\r\n") == b""
    assert link.echo.lost_ones == ["/later"]
    link.echo.seen[0].answer(Answer(200))  # nobody hears it


async def test_more_connections_wait(link: Link) -> None:
    async with asyncio.timeout(20):
        waiting = [await asyncio.open_connection(*link.address) for _ in range(http.PLACES + 1)]
        for _, writer in waiting:
            writer.write(b"GET /a HTTP/1.1\r\n\r\n")
        await asyncio.gather(*(reader.readuntil(b"[0, false]") for reader, _ in waiting[:-1]))
        assert len(link.echo.seen) == http.PLACES
        waiting[0][1].close()
        await waiting[-1][0].readuntil(b"[0, false]")
        for _, writer in waiting:
            writer.transport.abort()


@given(data=st.binary(max_size=300), size=st.integers(1, 50))
@settings(max_examples=100, deadline=None)
def test_no_bytes_break_the_server(data: bytes, size: int) -> None:
    async def attempt() -> None:
        link = Link()
        try:
            await link.send(data)
            await link.send(b"POST /a HTTP/1.1\r\nContent-Length: " + str(size).encode() + b"\r\n\r\n" + data)
            assert statuses(await link.send(b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n", end=False)) == [200]
        finally:
            link.server.close()

    asyncio.run(attempt())


def test_whoever_subscribes_again_and_again_is_told_no_more_each_time() -> None:
    agents = Agents("agent")
    me = identifier_of(agents.register("agent", "INVOKE"))
    subscribed: list[Subscriber] = []
    telemetry = Telemetry(agents.extensions, lambda: "now", subscribed.append, lambda _: None)
    wish = {
        "schemaVersion": "2022-12-13",
        "types": ["platform"],
        "destination": {"protocol": "HTTP", "URI": "http://sandbox:80"},
    }
    for _ in range(1000):
        posted = Posted("PUT", TELEMETRY, msgspec.json.encode(wish), lambda_extension_identifier=me)
        telemetry.begins(posted)
        telemetry.arrived(posted)
        assert posted.status == 200
    told = [len(msgspec.json.decode(telemetry.batch(each))) for each in subscribed]
    assert told[-1] == max(told) <= 257

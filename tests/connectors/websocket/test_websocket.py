"""What is special about a WebSocket: who is told what, what is an event, how it ends, and how it waits."""

from __future__ import annotations

import asyncio
import base64
import email.utils
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import WSCloseCode

from eventfn.clock import Clock, SystemClock
from eventfn.errors import Backoff, ConnectorError
from eventfn.event import Batch
from eventfn.observe.status import summary
from eventfn.testing import FakeClock, eventually, lint, trigger_context
from eventfn.units import Duration
from eventfn_websocket import WebsocketTrigger
from eventfn_websocket.connection import HELD, HELD_BYTES, LARGEST
from eventfn_websocket.refusals import refusal
from eventfn_websocket.settings import HostSettings, WebsocketSettings, WebsocketShared
from eventfn_websocket.shape import Link, Message, event
from tests.servers.proxy import Proxy
from tests.servers.websocket import WebsocketServer

# --- shape and settings -----------------------------------------------------------------------------------------------


def test_a_text_has_the_shape_of_a_websocket_api() -> None:
    link = Link("c1", "feed.example.com", 1_700_000_000_000)
    assert msgspec.json.decode(event(Message(link, 7, '{"price": 3}', 1_700_000_000_500))) == {
        "requestContext": {
            "routeKey": "$default",
            "eventType": "MESSAGE",
            "messageDirection": "IN",
            "messageId": "c1-7",
            "connectionId": "c1",
            "connectedAt": 1_700_000_000_000,
            "requestTimeEpoch": 1_700_000_000_500,
            "domainName": "feed.example.com",
        },
        "body": '{"price": 3}',
        "isBase64Encoded": False,
    }


def test_bytes_are_base64() -> None:
    shaped = msgspec.json.decode(event(Message(Link("c1", "h", 0), 1, b"\x00\xff", 0)))
    assert (shaped["body"], shaped["isBase64Encoded"]) == (base64.b64encode(b"\x00\xff").decode(), True)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://example.com",
        "wss://",
        "wss://a b",
        "wss://user:s3cret@example.com",
        "wss://e.com/#x",
        "ws://e:port",
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^url: expected a URL") as refused:
        WebsocketSettings(url=url)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("headers", [{"a b": "c"}, {"": "c"}, {"X-Y": "line\r\nbreak"}])
def test_what_is_no_header_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"^headers: "):
        HostSettings(headers=headers)


def test_its_credentials_are_read_from_variables_and_not_shown() -> None:
    table = {"hosts": {"h.example.com": {"headers": {"Authorization": "Bearer ${T}"}, "messages": ['{"key": "${T}"}']}}}
    shared = lint.load_settings(WebsocketShared, table, {"T": "s3cret"})
    assert shared.hosts["h.example.com"].headers == {"Authorization": "Bearer s3cret"}
    assert shared.hosts["h.example.com"].messages == ('{"key": "s3cret"}',)
    assert summary(WebsocketSettings(url="wss://h.example.com")) == "url=wss://h.example.com"


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("after", "seconds"),
    [("30", 30), (" 30 ", 30), ("9" * 400, 3600), (email.utils.formatdate(NOW + 90, usegmt=True), 90), ("soon", None)],
)
def test_a_refusal_may_say_when_to_come_back(after: str, seconds: float | None) -> None:
    error = refusal("wss://h", 503, after, NOW)
    assert (error.after if isinstance(error, Backoff) else None) == seconds


# --- against a server -------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def server() -> AsyncIterator[WebsocketServer]:
    async with WebsocketServer() as running:
        yield running


class Reading:
    """Makes triggers and closes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[WebsocketTrigger] = []

    def __call__(
        self, url: str, hosts: dict[str, HostSettings] | None = None, clock: Clock | None = None, **settings: Any
    ) -> WebsocketTrigger:
        context = trigger_context(self._folder, clock=clock or SystemClock())
        shared = WebsocketShared(hosts=hosts or {})
        self._made.append(WebsocketTrigger(WebsocketSettings(url=url, **settings), shared, context))
        return self._made[-1]

    async def close(self) -> None:
        for trigger in self._made:
            await trigger.close(5)


@pytest_asyncio.fixture
async def reading(tmp_path: Path) -> AsyncIterator[Reading]:
    made = Reading(tmp_path)
    yield made
    await made.close()


def bodies(batch: Batch) -> list[Any]:
    return [msgspec.json.decode(record.payload)["body"] for record in batch.records]


async def test_the_host_is_told_its_secrets_first_and_then_what_everybody_asks_for(
    server: WebsocketServer, reading: Reading
) -> None:
    told = HostSettings(
        headers={"Authorization": "Bearer s3cret"}, query={"token": "a&b"}, messages=('{"op": "auth"}',)
    )
    trigger = reading(
        server.url,
        {"127.0.0.1": told, "elsewhere.example.com": HostSettings(messages=("not for you",))},
        subscribe=({"op": "subscribe", "channels": ["trades"]}, "plain"),
        subprotocols=("v1.feed", "v2.feed"),
    )
    await trigger.connect()
    await server.told(3)
    assert server.received == ['{"op": "auth"}', '{"op":"subscribe","channels":["trades"]}', "plain"]
    (request,) = server.requests
    assert request.headers["Authorization"] == "Bearer s3cret"
    assert request.query == {"token": "a&b"}
    assert request.headers["Sec-WebSocket-Protocol"].replace(" ", "") == "v1.feed,v2.feed"


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (401, {}, "answered 401.*credentials"),
        (404, {}, "answered 404"),
        (200, {}, "answered 200"),
        (302, {"Location": "ws://127.0.0.1:1/elsewhere"}, "302 to ws://127.0.0.1:1/elsewhere: redirects are not"),
    ],
)
async def test_a_refusal_is_said_without_any_secret(
    server: WebsocketServer, reading: Reading, status: int, headers: dict[str, str], expected: str
) -> None:
    server.answer = (status, headers)
    secret = HostSettings(headers={"Authorization": "s3cret"}, query={"token": "s3cret"}, messages=("s3cret",))
    with pytest.raises(ConnectorError, match=expected) as refused:
        await reading(f"{server.url}?key=s3cret", {"127.0.0.1": secret}).connect()
    assert "s3cret" not in repr(refused.value)


async def test_a_server_that_is_too_busy_says_when_to_come_back(server: WebsocketServer, reading: Reading) -> None:
    server.answer = (429, {"Retry-After": "7"})
    with pytest.raises(Backoff) as refused:
        await reading(server.url).connect()
    assert refused.value.after == 7


async def test_what_came_before_the_end_is_read_before_it(server: WebsocketServer, reading: Reading) -> None:
    trigger = reading(server.url)
    await trigger.connect()
    await server.connected(1)
    await server.send("one")
    await server.send(b"two")
    closing = asyncio.create_task(server.clients[0].close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"too busy"))
    found: list[Any] = []
    while len(found) < 2:
        found += bodies(await trigger.read(10))
    assert found == ["one", base64.b64encode(b"two").decode()]
    with pytest.raises(ConnectorError, match="the other side has closed it: 1013 too busy"):
        await trigger.read(10)
    await closing


async def test_what_is_sent_while_nobody_is_connected_is_lost_and_what_comes_later_is_not(
    server: WebsocketServer, reading: Reading
) -> None:
    trigger = reading(server.url)
    await trigger.connect()
    await server.connected(1)
    await server.refuse()
    with pytest.raises(ConnectorError, match="the connection was lost"):
        await trigger.read(10)
    await server.accept()
    await server.send("nobody hears this")
    await trigger.connect()
    await server.connected(1)
    await server.send("and this is heard")
    assert bodies(await trigger.read(10)) == ["and this is heard"]


async def test_a_message_that_is_too_large_ends_the_connection(server: WebsocketServer, reading: Reading) -> None:
    trigger = reading(server.url)
    await trigger.connect()
    await server.connected(1)
    sending = asyncio.create_task(server.send("x" * (LARGEST + 1)))
    with pytest.raises(ConnectorError, match="the connection was lost"):
        await trigger.read(10)
    await sending


async def test_a_slow_host_makes_the_sender_wait_and_loses_nothing(server: WebsocketServer, reading: Reading) -> None:
    clock = FakeClock()
    trigger = reading(server.url, clock=clock)
    await trigger.connect()
    await server.connected(1)
    sent = 0

    async def send() -> None:
        nonlocal sent
        for number in range(400):
            await server.send(f"{number:06}" + "x" * 100_000)
            sent += 1

    sending = asyncio.create_task(send())
    connection = trigger._connection
    assert connection is not None
    await eventually(lambda: connection._is_full)
    for _ in range(10):  # nobody reads for longer than any ping takes, and that is no reason to hang up
        await clock.advance(20)
    held = sum(len(message.data) for message in connection.messages)
    assert held <= HELD_BYTES + 100_006
    assert sent < 400, "everything was taken in, although nobody reads"
    found: list[str] = []
    while len(found) < 400:
        found += bodies(await trigger.read(10))
        assert len(connection.messages) <= HELD
    assert [int(body[:6]) for body in found] == list(range(400))
    await sending


async def test_whatever_breaks_a_read_does_not_wait_for_ever(
    server: WebsocketServer, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: object) -> None:
        raise RuntimeError("nobody has thought of this")

    monkeypatch.setattr("aiohttp.ClientWebSocketResponse.receive", broken)
    trigger = reading(server.url)
    await trigger.connect()
    with pytest.raises(ConnectorError, match="RuntimeError: nobody has thought of this"):
        await trigger.read(10)


async def test_silence_is_no_end_while_pings_are_answered(server: WebsocketServer, reading: Reading) -> None:
    clock = FakeClock()
    trigger = reading(server.url, clock=clock, ping_interval=Duration(20))
    await trigger.connect()
    await server.connected(1)
    reads = asyncio.create_task(trigger.read(10))
    connection = trigger._connection
    assert connection is not None
    for _ in range(5):
        await clock.advance(20)
        await eventually(lambda: connection._alive)  # the pong came
        assert not reads.done()
    server.pongs = False
    await clock.advance(20)
    await clock.advance(20)
    with pytest.raises(ConnectorError, match="nothing was heard for 20 s"):
        await reads


async def test_the_servers_own_pings_are_answered_while_nobody_reads(server: WebsocketServer, reading: Reading) -> None:
    await (trigger := reading(server.url)).connect()
    await server.connected(1)
    await server.clients[0].ping(b"there?")
    await eventually(lambda: server.ponged == [b"there?"])
    await trigger.close(5)


async def test_a_network_that_lets_nothing_through_holds_up_no_close(server: WebsocketServer, reading: Reading) -> None:
    async with Proxy("127.0.0.1", server.port) as proxy:
        trigger = reading(f"ws://127.0.0.1:{proxy.port}/feed")
        await trigger.connect()
        await server.connected(1)
        proxy.stall()
        reads = asyncio.create_task(trigger.read(10))
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await trigger.close(1)
        assert loop.time() - began < 1
        with pytest.raises(ConnectorError, match="not connected"):
            await reads


async def test_a_cut_connection_is_over(server: WebsocketServer, reading: Reading) -> None:
    async with Proxy("127.0.0.1", server.port) as proxy:
        trigger = reading(f"ws://127.0.0.1:{proxy.port}/feed")
        await trigger.connect()
        await server.connected(1)
        await server.send("before")
        assert bodies(await trigger.read(10)) == ["before"]
        proxy.cut()
        with pytest.raises(ConnectorError, match="the connection was lost"):
            await trigger.read(10)
        await eventually(lambda: not server.clients)
        await trigger.connect()
        await server.connected(1)
        await server.send("after")
        assert bodies(await trigger.read(10)) == ["after"]

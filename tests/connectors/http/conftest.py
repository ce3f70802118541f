"""What the tests of the http connector stand on: a function that answers as told, a listener on a free port, a raw
client, and a connection without a network."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest
import uvloop

from eventfn.event import Apart, Outcome, OutcomeKind, ResponseStream
from eventfn.testing.clock import FakeClock
from eventfn.trigger import ListenContext, Mounted
from eventfn.workers.child.events import HttpEvents
from eventfn_http import HttpSettings, HttpShared, HttpTrigger
from eventfn_http.protocol import Connection

_PATIENCE = 60  # seconds until a test that waits for an answer gives up


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test with a loop runs on both kinds."""
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


class Streaming:
    """An invocation whose answer the test makes part by part, as an environment does: not while it is held back."""

    def __init__(self, stream: ResponseStream, done: Callable[[Outcome], None]) -> None:
        self._stream = stream
        self._done = done
        self._changed = asyncio.Event()
        stream.on_room(self._changed.set)

    def begin(self, content_type: str | None = None) -> None:
        self._stream.begin(content_type)

    def write(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self._stream.write(chunk)

    def end(self, kind: OutcomeKind = OutcomeKind.SUCCESS, payload: bytes = b"") -> None:
        self._done(Outcome(kind, payload))

    @property
    def full(self) -> bool:
        return self._stream.full

    @property
    def gone(self) -> bool:
        return self._stream.gone

    async def changed(self) -> None:
        """Returns once there is room again, or nobody to listen."""
        async with asyncio.timeout(_PATIENCE):
            await self._changed.wait()
            self._changed.clear()


class FakeCaller:
    """A function. It answers at once with `outcome`, or once it is told to (`later`)."""

    function = "hello"
    function_arn = "arn:aws:lambda:eu-west-1:000000000000:function:hello"

    def __init__(self) -> None:
        self.outcome = Outcome(OutcomeKind.SUCCESS, b'{"statusCode":200,"body":"hello"}')
        self.later = False
        self.events: list[dict[str, Any]] = []
        self.streamed: list[Streaming] = []  # invocations with a stream
        self.submitted: list[tuple[dict[str, Any], str, str | None]] = []
        self.refusal: Exception | None = None
        self.keep: asyncio.Event | None = None  # `submit` waits for it
        self._dones: deque[Callable[[Outcome], None]] = deque()
        self._called = asyncio.Event()

    def invoke(
        self,
        payload: bytes,
        request_id: str,
        done: Callable[[Outcome], None],
        apart: Apart | None = None,
        stream: ResponseStream | None = None,
    ) -> None:
        self._called.set()
        if stream is not None:
            self.events.append(json.loads(payload))
            self.streamed.append(Streaming(stream, done))
            if not self.later:
                done(self.outcome)
            return
        assert apart is not None
        event = HttpEvents().event(payload, str(apart.body, "utf-8"), request_id, apart.time, apart.time_epoch)
        self.events.append(event)
        if self.later:
            self._dones.append(done)
        else:
            done(self.outcome)

    async def submit(self, payload: bytes, request_id: str, dedupe_key: str | None = None) -> str:
        self.submitted.append((json.loads(payload), request_id, dedupe_key))
        self._called.set()
        if self.keep is not None:
            await self.keep.wait()
        if self.refusal is not None:
            raise self.refusal
        return request_id

    def answer(self, outcome: Outcome | None = None) -> None:
        """Ends the longest-waiting invocation."""
        self._dones.popleft()(outcome or self.outcome)

    def answer_all(self) -> None:
        while self._dones:
            self.answer()

    async def called(self, times: int = 1) -> None:
        """Returns once the function was called so often in all."""
        async with asyncio.timeout(_PATIENCE):
            while len(self.events) + len(self.submitted) < times:
                self._called.clear()
                await self._called.wait()


class Answer:
    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = dict(headers)
        self.all_headers = headers
        self.body = body


class Client:
    """A raw connection: what is sent is what the test says, byte for byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(_PATIENCE):
            await self.writer.drain()

    async def answer(self, body: bool = True) -> Answer:
        """The next answer; `body=False` where none follows the head (HEAD, 100)."""
        async with asyncio.timeout(_PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status, headers = read_answer_head(head)
            length = int(dict(headers).get("content-length", "0")) if body else 0
            return Answer(status, headers, await self.reader.readexactly(length))

    async def head(self) -> Answer:
        return await self.answer(body=False)

    async def chunk(self) -> bytes:
        """The next chunk of a body; b"" is the last."""
        async with asyncio.timeout(_PATIENCE):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size + 2)
            assert data[-2:] == b"\r\n"
            return data[:-2]

    async def ask(self, data: bytes) -> Answer:
        await self.send(data)
        return await self.answer()

    async def closed(self) -> bytes:
        """What came before the server closed."""
        async with asyncio.timeout(_PATIENCE):
            return await self.reader.read()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def read_answer_head(head: bytes) -> tuple[int, list[tuple[str, str]]]:
    first, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
    version, status, _ = first.split(" ", 2)
    assert version == "HTTP/1.1"
    return int(status), [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]


class StandingClock(FakeClock):
    def stand_still(self, seconds: float) -> None:
        """They pass, and nothing runs meanwhile, not even what is due: no processor was free for this process."""
        self._elapsed += seconds


class Node:
    """A listener with its function, on a port of its own."""

    def __init__(self, shared: HttpShared, clock: StandingClock) -> None:
        self.clock = clock
        self.caller = FakeCaller()
        context = ListenContext("/project", "eu-west-1", "123456789012", clock, logging.getLogger("test"))
        self.trigger = HttpTrigger(shared, context)
        self.clients: list[Client] = []
        self.port = 0

    def mount(self, routes: Iterable[HttpSettings]) -> None:
        self.trigger.mount([Mounted(settings, self.caller, f"hello/http/{at}") for at, settings in enumerate(routes)])

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client


ROUTES = (
    HttpSettings(path="/hello", method=["GET", "POST"]),
    HttpSettings(path="/items/{id}", method="GET"),
    HttpSettings(path="/later", method="POST", asynchronous=True),
    HttpSettings(path="/files/{path+}"),
)

StartNode = Callable[..., Awaitable[Node]]


@pytest.fixture
async def start() -> AsyncIterator[StartNode]:
    """`await start(routes, max_body=...)`: a node that listens. All of them are closed with the test."""
    nodes: list[Node] = []

    async def start_node(routes: Iterable[HttpSettings] = ROUTES, **shared: Any) -> Node:
        node = Node(HttpShared(**{"listen": "127.0.0.1:0", **shared}), StandingClock())
        nodes.append(node)
        node.mount(routes)
        node.port = int((await node.trigger.open()).rpartition(":")[2])
        return node

    yield start_node
    for node in nodes:
        await node.trigger.close()
        for client in node.clients:
            await client.close()


@pytest.fixture
async def node(start: StartNode) -> Node:
    return await start()


@pytest.fixture
async def client(node: Node) -> Client:
    return await node.client()


class FakeTransport(asyncio.Transport):
    """A connection without a network: whatever is written is taken at once."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.7", 50000), "sockname": ("127.0.0.1", 8080)})
        self.written = b""
        self.ended = False  # nothing more will be written
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview[int]) -> None:
        assert not self.ended, "an answer behind the last one"
        self.written += data

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[int]]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


class Wire:
    """A connection's protocol, fed by hand."""

    def __init__(self, **shared: Any) -> None:
        self.node = Node(HttpShared(**shared), StandingClock())
        self.node.mount(ROUTES)
        self.caller = self.node.caller
        self.transport = FakeTransport()
        self.connection = Connection(self.node.trigger.server)
        self.connection.connection_made(self.transport)

    def feed(self, data: bytes, size: int | None = None) -> None:
        """In pieces of `size`; None: whole."""
        for at in range(0, len(data), size or len(data) or 1):
            self.connection.data_received(data[at : at + (size or len(data))])

    def answers(self) -> list[Answer]:
        """What was written, as a client reads it: AssertionError or ValueError when that makes no sense."""
        found: list[Answer] = []
        rest = self.transport.written
        while rest:
            head, separator, rest = rest.partition(b"\r\n\r\n")
            assert separator
            status, headers = read_answer_head(head + separator)
            length = int(dict(headers).get("content-length", "0"))
            assert len(rest) >= length
            found.append(Answer(status, headers, rest[:length]))
            rest = rest[length:]
        return found


@pytest.fixture
def wire() -> Callable[..., Wire]:
    return Wire

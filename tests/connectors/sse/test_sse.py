"""What is special about server-sent events: answers, reconnects, ids, silence, and credentials."""

from __future__ import annotations

import asyncio
import email.utils
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from eventfn.clock import Clock, SystemClock
from eventfn.errors import Backoff, ConnectorError
from eventfn.event import Batch
from eventfn.observe.status import summary
from eventfn.testing import FakeClock, eventually, lint, trigger_context
from eventfn.trigger import Shard, Start
from eventfn.units import Duration
from eventfn_sse import SseTrigger
from eventfn_sse.answers import problem
from eventfn_sse.parser import LARGEST
from eventfn_sse.reader import SseReader
from eventfn_sse.settings import HostSettings, SseSettings, SseShared
from tests.servers.proxy import Proxy
from tests.servers.sse import SseServer

NOW = 1_700_000_000.0
LATEST = Start("LATEST")

# --- answers and settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text/event-stream", "Text/Event-Stream;charset=utf-8", "text/event-stream ; x=y"])
def test_an_event_stream_is_taken(kind: str) -> None:
    assert problem("http://h", 200, {"content-type": kind}, NOW) is None


@pytest.mark.parametrize(
    ("status", "headers", "expected", "after"),
    [
        (200, {"content-type": "text/html"}, "text/html, which is no text/event-stream", None),
        (200, {}, "no content type", None),
        (204, {}, "nothing more will come", 3600),
        (301, {"location": "https://e"}, "301 to https://e: redirects are not followed", None),
        (401, {}, "credentials", None),
        (404, {}, "answered 404", None),
        (429, {"retry-after": "7"}, "asked to come back in 7 s", 7),
        (503, {"retry-after": email.utils.formatdate(NOW + 90, usegmt=True)}, "in 90 s", 90),
        (503, {"retry-after": "9" * 400}, "in 3600 s", 3600),
        (503, {"retry-after": "soon"}, "answered 503", None),
        (500, {}, "answered 500", None),
    ],
)
def test_anything_else_says_what_is_wrong(
    status: int, headers: dict[str, str], expected: str, after: float | None
) -> None:
    error = problem("http://h", status, headers, NOW)
    assert error is not None
    assert expected in str(error)
    assert (error.after if isinstance(error, Backoff) else None) == after


@pytest.mark.parametrize(
    "url",
    ["", "ws://example.com", "https://", "https://a b", "https://u:s3cret@e.com", "https://e/#x", "http://e:port"],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^url: expected a URL") as refused:
        SseSettings(url=url)
    assert "s3cret" not in str(refused.value)


def test_its_credentials_are_read_from_variables_and_not_shown() -> None:
    table = {"hosts": {"h.example.com": {"headers": {"Authorization": "Bearer ${T}"}}}}
    shared = lint.load_settings(SseShared, table, {"T": "s3cret"})
    assert shared.hosts["h.example.com"].headers == {"Authorization": "Bearer s3cret"}
    assert summary(SseSettings(url="https://h.example.com")) == "url=https://h.example.com"


# --- against a server -------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def server() -> AsyncIterator[SseServer]:
    async with SseServer() as running:
        yield running


class Reading:
    """Makes triggers, opens their only shard, and closes them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[SseTrigger] = []

    async def __call__(
        self,
        url: str,
        at: str | Start = LATEST,
        *,
        hosts: dict[str, HostSettings] | None = None,
        clock: Clock | None = None,
        **settings: Any,
    ) -> SseReader:
        context = trigger_context(self._folder, clock=clock or SystemClock())
        trigger = SseTrigger(SseSettings(url=url, **settings), SseShared(hosts=hosts or {}), context)
        self._made.append(trigger)
        await trigger.connect()
        (shard,) = await trigger.shards()
        return await trigger.open_shard(shard, at)

    async def close(self) -> None:
        for trigger in self._made:
            await trigger.close(5)


@pytest_asyncio.fixture
async def reading(tmp_path: Path) -> AsyncIterator[Reading]:
    made = Reading(tmp_path)
    yield made
    await made.close()


def seen(batch: Batch, key: str = "data") -> list[Any]:
    return [msgspec.json.decode(record.payload)[key] for record in batch.records]


async def until(reader: SseReader, count: int, key: str = "data") -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        found += seen(await reader.read(10), key)
    return found


async def test_an_event_has_its_shape(server: SseServer, reading: Reading) -> None:
    reader = await reading(server.url)
    server.write('event: add\nid: 7é\ndata: {"a": 1}\ndata: 2\n\n'.encode())
    (record,) = (await reader.read(10)).records
    assert msgspec.json.decode(record.payload) == {
        "eventID": "7é",
        "eventSource": "eventfn:sse",
        "url": server.url,
        "type": "add",
        "data": '{"a": 1}\n2',
        "lastEventId": "7é",
    }
    assert reader.position(record) == "7é"


async def test_an_event_does_not_show_what_may_be_a_token(server: SseServer, reading: Reading) -> None:
    reader = await reading(f"{server.url}?token=s3cret")
    server.send("hello")
    (record,) = (await reader.read(10)).records
    assert msgspec.json.decode(record.payload)["url"] == f"{server.url}?token=***"
    assert b"s3cret" not in record.payload
    assert server.requests[0].query == {"token": "s3cret"}


async def test_the_host_is_told_its_secrets_and_where_to_go_on(server: SseServer, reading: Reading) -> None:
    told = HostSettings(headers={"Authorization": "Bearer s3cret"}, query={"token": "a&b"})
    for data in ("one", "two", "three"):
        server.send(data)
    reader = await reading(server.url, "1", hosts={"127.0.0.1": told})
    assert await until(reader, 2) == ["two", "three"]
    (request,) = server.requests
    assert request.headers["Last-Event-ID"] == "1"
    assert request.headers["Accept"] == "text/event-stream"
    assert request.headers["Authorization"] == "Bearer s3cret"
    assert request.query == {"token": "a&b"}


async def test_an_id_in_any_script_is_given_back_as_it_was(server: SseServer, reading: Reading) -> None:
    server.answer = (204, {})
    with pytest.raises(Backoff):
        await reading(server.url, "7é東")
    assert server.requests[0].headers["Last-Event-ID"] == "7é東"


async def test_nobody_is_told_the_secrets_of_another_host(server: SseServer, reading: Reading) -> None:
    await reading(server.url, hosts={"localhost": HostSettings(headers={"Authorization": "s3cret"})})
    assert "Authorization" not in server.requests[0].headers


@pytest.mark.parametrize("answer", [(302, {"Location": "http://127.0.0.1:1/x"}), (401, {}), (200, {}), (500, {})])
async def test_a_refusal_is_said_without_any_secret(
    server: SseServer, reading: Reading, answer: tuple[int, dict[str, str]]
) -> None:
    server.answer = answer
    secret = HostSettings(headers={"Authorization": "s3cret"}, query={"token": "s3cret"})
    with pytest.raises(ConnectorError) as refused:
        await reading(f"{server.url}?key=s3cret", hosts={"127.0.0.1": secret})
    assert "s3cret" not in repr(refused.value)


async def test_a_server_that_is_down_is_said_without_any_secret(server: SseServer, reading: Reading) -> None:
    await server.refuse()
    secret = HostSettings(headers={"Authorization": "s3cret"}, query={"token": "s3cret"})
    with pytest.raises(ConnectorError, match="cannot be reached") as refused:
        await reading(f"{server.url}?key=s3cret", hosts={"127.0.0.1": secret})
    assert "s3cret" not in repr(refused.value)


async def test_events_between_ids_have_names_of_their_own(server: SseServer, reading: Reading) -> None:
    reader = await reading(server.url)
    server.write(b"data: a\n\ndata: b\n\nid: 5\ndata: c\n\ndata: d\n\ndata: e\n\nid: 6\n\ndata: f\n\n")
    names = await until(reader, 6, "eventID")
    assert names[2:] == ["5", "5+1", "5+2", "6+1"]
    assert len(set(names)) == 6


async def test_without_ids_there_is_nothing_to_go_back_to(server: SseServer, reading: Reading) -> None:
    server.with_ids = False
    reader = await reading(server.url)
    server.send("one")
    (record,) = (await reader.read(10)).records
    position = reader.position(record)
    assert position == ""
    await reading(server.url, position)
    assert "Last-Event-ID" not in server.requests[1].headers


async def test_what_was_not_complete_at_the_end_is_no_event(server: SseServer, reading: Reading) -> None:
    reader = await reading(server.url)
    server.write(b"id: 1\ndata: whole\n\nid: 2\ndata: half")
    server.end()
    assert await until(reader, 1) == ["whole"]
    with pytest.raises(ConnectorError, match="the server has ended the stream") as ended:
        await reader.read(10)
    assert not isinstance(ended.value, Backoff), "the server has not said how long to wait"


@pytest.mark.parametrize(("retry", "after"), [(b"1500", 1.5), (b"0", 0.1)])
async def test_the_server_says_how_long_to_wait(
    server: SseServer, reading: Reading, retry: bytes, after: float
) -> None:
    reader = await reading(server.url)
    server.write(b"retry: " + retry + b"\n\n")
    server.end()
    with pytest.raises(Backoff) as ended:
        await reader.read(10)
    assert ended.value.after == after


async def test_an_event_that_is_too_large_is_left_out_and_said(
    server: SseServer, reading: Reading, caplog: pytest.LogCaptureFixture
) -> None:
    reader = await reading(server.url)
    server.write(b"id: 1\ndata: " + b"x" * (LARGEST + 1) + b"\n\nid: 2\ndata: small\n\n")
    with caplog.at_level(logging.ERROR):
        assert await until(reader, 1) == ["small"]
    assert "was left out" in caplog.text


async def test_silence_ends_a_connection_only_where_somebody_has_said_how_long(
    server: SseServer, reading: Reading
) -> None:
    clock = FakeClock()
    reader = await reading(server.url, clock=clock, idle_timeout=Duration(60))
    for _ in range(5):
        await clock.advance(60)  # nobody reads: nothing can be heard, and that is no silence
    reads = asyncio.create_task(reader.read(10))
    for _ in range(5):
        await clock.advance(50)
        server.write(b": still there\n")
        await eventually(lambda: not reader._is_quiet)
    assert not reads.done()
    await clock.advance(120)
    with pytest.raises(ConnectorError, match="nothing came for 60 s"):
        await reads


async def test_a_connection_that_nothing_comes_through_is_made_again_and_loses_nothing(
    server: SseServer, reading: Reading
) -> None:
    clock = FakeClock()
    async with Proxy("127.0.0.1", server.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/events"
        reader = await reading(url, clock=clock, idle_timeout=Duration(60))
        server.send("one")
        (record,) = (await reader.read(10)).records
        proxy.links[0].stall()
        server.send("two")
        reads = asyncio.create_task(reader.read(10))
        await asyncio.sleep(0)
        await clock.advance(120)
        with pytest.raises(ConnectorError, match="nothing came for 60 s"):
            await reads
        again = await reading(url, reader.position(record))
        assert await until(again, 1) == ["two"]


async def test_a_cut_in_the_middle_of_an_event_loses_nothing(server: SseServer, reading: Reading) -> None:
    async with Proxy("127.0.0.1", server.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/events"
        reader = await reading(url)
        server.send("one")
        (record,) = (await reader.read(10)).records
        proxy.truncate("down", 9)
        server.send("two")
        with pytest.raises(ConnectorError):
            await reader.read(10)
        server.send("three")
        again = await reading(url, reader.position(record))
        assert await until(again, 2) == ["two", "three"]


async def test_a_slow_host_makes_the_server_wait(server: SseServer, reading: Reading) -> None:
    reader = await reading(server.url)
    for number in range(400):
        server.send(f"{number:06}" + "x" * 100_000)
    (client,) = server._clients
    assert (await until(reader, 1))[0][:6] == "000000"
    # What is on its way is in the kernel's buffers; 40 MB do not fit there, so the server still has most of it.
    await eventually(lambda: client.qsize() > 100)
    assert len(reader._events) < 10
    assert [int(data[:6]) for data in await until(reader, 399)] == list(range(1, 400))


async def test_a_closed_source_opens_nothing(server: SseServer, tmp_path: Path) -> None:
    trigger = SseTrigger(SseSettings(url=server.url), SseShared(), trigger_context(tmp_path))
    with pytest.raises(ConnectorError, match="not connected"):
        await trigger.open_shard(Shard(server.url), LATEST)

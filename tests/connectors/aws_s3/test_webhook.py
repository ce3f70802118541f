"""What is taken and refused at the address that stores post to, and what they are told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from eventfn.clock import SystemClock
from eventfn.errors import ConnectorError
from eventfn.testing import lint
from eventfn.testing.contexts import trigger_context
from eventfn.trigger import DONE, RETRY, Reject
from eventfn_aws.s3 import S3Trigger, listener
from eventfn_aws.s3.settings import S3Settings, S3Shared
from tests.connectors.aws_s3.store import notification
from tests.servers.process import free_port

TOKEN = "nobody guesses this"


class Node:
    """Triggers that share an address, and a client that posts to it."""

    def __init__(self, folder: Path, http: aiohttp.ClientSession) -> None:
        self.folder = folder
        self.http = http
        self.shared = S3Shared(listen=f"127.0.0.1:{free_port()}", webhook_token=TOKEN)
        self.triggers: list[S3Trigger] = []

    async def open(self, **keys: Any) -> S3Trigger:
        context = trigger_context(self.folder, clock=SystemClock())
        trigger = S3Trigger(S3Settings(notifications="webhook", **keys), self.shared, context)
        self.triggers.append(trigger)
        await trigger.connect()
        return trigger

    async def post(self, body: Any, path: str = "/", authorization: str | None = f"Bearer {TOKEN}") -> int:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {} if authorization is None else {"Authorization": authorization}
        url = f"http://{self.shared.listen}{path}"
        async with self.http.post(url, data=io.BytesIO(data), headers=headers) as answer:
            return answer.status

    def posting(self, body: Any, path: str = "/") -> asyncio.Task[int]:
        return asyncio.create_task(self.post(body, path))


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with aiohttp.ClientSession() as http:
        node = Node(tmp_path, http)
        yield node
        for trigger in node.triggers:
            await trigger.close(5)


# --- what it answers --------------------------------------------------------------------------------------------------


async def test_a_post_is_answered_once_all_of_its_records_are_on_disk(node: Node) -> None:
    trigger = await node.open()
    posting = node.posting(notification("a", "b"))
    first, second = await trigger.read(1), await trigger.read(1)
    await trigger.settle(first, [DONE])
    assert not (await asyncio.wait({posting}, timeout=0.05))[0]
    await trigger.settle(second, [DONE])
    assert await posting == 200


async def test_one_that_is_not_on_disk_is_to_come_again(node: Node) -> None:
    trigger = await node.open()
    posting = node.posting(notification("a", "b"))
    batch = await trigger.read(10)
    await trigger.settle(batch, [RETRY, DONE])
    assert await posting == 503
    posting = node.posting(notification("a", "b"))
    again = await trigger.read(10)
    assert [record.dedupe_key for record in again.records] == [record.dedupe_key for record in batch.records]
    await trigger.settle(again, [DONE, Reject("it can never be handled")])
    assert await posting == 200


async def test_what_nobody_wants_is_taken_at_once(node: Node) -> None:
    await node.open(bucket="photos", prefix="in/", suffix=".jpg")
    assert await node.post(notification("out/a.jpg", "in/a.png")) == 200
    assert await node.post({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "photos"}) == 200


async def test_all_triggers_with_a_path_get_what_is_posted_to_it(node: Node) -> None:
    one, other = await node.open(suffix=".jpg"), await node.open()
    elsewhere = await node.open(path="/elsewhere")
    posting = node.posting(notification("a.jpg", "a.png"))
    first, second = await one.read(10), await other.read(10)
    assert (len(first.records), len(second.records)) == (1, 2)
    await one.settle(first, [DONE])
    await other.settle(second, [RETRY, DONE])
    assert await posting == 503
    posting = node.posting(notification("b"), "/elsewhere")
    await elsewhere.settle(await elsewhere.read(10), [DONE])
    assert await posting == 200


async def test_more_than_fits_is_to_come_again(node: Node) -> None:
    trigger = await node.open()
    many = node.posting(notification(*(f"{number}" for number in range(900))))
    few = node.posting(notification(*(f"more-{number}" for number in range(150))))
    done, _ = await asyncio.wait({many, few}, return_when=asyncio.FIRST_COMPLETED)
    assert [each.result() for each in done] == [503]
    (taken,) = {many, few} - done
    while not taken.done():
        batch = await trigger.read(1000)
        await trigger.settle(batch, [DONE] * len(batch.records))
        await asyncio.wait({taken}, timeout=0.1)
    assert taken.result() == 200


async def test_whoever_waits_when_a_trigger_closes_is_to_come_again(node: Node) -> None:
    trigger, other = await node.open(), await node.open(path="/other")
    held = node.posting(notification("a"))
    batch = await trigger.read(1)
    unread = node.posting(notification("b", "c"))
    await trigger.read(1)
    await trigger.close(5)
    assert [await held, await unread] == [503, 503]
    await trigger.settle(batch, [DONE])  # too late, and harmless
    posting = node.posting(notification("d"), "/other")
    await other.settle(await other.read(10), [DONE])
    assert await posting == 200


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        TOKEN,
        "Bearer",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        "Basic ???",
        "Basic " + base64.b64encode(f"{TOKEN}:x".encode()).decode(),
        "Basic " + base64.b64encode(b"\xff\xfe").decode(),
        f"Digest {TOKEN}",
    ],
)
async def test_without_the_token_nothing_is_taken(node: Node, authorization: str | None) -> None:
    await node.open()
    assert await node.post(notification("a"), authorization=authorization) == 401
    assert await node.post(notification("a"), "/nowhere", authorization) == 401


async def test_the_token_may_be_a_password(node: Node) -> None:
    trigger = await node.open()
    basic = base64.b64encode(f"ceph:{TOKEN}".encode()).decode()
    posting = asyncio.create_task(node.post(notification("a"), authorization=f"Basic {basic}"))
    await trigger.settle(await trigger.read(10), [DONE])
    assert await posting == 200


@pytest.mark.parametrize("body", [b"", b"[]", b"no JSON", b'{"Records": [{}]}', b'{"Records": 1}', b"\xff"])
async def test_what_is_no_notification_is_refused(node: Node, body: bytes) -> None:
    await node.open()
    await node.open()
    assert await node.post(body) == 400


async def test_a_path_without_a_trigger_is_not_there(node: Node) -> None:
    await node.open(path="/photos")
    assert await node.post(notification("a")) == 404
    async with node.http.get(
        f"http://{node.shared.listen}/photos", headers={"Authorization": f"Bearer {TOKEN}"}
    ) as answer:
        assert answer.status == 405


async def test_a_huge_body_is_refused(node: Node) -> None:
    await node.open()
    assert await node.post(b" " * (listener.MAX_BODY + 1)) == 413


async def test_a_slow_body_is_given_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "BODY_WITHIN", 0.1)
    await node.open()
    answer = await asyncio.wait_for(_raw(node, b'{"Records":', length=100), 60)
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_half_a_body_is_nothing(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    trigger = await node.open()
    await asyncio.wait_for(_raw(node, b'{"Records": []}'[:-3], length=15, end=True), 60)
    assert not caplog.records
    posting = node.posting(notification("a"))
    batch = await trigger.read(10)
    assert len(batch.records) == 1
    await trigger.settle(batch, [DONE])
    assert await posting == 200


async def _raw(node: Node, body: bytes, length: int, *, end: bool = False) -> bytes:
    """The answer to a post whose body is not what it says."""
    host, _, port = node.shared.listen.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n\r\n"
        writer.write(head.encode() + body)
        if end:
            writer.write_eof()
        return await reader.read(100)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


# --- where it listens -------------------------------------------------------------------------------------------------


async def test_it_listens_for_as_long_as_a_trigger_needs_it(node: Node) -> None:
    one, other = await node.open(), await node.open()
    await one.close(5)
    assert await node.post(b"") == 400
    await other.close(5)
    with pytest.raises(aiohttp.ClientConnectionError):
        await node.post(b"")
    await node.open()
    assert await node.post(b"") == 400


async def test_an_address_in_use_is_told_and_taken_once_it_is_free(node: Node) -> None:
    host, _, port = node.shared.listen.rpartition(":")
    other = await asyncio.start_server(lambda reader, writer: writer.close(), host, int(port))
    with pytest.raises(ConnectorError, match=r"s3: cannot listen on .*: Address already in use"):
        await node.open()
    other.close()
    await other.wait_closed()
    await node.triggers[0].connect()
    await node.triggers[0].connect()
    assert await node.post(b"") == 400


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"listen": "example.com:80"}, "listen"),
        ({"listen": "127.0.0.1"}, "listen"),
        ({"listen": "0.0.0.0:8091"}, "webhook_token"),
        ({"listen": "[::]:8091"}, "webhook_token"),
        ({"webhook_token": " "}, "webhook_token"),
        ({"access_key_id": "x"}, "secret_access_key"),
    ],
)
def test_shared_nonsense_is_refused(wrong: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=f"^{key}: "):
        S3Shared(**wrong)


def test_with_a_token_it_may_be_reached_from_elsewhere() -> None:
    assert S3Shared(listen="0.0.0.0:8091", webhook_token="x").listen == "0.0.0.0:8091"


def test_the_readme_names_every_key_of_it() -> None:
    lint.check_readme(S3Trigger, S3Shared)

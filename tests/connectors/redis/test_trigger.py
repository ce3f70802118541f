"""What the suite does not ask: a group's consumers among each other, dead letters, and what Redis alone does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventfn_redis.trigger
from eventfn.clock import SystemClock
from eventfn.destination import WRITTEN, OutgoingRecord
from eventfn.errors import ConnectorError
from eventfn.event import Batch
from eventfn.testing import destination_context, memory_queues, trigger_context
from eventfn.testing.lint import package_folder
from eventfn.trigger import DONE, RETRY, Reject, Retry
from eventfn.units import Duration
from eventfn_redis import RedisDestination, RedisTrigger, scripts
from eventfn_redis.server import LONG_POLL
from eventfn_redis.settings import Servers, Sinks, Source
from tests.servers.redis import RedisServer

Open = Callable[..., Awaitable[RedisTrigger]]


@pytest.fixture
async def opened(server: RedisServer, stream: str, tmp_path: Path) -> AsyncIterator[Open]:
    """`await opened(visibility_timeout=...)`: a connected trigger of the test's stream, on the machine's clock."""
    made: list[RedisTrigger] = []

    async def opened(shared: Servers | None = None, queues: Any = None, **settings: Any) -> RedisTrigger:
        trigger = RedisTrigger(
            Source(**({"stream": stream} | settings)),
            shared or Servers(url=f"redis://{server.host}:{server.port}"),
            trigger_context(tmp_path, clock=SystemClock(), queues=queues),
        )
        made.append(trigger)
        await trigger.connect()
        return trigger

    yield opened
    for trigger in made:
        await trigger.close(1)


async def read(trigger: RedisTrigger, limit: int = 10) -> Batch:
    return await asyncio.wait_for(trigger.read(limit), 60)


async def die(trigger: RedisTrigger) -> None:
    """As a node that is killed: nothing is given back."""
    await trigger._disconnect()


async def lapse(peer: Any, stream: str) -> None:
    """Whoever has read something has had it for a minute."""
    for entry in await peer.xpending_range(stream, "hello", "-", "+", 1000):
        await peer.xclaim(stream, "hello", entry["consumer"], 0, [entry["message_id"]], idle=60_000, justid=True)


def bodies(batch: Batch) -> list[str]:
    return [msgspec.json.decode(record.payload)["body"] for record in batch.records]


# --- when what failed comes again -------------------------------------------------------------------------------------


async def test_a_retry_comes_at_its_time_also_to_a_read_that_waits(opened: Open, peer: Any, stream: str) -> None:
    trigger = await opened()
    await peer.xadd(stream, {"body": "1"})
    first = await read(trigger)
    reading = asyncio.ensure_future(read(trigger))
    began = time.monotonic()
    await trigger.settle(first, [Retry(after=0.3)])
    again = await reading
    assert time.monotonic() - began >= 0.29
    assert (bodies(again), again.records[0].receives) == (["1"], 2)
    await trigger.settle(again, [DONE])


async def test_a_retry_while_it_looks_for_what_is_due_is_not_overlooked(
    opened: Open, peer: Any, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = await opened()
    await peer.xadd(stream, {"body": "1"})
    batch = await read(trigger)
    looked, go_on = asyncio.Event(), asyncio.Event()
    script = trigger._script

    async def slow(text: str, *arguments: Any) -> Any:
        answer = await script(text, *arguments)
        if text is scripts.TAKE:
            looked.set()
            await go_on.wait()
        return answer

    monkeypatch.setattr(trigger, "_script", slow)
    trigger._look_at = 0
    reading = asyncio.ensure_future(read(trigger))
    await looked.wait()
    await trigger.settle(batch, [Retry(after=0)])
    go_on.set()
    began = time.monotonic()
    assert bodies(await reading) == ["1"]
    assert time.monotonic() - began < LONG_POLL


async def test_a_retry_that_is_later_than_the_visibility_timeout_is_kept_until_then(
    opened: Open, peer: Any, stream: str
) -> None:
    trigger = await opened(visibility_timeout=Duration(1))
    await peer.xadd(stream, {"body": "1"})
    began = time.monotonic()
    await trigger.settle(await read(trigger), [Retry(after=1.3)])
    await trigger.settle(await read(trigger), [DONE])
    assert time.monotonic() - began >= 1.29
    assert not await peer.exists(f"{stream}:eventfn:hello")


async def test_what_failed_comes_when_its_visibility_timeout_ends(opened: Open, peer: Any, stream: str) -> None:
    trigger = await opened(visibility_timeout=Duration(1))
    await peer.xadd(stream, {"body": "1"})
    began = time.monotonic()
    await trigger.settle(await read(trigger), [RETRY])
    assert bodies(await read(trigger)) == ["1"]
    assert time.monotonic() - began >= 0.99


# --- several nodes ----------------------------------------------------------------------------------------------------


async def test_what_a_dead_node_had_is_taken_over(opened: Open, peer: Any, stream: str) -> None:
    dead = await opened()
    await peer.xadd(stream, {"body": "1"})
    late = await read(dead)
    await die(dead)
    await lapse(peer, stream)
    other = await opened()
    again = await read(other)
    assert bodies(again) == ["1"]
    await dead.connect()
    await dead.settle(late, [DONE])  # it was only slow, and says so now
    assert (await peer.xpending(stream, "hello"))["pending"] == 1, "what it says is worth nothing any more"
    await other.settle(again, [DONE])
    assert (await peer.xpending(stream, "hello"))["pending"] == 0


async def test_a_late_settlement_is_told_in_the_log(
    opened: Open, peer: Any, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    slow = await opened()
    await peer.xadd(stream, {"body": "1"})
    late = await read(slow)
    await lapse(peer, stream)
    await read(await opened())
    with caplog.at_level(logging.WARNING):
        await slow.settle(late, [Retry(after=0)])
    assert "after their visibility timeout" in caplog.text


async def test_a_node_that_closes_gives_back_at_once(opened: Open, peer: Any, stream: str) -> None:
    first = await opened()
    await peer.xadd(stream, {"body": "1"})
    await read(first)
    await first.close(5)
    assert bodies(await read(await opened())) == ["1"]


async def test_a_lease_that_is_longer_than_the_visibility_timeout_holds(opened: Open, peer: Any, stream: str) -> None:
    """A batching window makes it so."""
    first = await opened()
    await peer.xadd(stream, {"body": "1"})
    batch = await read(first)
    await first.extend(batch, 3600)
    await lapse(peer, stream)
    second = await opened()
    await peer.xadd(stream, {"body": "2"})
    assert bodies(await read(second)) == ["2"]
    await first.settle(batch, [DONE])
    assert not await peer.exists(f"{stream}:eventfn:hello")


async def test_a_node_leaves_no_consumer_behind(
    opened: Open, peer: Any, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await opened()).close(5)
    assert await peer.xinfo_consumers(stream, "hello") == []
    dead = await opened()
    await peer.xadd(stream, {"body": "1"})
    await dead.settle(await read(dead), [DONE])
    await die(dead)
    await opened()
    assert len(await peer.xinfo_consumers(stream, "hello")) == 1, "it may come back"
    monkeypatch.setattr(eventfn_redis.trigger, "_FORGOTTEN_MS", -1)
    await opened()
    assert await peer.xinfo_consumers(stream, "hello") == []


# --- dead letters -----------------------------------------------------------------------------------------------------


async def test_what_was_received_too_often_is_a_dead_letter(opened: Open, peer: Any, stream: str) -> None:
    trigger = await opened(max_receive_count=2, dead_letter_stream=f"{stream}-dead")
    await peer.xadd(stream, {"body": "bad", "city": "Wien"}, id="7-1")
    for receives in (1, 2):
        batch = await read(trigger)
        assert batch.records[0].receives == receives
        await trigger.settle(batch, [Retry(after=0)])
    await peer.xadd(stream, {"body": "good"})
    assert bodies(await read(trigger)) == ["good"]
    while not (dead := await peer.xrange(f"{stream}-dead")):  # with the next look, at the latest
        await asyncio.sleep(0.01)
    assert dead[0][1] == {
        b"body": b"bad",
        b"city": b"Wien",
        b"eventfn.stream": stream.encode(),
        b"eventfn.id": b"7-1",
        b"eventfn.reason": b"received 2 times, and never handled",
    }
    assert (await peer.xpending(stream, "hello"))["pending"] == 1  # the good one


async def test_dead_letters_that_cannot_be_written_hold_up_nobody(
    opened: Open, peer: Any, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    trigger = await opened(max_receive_count=1, dead_letter_stream=f"{stream}-dead")
    await peer.set(f"{stream}-dead", "no stream")
    await peer.xadd(stream, {"body": "bad"})
    await trigger.settle(await read(trigger), [Retry(after=0)])
    await peer.xadd(stream, {"body": "good"})
    assert bodies(await read(trigger)) == ["good"]
    assert "cannot be given to the dead letters" in caplog.text
    assert (await peer.xpending(stream, "hello"))["pending"] == 2


async def test_a_rejected_entry_is_in_the_dead_letters_whatever_its_size(opened: Open, peer: Any, stream: str) -> None:
    trigger = await opened(dead_letter_stream=f"{stream}-dead", delete_after_ack=True)
    fields = {f"field-{number}": "x" for number in range(5000)}
    await peer.xadd(stream, fields)
    await trigger.settle(await read(trigger), [Reject("too big")])
    ((_, dead),) = await peer.xrange(f"{stream}-dead")
    assert len(dead) == 5003
    assert dead[b"eventfn.reason"] == b"too big"
    assert await peer.xlen(stream) == 0


async def test_without_a_stream_for_them_dead_letters_are_in_the_hosts_queue(
    opened: Open, peer: Any, stream: str
) -> None:
    async with memory_queues(SystemClock()) as queues:
        trigger = await opened(queues=queues)
        entry = await peer.xadd(stream, {"body": "bad"})
        await trigger.settle(await read(trigger), [Reject("never")])
        (dead,) = await queues.receive("dead-letters", 10)
        assert msgspec.json.decode(dead.body)["Records"][0]["messageId"] == entry.decode()
        assert dead.attributes == {"eventfn.origin": "fn:hello", "eventfn.shape": "event", "eventfn.reason": "never"}
        assert (await peer.xpending(stream, "hello"))["pending"] == 0


# --- the stream -------------------------------------------------------------------------------------------------------


async def test_what_is_done_can_be_deleted(opened: Open, peer: Any, stream: str) -> None:
    trigger = await opened(delete_after_ack=True)
    for number in range(2):
        await peer.xadd(stream, {"body": str(number)})
    await trigger.settle(await read(trigger), [DONE, Retry(after=60)])
    assert await peer.xlen(stream) == 1


@pytest.mark.parametrize("settlement", [RETRY, Retry(after=0)])
async def test_what_was_trimmed_before_it_was_handled_is_told(
    opened: Open, peer: Any, stream: str, caplog: pytest.LogCaptureFixture, settlement: Retry
) -> None:
    trigger = await opened(visibility_timeout=Duration(1))
    await peer.xadd(stream, {"body": "1"})
    failed = await read(trigger)
    await peer.xtrim(stream, maxlen=0)
    await trigger.settle(failed, [settlement])
    reading = asyncio.ensure_future(read(trigger))
    while "1 entries of stream" not in caplog.text:
        await asyncio.sleep(0.01)
    assert "removed from it before" in caplog.text
    await peer.xadd(stream, {"body": "2"})
    assert bodies(await reading) == ["2"]
    assert (await peer.xpending(stream, "hello"))["pending"] == 1


async def test_a_new_group_begins_where_it_is_told(opened: Open, peer: Any, stream: str) -> None:
    await peer.xadd(stream, {"body": "old"})
    latest = await opened(starting_position="LATEST", group="latest")
    await peer.xadd(stream, {"body": "new"})
    assert bodies(await read(latest)) == ["new"]
    assert bodies(await read(await opened(group="all"))) == ["old", "new"]


async def test_a_stream_that_came_again_is_read_from_its_beginning(opened: Open, peer: Any, stream: str) -> None:
    trigger = await opened(starting_position="LATEST")
    reading = asyncio.ensure_future(read(trigger))
    await asyncio.sleep(0)
    await peer.delete(stream)
    await peer.xadd(stream, {"body": "1"})
    with pytest.raises(ConnectorError):
        await reading
    await trigger.connect()
    assert bodies(await read(trigger)) == ["1"]


async def test_what_is_no_stream_is_refused(opened: Open, peer: Any, stream: str) -> None:
    await peer.set(stream, "text")
    with pytest.raises(ConnectorError, match="WRONGTYPE"):
        await opened()


async def test_the_lag_is_what_is_unread_and_what_is_pending(opened: Open, peer: Any, stream: str) -> None:
    trigger = await opened()
    ids = [await peer.xadd(stream, {"body": str(number)}) for number in range(5)]
    await read(trigger, 2)
    assert await trigger.pending() == 5
    await peer.xdel(stream, ids[3])  # unread: Redis does not know the lag any more
    assert await trigger.pending() == 6  # four in the stream and two pending, at most


# --- who we are -------------------------------------------------------------------------------------------------------


async def test_a_wrong_password_is_told_without_it(opened: Open, server: RedisServer) -> None:
    shared = Servers(url=f"redis://{server.host}:{server.port}", username="nobody", password="hunter2")
    with pytest.raises(ConnectorError, match=r"redis at 127\.0\.0\.1") as failure:
        await opened(shared=shared)
    assert "hunter2" not in str(failure.value)


async def test_who_is_no_redis_is_told_from_one(opened: Open) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id": "another"}\r\n')
        await reader.read()  # all that it asks, until it goes
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(ConnectorError, match="what answers there is no Redis") as failure:
            await opened(shared=Servers(url=f"redis://127.0.0.1:{port}"))
    assert "server_id" not in str(failure.value)


async def test_a_user_with_the_rights_in_the_readme_can_do_all(
    opened: Open, server: RedisServer, peer: Any, stream: str, tmp_path: Path
) -> None:
    readme = (package_folder(RedisTrigger) / "README.md").read_text()
    rules = readme.partition("ACL SETUSER eventfn ")[2].partition("```")[0].replace("orders", stream).split()
    await peer.execute_command("ACL", "SETUSER", "eventfn", "reset", *rules)
    url = f"redis://{server.host}:{server.port}"
    shared = Servers(url=url, username="eventfn", password="PASSWORD")
    trigger = await opened(shared=shared, max_receive_count=1, dead_letter_stream=f"{stream}-dead")
    await peer.xadd(stream, {"body": "1"})
    batch = await read(trigger)
    await trigger.extend(batch, 3600)
    await trigger.settle(batch, [Retry(after=0)])
    await peer.xadd(stream, {"body": "2"})
    await trigger.settle(await read(trigger), [DONE])
    while not await peer.xlen(f"{stream}-dead"):
        await asyncio.sleep(0.01)
    assert await trigger.pending() == 0
    await trigger.close(5)
    assert await peer.xinfo_consumers(stream, "hello") == []
    sink = Sinks(url=url, username="eventfn", password="PASSWORD", maximum_length=10)
    destination = RedisDestination(f"{stream}-failed", sink, destination_context(tmp_path))
    await destination.connect()
    assert await destination.write([OutgoingRecord("1", b"{}")]) == [WRITTEN]
    await destination.close(1)

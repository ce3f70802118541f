"""What a queue brings beside single notifications: batches of records, envelopes, strangers, messages of others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from eventfn.clock import SystemClock
from eventfn.event import Batch, Record
from eventfn.testing.contexts import trigger_context
from eventfn.trigger import DONE, RETRY, Retry
from eventfn_aws.s3 import S3Trigger
from eventfn_aws.s3.settings import S3Settings, S3Shared
from tests.connectors.aws_s3.test_shape import AWS, changed
from tests.servers import aws
from tests.servers.aws import Servers
from tests.servers.s3 import Bucket
from tests.servers.sqs import Queue
from tests.support import until

ALL = ("ObjectCreated:*", "ObjectRemoved:*", "ObjectTagging:*")


@pytest_asyncio.fixture
async def queue(servers: Servers) -> AsyncIterator[Queue]:
    async with Queue.on(servers, "ministack") as queue:
        yield queue


@pytest_asyncio.fixture
async def trigger(queue: Queue, tmp_path: Path) -> AsyncIterator[S3Trigger]:
    trigger = of(queue, tmp_path, events=ALL)
    await trigger.connect()
    yield trigger
    await trigger.close(5)


def of(queue: Queue, folder: Path, **keys: Any) -> S3Trigger:
    shared = S3Shared(**msgspec.structs.asdict(queue.settings))
    settings = S3Settings(notifications="queue", queue=queue.name, **keys)
    return S3Trigger(settings, shared, trigger_context(folder, clock=SystemClock()))


def notification(*keys: str) -> str:
    records = [changed(AWS, "ObjectCreated:Put", key=key) for key in keys]
    return msgspec.json.encode({"Records": records}).decode()


def keys(*records: Record) -> list[str]:
    return [msgspec.json.decode(record.payload)["Records"][0]["s3"]["object"]["key"] for record in records]


async def read_all(trigger: S3Trigger, count: int) -> list[tuple[Batch, Record]]:
    found: list[tuple[Batch, Record]] = []
    while len(found) < count:
        batch = await trigger.read(1)
        found += [(batch, record) for record in batch.records]
    return found


async def is_empty(queue: Queue) -> bool:
    said = await queue.attributes()
    return said["ApproximateNumberOfMessages"] == said["ApproximateNumberOfMessagesNotVisible"] == "0"


async def test_a_message_is_deleted_when_the_last_of_its_records_is_done(queue: Queue, trigger: S3Trigger) -> None:
    await queue.send(notification("a", "b", "c"))
    found = await read_all(trigger, 3)
    assert keys(*(record for _, record in found)) == ["a", "b", "c"]
    for batch, _ in found[:2]:
        await trigger.settle(batch, [DONE])
    assert not await is_empty(queue)
    await trigger.settle(found[2][0], [DONE])
    assert await is_empty(queue)


async def test_a_message_of_which_one_record_failed_comes_again_and_its_records_are_known(
    queue: Queue, trigger: S3Trigger
) -> None:
    await queue.send(notification("a", "b"))
    (first, _), (second, _) = await read_all(trigger, 2)
    await trigger.settle(first, [Retry(after=0)])
    await trigger.settle(second, [DONE])
    again = await read_all(trigger, 2)
    assert [record.dedupe_key for _, record in again] == [first.records[0].dedupe_key, second.records[0].dedupe_key]
    for batch, _ in again:
        await trigger.settle(batch, [DONE])
    assert await is_empty(queue)


async def test_what_is_to_be_retried_by_the_queues_own_rules_waits_for_its_timeout(
    queue: Queue, trigger: S3Trigger
) -> None:
    await queue.send(notification("a"))
    await trigger.settle(await trigger.read(10), [RETRY])
    assert (await queue.attributes())["ApproximateNumberOfMessagesNotVisible"] == "1"
    batch = await trigger.read(10)
    assert keys(*batch.records) == ["a"]
    await trigger.settle(batch, [DONE])


async def test_what_nobody_wants_is_deleted(queue: Queue, tmp_path: Path) -> None:
    trigger = of(queue, tmp_path, bucket="mybucket", events=ALL, prefix="in/", suffix=".jpg")
    await trigger.connect()
    other = changed(AWS, "ObjectCreated:Put", key="in/a.jpg")
    other["s3"]["bucket"]["name"] = "other"
    restored = changed(AWS, "ObjectRestore:Post", key="in/a.jpg")
    for record in (other, restored):
        await queue.send(msgspec.json.encode({"Records": [record]}).decode())
    await queue.send(notification("out/a.jpg", "in/a.png"))
    await queue.send('{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "mybucket"}')
    await queue.send(notification("out/b.jpg", "in/b.jpg"))
    batch = await trigger.read(10)
    assert keys(*batch.records) == ["in/b.jpg"]
    await trigger.settle(batch, [DONE])
    await trigger.close(5)
    assert await is_empty(queue)


async def test_what_is_no_notification_is_left_alone_and_told(
    queue: Queue, trigger: S3Trigger, caplog: pytest.LogCaptureFixture
) -> None:
    await queue.send("hello")
    await queue.send(notification("a"))
    batch = await trigger.read(10)
    await trigger.settle(batch, [DONE])
    await until(lambda: "is no notification of S3" in caplog.text, "the log says so")
    assert not await is_empty(queue)


async def test_it_says_how_far_behind_it_is(queue: Queue, trigger: S3Trigger) -> None:
    for key in "abc":
        await queue.send(notification(key))
    assert await trigger.pending() == 3


async def test_messages_that_nobody_read_go_back_when_it_closes(queue: Queue, trigger: S3Trigger) -> None:
    await queue.send(notification("a", "b"))
    batch = await trigger.read(1)
    await trigger.close(5)
    # The one that was read may still be settled, and takes the other one with it.
    assert keys(*batch.records) == ["a"]
    await queue.all_visible()
    assert not await is_empty(queue)


async def test_the_queue_may_be_elsewhere_than_the_store(queue: Queue, tmp_path: Path) -> None:
    reached = msgspec.structs.asdict(queue.settings) | {"endpoint_url": "http://127.0.0.1:9"}
    settings = S3Settings(notifications="queue", queue=queue.url)
    trigger = S3Trigger(settings, S3Shared(**reached), trigger_context(tmp_path, clock=SystemClock()))
    await trigger.connect()
    await queue.send(notification("a"))
    await trigger.settle(await trigger.read(10), [DONE])
    await trigger.close(5)
    assert await is_empty(queue)


@pytest.mark.parametrize("raw", [True, False])
async def test_a_topic_may_stand_between_bucket_and_queue(
    queue: Queue, trigger: S3Trigger, servers: Servers, raw: bool
) -> None:
    url = servers.get("ministack").url
    async with Bucket.on(servers, "ministack") as bucket, aws.client("sns", url) as sns:
        topic = (await sns.call("create_topic", Name=f"topic-{queue.name}"))["TopicArn"]
        await sns.call(
            "subscribe",
            TopicArn=topic,
            Protocol="sqs",
            Endpoint=await queue.arn(queue.url),
            Attributes={"RawMessageDelivery": str(raw).lower()},
        )
        await bucket.tell_topic(topic)
        await bucket.put("a b.jpg")
        batch = await trigger.read(10)
        assert keys(*batch.records) == ["a+b.jpg"]
        await trigger.settle(batch, [DONE])
    assert await is_empty(queue)


@pytest.mark.parametrize(
    ("server", "names"),
    [
        ("moto", {"ObjectCreated:Put", "ObjectTagging:Put"}),
        ("ministack", {"ObjectCreated:Put", "ObjectRemoved:Delete"}),
    ],
)
async def test_what_servers_write_is_in_shape(servers: Servers, server: str, names: set[str], tmp_path: Path) -> None:
    """moto leaves out who did it and the sequencer, writes a slash as %2F, and tells of no removal; MiniStack does not
    tell of tags."""
    async with Queue.on(servers, server) as queue, Bucket.on(servers, server) as bucket:
        await bucket.tell(await queue.arn(queue.url), "s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:ObjectTagging:*")
        trigger = of(queue, tmp_path, events=ALL)
        await trigger.connect()
        try:
            await bucket.put("in/a b+c.jpg", b"four")
            await bucket.tag("in/a b+c.jpg")
            await bucket.delete("in/a b+c.jpg")
            events = [msgspec.json.decode(record.payload)["Records"] for _, record in await read_all(trigger, 2)]
        finally:
            await trigger.close(5)
    shown = {record["eventName"]: record for (record,) in events}
    assert set(shown) == names
    keys = {
        "ObjectCreated:Put": {"key", "size", "eTag", "sequencer"},
        "ObjectRemoved:Delete": {"key", "sequencer"},
        "ObjectTagging:Put": {"key", "eTag"},
    }
    for name, record in shown.items():
        assert set(record) >= set(AWS)
        assert set(record["s3"]["object"]) == keys[name]
        assert record["s3"]["object"]["key"] == "in/a+b%2Bc.jpg"
        assert record["s3"]["bucket"]["ownerIdentity"]["principalId"]
    assert shown["ObjectCreated:Put"]["s3"]["object"]["size"] == 4

"""With its real host, on the server whose shards end as Kinesis' do: what functions see, whatever goes wrong."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from eventfn.engine.memory import MemoryEngine
from eventfn.units import Duration
from eventfn_aws.kinesis import KinesisTrigger
from tests.connectors.aws_kinesis.conftest import Peer, reached
from tests.connectors.aws_kinesis.hosting import ARN, Handler, Hosting, data
from tests.connectors.aws_kinesis.packing import aggregate
from tests.servers.aws_answers import AwsAnswers
from tests.servers.process import HttpServer
from tests.servers.proxy import Proxy

FAILED = "queue:failed"
STREAM_ARN = "arn:aws:kinesis:us-east-1:000000000000:stream"  # kinesalite knows one region

MakeHosting = Callable[..., Hosting]


@pytest_asyncio.fixture
async def aws(kinesalite_server: HttpServer) -> AsyncIterator[AwsAnswers]:
    async with AwsAnswers(kinesalite_server.url) as answers:
        yield answers


@pytest_asyncio.fixture
async def hosting(aws: AwsAnswers, tmp_path: Path) -> AsyncIterator[MakeHosting]:
    engine = MemoryEngine()
    await engine.open(0)

    def make(stream: str, clock: int = 0, **settings: Any) -> Hosting:
        chosen = KinesisTrigger.Settings(stream=stream, **settings)
        return Hosting(KinesisTrigger, chosen, reached(aws.url), engine, tmp_path, clock)

    yield make
    await engine.close()


# --- shards that come and go ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lanes", "failing"), [(1, False), (2, True)])
async def test_splits_and_merges_under_load_lose_nothing_and_keep_the_order_of_a_key(
    kinesis: Peer, hosting: MakeHosting, lanes: int, failing: bool
) -> None:
    stream = await kinesis.create(shards=2)
    host = hosting(stream)
    handled: defaultdict[str, list[int]] = defaultdict(list)
    turns = itertools.count(1)

    def answer(event: Any) -> None:
        if failing and next(turns) % 10 == 0:
            raise ValueError("one in ten")
        for record in event["Records"]:
            handled[record["kinesis"]["partitionKey"]].append(int(data([record])[0]))

    first, second = Handler(answer), Handler(answer)
    nodes = [
        host.node(handler, owner=owner, batch_size=7, parallelization_factor=lanes)
        for handler, owner in ((first, "node-1"), (second, "node-2"))
    ]
    written = 0

    async def write(rounds: int) -> None:
        nonlocal written
        for _ in range(rounds):
            await kinesis.put_many(stream, [(f"key-{key}", str(written).encode()) for key in range(10)])
            written += 1

    def complete() -> bool:
        return len(handled) == 10 and all(written - 1 in numbers for numbers in handled.values())

    async with host.running(*nodes):
        while not (first.events and second.events):  # until both nodes have shards
            await write(1)
            await host.pass_time()
        for _ in range(3):
            writing = asyncio.create_task(write(10))
            for shard in await kinesis.open_shards(stream):
                await kinesis.split(stream, shard)
            await host.until(writing.done, "all is written")
        writing = asyncio.create_task(write(10))
        for _ in range(3):
            by_range = sorted(
                await kinesis.open_shards(stream), key=lambda s: int(s["HashKeyRange"]["StartingHashKey"])
            )
            await kinesis.merge(stream, *by_range[:2])
        await host.until(writing.done, "all is written")
        await host.until(complete, "every key's last record is handled")
        for node in nodes:
            await host.drained(node)

    for numbers in handled.values():
        assert list(dict.fromkeys(numbers)) == list(range(written))
        # What one lane had done, while another had to try again, comes again when the shard moves to the other node.
        assert failing or len(numbers) == written
    assert any(shard["ParentShardId"] for shard in await kinesis.open_shards(stream))


async def test_a_node_that_dies_is_followed_by_another_at_what_is_done(kinesis: Peer, hosting: MakeHosting) -> None:
    stream = await kinesis.create(shards=2)
    host = hosting(stream)
    first, second = Handler(), Handler()
    records = [(f"key-{number}", str(number).encode()) for number in range(60)]
    await kinesis.put_many(stream, records[:40])
    async with host.running(host.node(first, batch_size=5)):
        await host.until(lambda: len(first.handled) >= 20, "some are handled")
    await kinesis.put_many(stream, records[40:])
    async with host.running(host.node(second, owner="node-2", batch_size=5)):
        await host.until(
            lambda: {*data(first.handled), *data(second.handled)} == {number for _, number in records},
            "all are handled",
        )
    twice = set(data(first.handled)) & set(data(second.handled))
    assert len(twice) <= 10, "at most what was in flight in each shard comes again"


async def test_what_is_new_is_read_from_the_first_moment_on_and_what_is_old_never(
    kinesis: Peer, hosting: MakeHosting, aws: AwsAnswers
) -> None:
    stream = await kinesis.create(shards=2)
    (shard, _) = await kinesis.open_shards(stream)
    await kinesis.put_many(stream, [(f"old-{number}", b"old") for number in range(10)])
    await kinesis.split(stream, shard)
    host = hosting(stream)
    handler = Handler()
    node = host.node(handler, starting_position="LATEST")
    async with host.running(node):
        await host.until(lambda: len(aws.asked("GetRecords")) > 5, "all shards are open")
        written = 0
        while len(handler.handled) < 10:
            await kinesis.put(stream, f"new-{written}", b"new")
            written += 1
            await host.pass_time(1)
        await host.until(lambda: len(handler.handled) >= written, "all is handled")
    assert set(data(handler.handled)) == {b"new"}


async def test_a_position_that_kinesis_does_not_know_means_the_oldest_record(
    kinesis: Peer, hosting: MakeHosting, aws: AwsAnswers, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await kinesis.create()
    host = hosting(stream)
    first, second = Handler(), Handler()
    await kinesis.put(stream, "key", b"1")
    node = host.node(first)
    async with host.running(node):
        await host.until(lambda: first.handled, "it is handled")
        await host.drained(node)
    message = "StartingSequenceNumber ... is invalid because it did not come from this stream."
    aws.refuse("GetShardIterator", "InvalidArgumentException", message)
    async with host.running(host.node(second)):
        await host.until(lambda: second.handled, "it is handled")
    assert data(second.handled) == [b"1"]
    assert "is read from its oldest record" in caplog.text


# --- aggregates -------------------------------------------------------------------------------------------------------


async def test_a_restart_goes_on_in_the_middle_of_an_aggregate(kinesis: Peer, hosting: MakeHosting) -> None:
    stream = await kinesis.create()
    host = hosting(stream, deaggregate=True)
    await kinesis.put(stream, "whole", b"0")
    await kinesis.put(stream, "packed", aggregate([(f"key-{number}", str(number).encode()) for number in range(1, 8)]))
    await kinesis.put(stream, "whole", b"8")

    def until_four(event: Any) -> None:
        if b"4" in data(event["Records"]):
            raise ValueError("not yet")

    first, second = Handler(until_four), Handler()
    node = host.node(first, batch_size=2)
    async with host.running(node):
        await host.until(lambda: len(first.events) > 3, "a batch has failed")
        await host.drained(node)
    assert data(first.handled) == [b"0", b"1", b"2", b"3"]
    async with host.running(host.node(second, owner="node-2", batch_size=2)):
        await host.until(lambda: len(second.handled) == 5, "the rest is handled")
    assert data(second.handled) == [b"4", b"5", b"6", b"7", b"8"]
    packed = [record["kinesis"] for record in first.handled[1:] + second.handled[:4]]
    assert [each["partitionKey"] for each in packed] == [f"key-{number}" for number in range(1, 8)]
    assert len({each["sequenceNumber"] for each in packed}) == 1


async def test_without_deaggregate_an_aggregate_is_one_record(kinesis: Peer, hosting: MakeHosting) -> None:
    stream = await kinesis.create()
    packed = aggregate([("a", b"1"), ("b", b"2")])
    await kinesis.put(stream, "packed", packed)
    host, handler = hosting(stream), Handler()
    async with host.running(host.node(handler)):
        await host.until(lambda: handler.handled, "it is handled")
    assert data(handler.handled) == [packed]


# --- what functions answer --------------------------------------------------------------------------------------------


async def test_a_reported_sequence_number_is_where_the_next_try_begins(kinesis: Peer, hosting: MakeHosting) -> None:
    stream = await kinesis.create()
    sequence = [await kinesis.put(stream, "key", str(number).encode()) for number in range(6)]
    answers = iter([sequence[4], sequence[2]])

    def answer(event: Any) -> Any:
        failed = next(answers, None)
        # Lambda goes on at the lowest of them.
        both = [failed, sequence[5]] if failed else []
        return {"batchItemFailures": [{"itemIdentifier": each} for each in both]}

    host, handler = hosting(stream), Handler(answer)
    node = host.node(handler, report_batch_item_failures=True, maximum_batching_window=Duration(3))
    async with host.running(node):
        await host.until(lambda: len(handler.events) == 3, "it was tried three times")
        await host.drained(node)
    tried = [[int(number) for number in data(event["Records"])] for event in handler.events]
    assert tried in ([[0, 1, 2, 3, 4, 5], [4, 5], [4, 5]], [[0, 1, 2, 3, 4, 5], [4, 5]])


async def test_what_is_given_up_is_described_in_lambdas_words(kinesis: Peer, hosting: MakeHosting) -> None:
    stream = await kinesis.create()
    sequence = [await kinesis.put(stream, "key", str(number).encode()) for number in range(4)]

    def fail(event: Any) -> None:
        if b"2" in data(event["Records"]):
            raise ValueError("poison")

    host, handler = hosting(stream), Handler(fail)
    node = host.node(handler, bisect_batch_on_function_error=True, maximum_retry_attempts=0, on_failure=FAILED)
    async with host.running(node):
        await host.until(lambda: {b"0", b"1", b"3"} <= set(data(handler.handled)), "the others are handled")
        (failure,) = await host.failures(FAILED)
    assert failure["requestContext"]["functionArn"] == ARN
    assert failure["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert failure["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": "Unhandled",
    }
    info = failure["KinesisBatchInfo"]
    arrived = info.pop("approximateArrivalOfFirstRecord")
    assert info == {
        "shardId": "shardId-000000000000",
        "startSequenceNumber": sequence[2],
        "endSequenceNumber": sequence[2],
        "approximateArrivalOfLastRecord": arrived,
        "batchSize": 1,
        "streamArn": f"{STREAM_ARN}/{stream}",
    }
    assert time.strptime(arrived[:19], "%Y-%m-%dT%H:%M:%S")
    assert len(arrived) == len("2019-11-14T00:38:05.021Z")
    assert data(failure["payload"]["Records"]) == [b"2"]


async def test_a_window_carries_its_state_and_names_its_stream(kinesis: Peer, hosting: MakeHosting) -> None:
    stream = await kinesis.create()

    def count(event: Any) -> Any:
        return {"state": {"count": event["state"].get("count", 0) + len(event["Records"])}}

    # The host's clock is late: a window ends when all that is in it was read.
    host, handler = hosting(stream, clock=-3600), Handler(count)
    for _ in range(9):
        await kinesis.put(stream, "key", b"x")

    def ended() -> bool:
        return len(handler.handled) == 9 and bool(handler.events[-1]["isFinalInvokeForWindow"])

    async with host.running(host.node(handler, batch_size=4, tumbling_window=Duration(600))):
        await host.until(ended, "its last window ends", step=10)
    finals = [event for event in handler.events if event["isFinalInvokeForWindow"]]
    # Two, if the real clock went from one into the next while the records were put in.
    assert len(finals) == len({event["window"]["start"] for event in handler.events})
    assert sum(event["state"]["count"] + len(event["Records"]) for event in finals) == 9
    assert {event["shardId"] for event in handler.events} == {"shardId-000000000000"}
    assert {event["eventSourceARN"] for event in handler.events} == {f"{STREAM_ARN}/{stream}"}


async def test_a_filter_sees_the_data_as_json(kinesis: Peer, hosting: MakeHosting) -> None:
    stream = await kinesis.create()
    values = [b'{"kind": "placed"}', b'{"kind": "paid"}', b"no JSON", b'{"kind": "placed", "n": 2}']
    for value in values:
        await kinesis.put(stream, "key", value)
    host, handler = hosting(stream), Handler()
    pattern = {"partitionKey": ["key"], "data": {"kind": ["placed"]}}
    async with host.running(host.node(handler, filter_criteria=[pattern])):
        await host.until(lambda: len(handler.handled) == 2, "what matches is handled")
    assert data(handler.handled) == [values[0], values[3]]


# --- when the service says no -----------------------------------------------------------------------------------------


async def test_an_iterator_that_expires_before_its_first_record_misses_nothing(
    kinesis: Peer, hosting: MakeHosting, aws: AwsAnswers
) -> None:
    stream = await kinesis.create()
    # Real time passes more slowly than the host's, and nothing must come before it is there.
    host, handler = hosting(stream, clock=-3600), Handler()
    node = host.node(handler, starting_position="LATEST")
    async with host.running(node):
        await host.until(lambda: aws.asked("GetRecords"), "the shard is read")
        aws.refuse("GetRecords", "ExpiredIteratorException")
        await kinesis.put(stream, "key", b"1")
        await host.until(lambda: handler.handled, "it is handled")
        aws.refuse("GetRecords", "ExpiredIteratorException")
        await kinesis.put(stream, "key", b"2")
        await host.until(lambda: len(handler.handled) > 1, "it is handled")
    assert data(handler.handled) == [b"1", b"2"]
    asked = [each["ShardIteratorType"] for each in aws.asked("GetShardIterator")]
    assert asked[0] == "LATEST"
    assert asked[-1] == "AFTER_SEQUENCE_NUMBER"
    assert node.status.last_error is None, "it is nothing that an operator must hear of"


async def test_too_many_reads_are_waited_for(kinesis: Peer, hosting: MakeHosting, aws: AwsAnswers) -> None:
    stream = await kinesis.create()
    host, handler = hosting(stream), Handler()
    await kinesis.put(stream, "key", b"1")
    # The client tries each once more by itself.
    aws.refuse("GetRecords", "ProvisionedThroughputExceededException", "Rate exceeded", times=4)
    node = host.node(handler)
    async with host.running(node):
        await host.until(lambda: handler.handled, "it is handled")
    assert aws.unused == 0
    assert len(aws.asked("GetShardIterator")) == 1, "the iterator is still good"
    assert node.status.last_error is None


async def test_credentials_that_expire_and_are_renewed(kinesis: Peer, hosting: MakeHosting, aws: AwsAnswers) -> None:
    stream = await kinesis.create()
    host, handler = hosting(stream), Handler()
    node = host.node(handler)
    async with host.running(node):
        await kinesis.put(stream, "key", b"1")
        await host.until(lambda: handler.handled, "it is handled")
        aws.refuse("GetRecords", "ExpiredTokenException", "The security token included in the request is expired")
        await host.until(lambda: node.status.last_error, "the operator is told")
        assert "renew them" in str(node.status.last_error)
        await kinesis.put(stream, "key", b"2")
        await host.until(lambda: len(handler.handled) == 2, "it goes on")
        assert node.status.last_error is None
    assert data(handler.handled) == [b"1", b"2"]


async def test_a_stream_that_is_not_there_says_what_to_do(hosting: MakeHosting) -> None:
    host = hosting("nobody-made-it")
    node = host.node(Handler())
    async with host.running(node):
        await host.until(lambda: node.status.last_error, "the operator is told")
    assert "create it, or correct `stream`" in str(node.status.last_error)


async def test_records_of_a_megabyte(kinesis: Peer, hosting: MakeHosting) -> None:
    stream = await kinesis.create()
    host, handler = hosting(stream), Handler()
    big = [bytes([number]) * (1024 * 1024 - 16) for number in range(6)]
    for value in big:
        await kinesis.put(stream, "key", value)
    async with host.running(host.node(handler)):
        await host.until(lambda: len(handler.handled) == 6, "all are handled")
    assert data(handler.handled) == big
    assert all(len(event["Records"]) <= 4 for event in handler.events), "an event holds at most 6 MB"


async def test_a_network_that_cuts_truncates_and_refuses_loses_nothing(
    kinesis: Peer, kinesalite_server: HttpServer, tmp_path: Path
) -> None:
    stream = await kinesis.create(shards=2)
    engine = MemoryEngine()
    await engine.open(0)
    handler = Handler()
    written = 0
    async with Proxy(kinesalite_server.host, kinesalite_server.port) as proxy:
        settings = KinesisTrigger.Settings(stream=stream)
        host = Hosting(KinesisTrigger, settings, reached(f"http://{proxy.host}:{proxy.port}"), engine, tmp_path)
        node = host.node(handler, batch_size=5)

        async def until_more() -> None:
            nonlocal written
            await kinesis.put_many(stream, [(f"key-{key}", f"{key} {written}".encode()) for key in range(20)])
            written += 1
            await host.until(lambda: len(handler.handled) >= 20 * written, "all of it is handled")

        async with host.running(node):
            await until_more()
            for _ in range(3):
                proxy.cut()
                await until_more()
                proxy.truncate("down", 100)
                await until_more()
                proxy.drop("down", 1)
                await until_more()
                await proxy.refuse()
                await host.until(lambda: not node.status.connected, "the operator is told")
                await proxy.accept()
                await until_more()
            await host.drained(node)
    await engine.close()
    for key in range(20):
        handled = [value for value in data(handler.handled) if value.startswith(b"%d " % key)]
        assert handled == [b"%d %d" % (key, number) for number in range(written)], "each once, in order"

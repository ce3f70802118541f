"""With its real host: what functions see of a table's changes, on MiniStack; and on a stand-in what no server here has:
streams of several shards, and of tables whose stream was switched off and on."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from eventfn.engine.memory import MemoryEngine
from eventfn.errors import ConnectorError
from eventfn.testing import FakeClock, trigger_context
from eventfn.trigger import Shard, Start
from eventfn.units import Duration
from eventfn_aws.dynamodb import DynamodbTrigger
from tests.connectors.aws_dynamodb.conftest import Peer, reached
from tests.connectors.aws_kinesis.hosting import ARN, Handler, Hosting
from tests.servers.aws_answers import AwsAnswers
from tests.servers.process import HttpServer

FAILED = "sqs:failed"
MakeHosting = Callable[..., Hosting]


@pytest_asyncio.fixture
async def tables(ministack_server: HttpServer) -> AsyncIterator[Peer]:
    peer = Peer(ministack_server.url)
    yield peer
    await peer.close()


@pytest_asyncio.fixture
async def aws(ministack_server: HttpServer) -> AsyncIterator[AwsAnswers]:
    async with AwsAnswers(ministack_server.url) as answers:
        yield answers


@pytest_asyncio.fixture
async def hosting(aws: AwsAnswers, tmp_path: Path) -> AsyncIterator[MakeHosting]:
    engine = MemoryEngine()
    await engine.open(0)

    def make(clock: int = 0, **settings: Any) -> Hosting:
        chosen = DynamodbTrigger.Settings(**settings)
        return Hosting(DynamodbTrigger, chosen, reached(aws.url), engine, tmp_path, clock)

    yield make
    await engine.close()


def numbers(records: list[Any]) -> list[int]:
    return [int(record["dynamodb"]["NewImage"]["number"]["N"]) for record in records]


# --- changes ----------------------------------------------------------------------------------------------------------


async def test_the_life_of_an_item(tables: Peer, hosting: MakeHosting) -> None:
    table = await tables.create()
    await tables.put(table, "a", bytes={"B": b"\x00\xff"}, deep={"M": {"list": {"L": [{"B": b"x"}, {"NULL": True}]}}})
    await tables.put(table, "a", bytes={"B": b"\x01"})
    await tables.delete(table, "a")
    host, handler = hosting(table=table), Handler()
    async with host.running(host.node(handler)):
        await host.until(lambda: len(handler.handled) == 3, "all changes are handled")
    changes = [(record["eventName"], record["dynamodb"]) for record in handler.handled]
    assert [name for name, _ in changes] == ["INSERT", "MODIFY", "REMOVE"]
    first = {"id": {"S": "a"}, "bytes": {"B": "AP8="}, "deep": {"M": {"list": {"L": [{"B": "eA=="}, {"NULL": True}]}}}}
    second = {"id": {"S": "a"}, "bytes": {"B": "AQ=="}}
    images = [(change.get("OldImage"), change.get("NewImage")) for _, change in changes]
    assert images == [(None, first), (first, second), (second, None)]
    arn = await tables.stream_arn(table)
    for record in handler.handled:
        assert record["eventSourceARN"] == arn
        assert record["awsRegion"] == "eu-central-1"
        assert record["dynamodb"]["Keys"] == {"id": {"S": "a"}}
        assert isinstance(record["dynamodb"]["SizeBytes"], int)


@pytest.mark.parametrize(
    ("view", "images"),
    [
        ("KEYS_ONLY", set()),
        ("NEW_IMAGE", {"NewImage"}),
        ("OLD_IMAGE", {"OldImage"}),
        ("NEW_AND_OLD_IMAGES", {"OldImage", "NewImage"}),
    ],
)
async def test_a_stream_shows_what_its_view_says(
    tables: Peer, hosting: MakeHosting, view: str, images: set[str]
) -> None:
    table = await tables.create(view)
    await tables.put(table, "a", number={"N": "1"})
    await tables.put(table, "a", number={"N": "2"})
    host, handler = hosting(table=table), Handler()
    async with host.running(host.node(handler)):
        await host.until(lambda: len(handler.handled) == 2, "all changes are handled")
    change = handler.handled[1]["dynamodb"]
    assert change["StreamViewType"] == view
    assert {key for key in change if key.endswith("Image")} == images


async def test_the_order_of_an_item_is_kept_through_lanes_failures_and_a_new_node(
    tables: Peer, hosting: MakeHosting
) -> None:
    table = await tables.create()
    for number in range(90):
        await tables.put(table, f"item-{number % 9}", number={"N": str(number)})
    seen: defaultdict[int, list[int]] = defaultdict(list)
    turns = itertools.count(1)

    def answer(event: Any) -> None:
        if next(turns) % 10 == 0:
            raise ValueError("one in ten")
        for number in numbers(event["Records"]):
            seen[number % 9].append(number)

    host, first, second = hosting(table=table), Handler(answer), Handler(answer)
    node = host.node(first, batch_size=4, parallelization_factor=3)
    async with host.running(node):
        await host.until(lambda: len(first.handled) > 40, "about half is handled")
        await host.drained(node)
    async with host.running(host.node(second, owner="node-2", batch_size=4, parallelization_factor=3)):
        await host.until(lambda: sum(len(set(each)) for each in seen.values()) == 90, "all is handled")
    assert second.handled
    for item in range(9):
        assert list(dict.fromkeys(seen[item])) == list(range(item, 90, 9))


async def test_a_reported_sequence_number_is_where_the_next_try_begins(tables: Peer, hosting: MakeHosting) -> None:
    table = await tables.create()
    for number in range(5):
        await tables.put(table, f"item-{number}", number={"N": str(number)})
    reported: list[str] = []

    def answer(event: Any) -> Any:
        if not reported:
            reported.append(event["Records"][3]["dynamodb"]["SequenceNumber"])
            return {"batchItemFailures": [{"itemIdentifier": reported[0]}]}
        return None

    host, handler = hosting(table=table), Handler(answer)
    async with host.running(host.node(handler, report_batch_item_failures=True)):
        await host.until(lambda: len(handler.events) == 2, "it was tried again")
    assert [numbers(event["Records"]) for event in handler.events] == [[0, 1, 2, 3, 4], [3, 4]]


async def test_what_is_given_up_is_described_in_lambdas_words(tables: Peer, hosting: MakeHosting) -> None:
    table = await tables.create()
    for number in range(3):
        await tables.put(table, "item", number={"N": str(number)})

    def fail(event: Any) -> None:
        raise ValueError("always")

    host, handler = hosting(table=table), Handler(fail)
    async with host.running(host.node(handler, maximum_retry_attempts=1, on_failure=FAILED)):
        failures: list[Any] = []
        while not failures:
            await host.pass_time()
            failures = await host.failures(FAILED)
    (failure,) = failures
    records = handler.events[0]["Records"]
    info = failure["DDBStreamBatchInfo"]
    arrived = [info.pop(f"approximateArrivalOf{which}Record") for which in ("First", "Last")]
    assert all(len(each) == len("2019-11-14T00:13:19Z") and each.endswith("Z") for each in arrived)
    assert info == {
        "shardId": info["shardId"],
        "startSequenceNumber": records[0]["dynamodb"]["SequenceNumber"],
        "endSequenceNumber": records[2]["dynamodb"]["SequenceNumber"],
        "batchSize": 3,
        "streamArn": await tables.stream_arn(table),
    }
    assert info["shardId"].startswith("shardId-")
    assert failure["requestContext"] | {"requestId": ""} == {
        "requestId": "",
        "functionArn": ARN,
        "condition": "RetryAttemptsExhausted",
        "approximateInvokeCount": 2,
    }
    assert "payload" not in failure, "SQS gets no records"


async def test_a_window_carries_its_state_and_names_its_stream(tables: Peer, hosting: MakeHosting) -> None:
    table = await tables.create()
    for number in range(7):
        await tables.put(table, "item", number={"N": str(number)})

    def count(event: Any) -> Any:
        return {"state": {"count": event["state"].get("count", 0) + len(event["Records"])}}

    arn = await tables.stream_arn(table)
    # The host's clock is late: a window ends when all that is in it was read.
    host, handler = hosting(table=table, clock=-3600), Handler(count)

    def ended() -> bool:
        return len(handler.handled) == 7 and bool(handler.events[-1]["isFinalInvokeForWindow"])

    async with host.running(host.node(handler, batch_size=3, tumbling_window=Duration(600))):
        await host.until(ended, "its last window ends", step=10)
    finals = [event for event in handler.events if event["isFinalInvokeForWindow"]]
    # Two, if the real clock went from one into the next while the items were put in.
    assert len(finals) == len({event["window"]["start"] for event in handler.events})
    assert sum(event["state"]["count"] + len(event["Records"]) for event in finals) == 7
    assert {event["eventSourceARN"] for event in handler.events} == {arn}


async def test_a_filter_is_about_the_record(tables: Peer, hosting: MakeHosting) -> None:
    table = await tables.create()
    for number in range(4):
        await tables.put(table, f"item-{number}", number={"N": str(number)})
    await tables.put(table, "item-2", number={"N": "2"}, more={"S": "x"})
    host, handler = hosting(table=table), Handler()
    pattern = {"eventName": ["INSERT"], "dynamodb": {"NewImage": {"number": {"N": ["2", "3"]}}}}
    async with host.running(host.node(handler, filter_criteria=[pattern])):
        await host.until(lambda: len(handler.handled) == 2, "what matches is handled")
    assert numbers(handler.handled) == [2, 3]


# --- when the service says no -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["GetRecords", "GetShardIterator"])
async def test_what_has_left_the_stream_is_lost_with_a_warning_and_the_rest_is_read(
    tables: Peer, hosting: MakeHosting, aws: AwsAnswers, caplog: pytest.LogCaptureFixture, operation: str
) -> None:
    table = await tables.create()
    await tables.put(table, "item", number={"N": "1"})
    host, first, second = hosting(table=table), Handler(), Handler()
    node = host.node(first)
    async with host.running(node):
        await host.until(lambda: first.handled, "it is handled")
        await host.drained(node)
    aws.refuse(operation, "TrimmedDataAccessException", "The data you are trying to access has been trimmed")
    async with host.running(host.node(second)):
        await host.until(lambda: second.handled, "the oldest is handled")
    assert aws.asked("GetShardIterator")[-1]["ShardIteratorType"] == "TRIM_HORIZON"
    assert "what had left the stream before is lost" in caplog.text


async def test_an_expired_iterator_and_too_many_reads_are_nobodys_business(
    tables: Peer, hosting: MakeHosting, aws: AwsAnswers
) -> None:
    table = await tables.create()
    await tables.put(table, "item", number={"N": "1"})
    host, handler = hosting(table=table), Handler()
    node = host.node(handler)
    aws.refuse("GetRecords", "LimitExceededException", "Too many readers", times=4)
    aws.refuse("GetRecords", "ExpiredIteratorException", "The iterator has expired")
    async with host.running(node):
        await host.until(lambda: handler.handled, "it is handled")
        aws.refuse("GetRecords", "ExpiredIteratorException", "The iterator has expired")
        await tables.put(table, "item", number={"N": "2"})
        await host.until(lambda: len(handler.handled) == 2, "it is handled")
    assert numbers(handler.handled) == [1, 2]
    assert node.status.last_error is None
    assert aws.unused == 0


@pytest.mark.parametrize("there", [True, False])
async def test_a_table_without_a_stream_says_what_to_do(tables: Peer, hosting: MakeHosting, there: bool) -> None:
    table = await tables.create(view=None) if there else "nobody-made-it"
    host = hosting(table=table)
    node = host.node(Handler())
    async with host.running(node):
        await host.until(lambda: node.status.last_error, "the operator is told")
    assert "switch its stream on, or correct `table`" in str(node.status.last_error)


async def test_a_stream_that_is_gone_says_what_to_do(hosting: MakeHosting) -> None:
    host = hosting(stream="arn:aws:dynamodb:eu-central-1:000000000000:table/orders/stream/2020-01-01T00:00:00.000")
    node = host.node(Handler())
    async with host.running(node):
        await host.until(lambda: node.status.last_error, "the operator is told")
    assert "the table orders has no such stream in eu-central-1" in str(node.status.last_error)
    assert "correct `stream`" in str(node.status.last_error)


# --- streams that no server here has ----------------------------------------------------------------------------------


class StandIn:
    """DynamoDB Streams with shards that a test says: stream -> shard -> (parent, numbers of its records, closed)."""

    def __init__(self, aws: AwsAnswers) -> None:
        self.streams: dict[str, dict[str, tuple[str | None, list[int], bool]]] = {}
        for operation in ("ListStreams", "DescribeStream", "GetShardIterator", "GetRecords"):
            aws.stand_in[operation] = getattr(self, operation)

    def arn(self, label: str) -> str:
        return f"arn:aws:dynamodb:eu-central-1:123456789012:table/orders/stream/{label}"

    def ListStreams(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The latest first, and one to a page."""
        arns = sorted(self.streams, reverse=True)
        at = arns.index(asked["ExclusiveStartStreamArn"]) + 1 if "ExclusiveStartStreamArn" in asked else 0
        page = [{"StreamArn": arn, "TableName": "orders"} for arn in arns[at : at + 1]]
        return {"Streams": page} | ({"LastEvaluatedStreamArn": arns[at]} if at + 1 < len(arns) else {})

    def DescribeStream(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Two shards to a page."""
        shards = self.streams[asked["StreamArn"]]
        names = list(shards)
        at = names.index(asked["ExclusiveStartShardId"]) + 1 if "ExclusiveStartShardId" in asked else 0
        page = [
            {"ShardId": name} | ({"ParentShardId": parent} if (parent := shards[name][0]) else {})
            for name in names[at : at + 2]
        ]
        more = {"LastEvaluatedShardId": page[-1]["ShardId"]} if at + 2 < len(names) else {}
        return {"StreamDescription": {"StreamArn": asked["StreamArn"], "Shards": page} | more}

    def GetShardIterator(self, asked: dict[str, Any]) -> dict[str, Any]:
        _, there, _ = self.streams[asked["StreamArn"]][asked["ShardId"]]
        at = {"TRIM_HORIZON": 0, "LATEST": len(there)}.get(asked["ShardIteratorType"])
        if at is None:
            at = there.index(int(asked["SequenceNumber"])) + 1
        return {"ShardIterator": f"{asked['StreamArn']} {asked['ShardId']} {at}"}

    def GetRecords(self, asked: dict[str, Any]) -> dict[str, Any]:
        stream, shard, text = asked["ShardIterator"].split(" ")
        at = int(text)
        _, there, closed = self.streams[stream][shard]
        page = there[at : at + 3]
        at += len(page)
        records = [
            {
                "eventID": str(number),
                "eventName": "INSERT",
                "eventVersion": "1.1",
                "eventSource": "aws:dynamodb",
                "awsRegion": "eu-central-1",
                "dynamodb": {
                    "ApproximateCreationDateTime": 1_700_000_000 + number,
                    "Keys": {"id": {"S": "one"}},
                    "NewImage": {"id": {"S": "one"}, "number": {"N": str(number)}},
                    "SequenceNumber": f"{number:021d}",
                    "SizeBytes": 9,
                    "StreamViewType": "NEW_IMAGE",
                },
            }
            for number in page
        ]
        ended = closed and at == len(there)
        return {"Records": records} | ({} if ended else {"NextShardIterator": f"{stream} {shard} {at}"})


def shard(number: int) -> str:
    return f"shardId-{number:020d}-{number:08x}"


@pytest.fixture
def stand_in(aws: AwsAnswers) -> StandIn:
    return StandIn(aws)


async def test_shards_roll_over_and_split_in_the_order_of_the_item(hosting: MakeHosting, stand_in: StandIn) -> None:
    arn = stand_in.arn("2026-01-01T00:00:00.000")
    stand_in.streams[arn] = {
        shard(3): (shard(2), [7, 8], False),
        shard(1): (shard(0), [1, 2, 3, 4], True),
        shard(2): (shard(1), [5, 6], True),
        shard(4): (shard(2), [], False),
    }
    host, handler = hosting(table="orders"), Handler()
    async with host.running(host.node(handler)):
        await host.until(lambda: len(handler.handled) == 8, "all is handled")
    assert numbers(handler.handled) == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_a_stream_that_is_switched_off_and_on_is_read_to_its_end_and_then_the_new_one(
    hosting: MakeHosting, stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = stand_in.arn("2026-01-01T00:00:00.000"), stand_in.arn("2026-01-02T00:00:00.000")
    stand_in.streams[old] = {shard(1): (None, [1, 2, 3], True), shard(2): (shard(1), [4], False)}
    host, handler = hosting(table="orders"), Handler()
    node = host.node(handler)
    async with host.running(node):
        await host.until(lambda: len(handler.handled) == 4, "all that there is is handled")
        stand_in.streams[old][shard(2)] = (shard(1), [4, 5, 6], True)
        stand_in.streams[new] = {shard(3): (None, [7], False)}
        await host.until(lambda: len(handler.handled) == 7, "the rest and the new is handled")
        await host.drained(node)
    assert numbers(handler.handled) == [1, 2, 3, 4, 5, 6, 7]
    assert {record["eventSourceARN"] for record in handler.handled[:6]} == {old}
    assert handler.handled[6]["eventSourceARN"] == new
    assert "has a new stream" in caplog.text
    # The old one is gone, and all its shards with it.
    del stand_in.streams[old]
    stand_in.streams[new][shard(3)] = (None, [7, 8], False)
    again = Handler()
    async with host.running(host.node(again, owner="node-2")):
        await host.until(lambda: again.handled, "it goes on")
    assert numbers(again.handled) == [8]


async def test_one_stream_is_read_when_its_arn_is_given(hosting: MakeHosting, stand_in: StandIn) -> None:
    old, new = stand_in.arn("2026-01-01T00:00:00.000"), stand_in.arn("2026-01-02T00:00:00.000")
    stand_in.streams[old] = {shard(1): (None, [1], True)}
    stand_in.streams[new] = {shard(2): (None, [2], False)}
    host, handler = hosting(stream=new), Handler()
    async with host.running(host.node(handler)):
        await host.until(lambda: handler.handled, "it is handled")
    assert numbers(handler.handled) == [2]


async def test_what_is_older_than_a_time_is_passed_over(aws: AwsAnswers, stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.streams[stand_in.arn("2026")] = {shard(1): (None, list(range(10)), True)}
    clock = FakeClock()
    trigger = DynamodbTrigger(
        DynamodbTrigger.Settings(table="orders"), reached(aws.url), trigger_context(tmp_path, clock=clock)
    )
    await trigger.connect()
    try:
        # Times are whole seconds: what came within the same one may have come later.
        reader = await trigger.open_shard(Shard(shard(1)), Start("AT_TIMESTAMP", (1_700_000_000 + 4) * 1000 + 999))
        found: list[str] = []
        while True:
            reading = asyncio.ensure_future(reader.read(100))
            while not reading.done():
                await clock.advance(1)
                await asyncio.sleep(0.002)
            if not (records := reading.result().records):
                break
            found += [record.id for record in records]
        assert [int(each) for each in found] == [4, 5, 6, 7, 8, 9]
        with pytest.raises(ConnectorError, match="has left the stream"):
            await trigger.open_shard(Shard(shard(0)), Start("TRIM_HORIZON"))
    finally:
        await trigger.close(1)

"""What the conformance suite does not ask of the destination: sizes, shards, records that are refused one by one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from eventfn.destination import WRITTEN, OutgoingRecord, Rejected, RetryAfter
from eventfn.testing import destination_context
from eventfn_aws.kinesis import KinesisDestination
from eventfn_aws.kinesis.destination import requests
from tests.connectors.aws_kinesis.conftest import REGION, Peer
from tests.servers.aws_answers import AwsAnswers
from tests.servers.process import HttpServer

MB = 1024 * 1024
Open = Callable[..., Awaitable[KinesisDestination]]


def entry(size: int, key: str = "k") -> dict[str, Any]:
    return {"Data": bytes(size - len(key)), "PartitionKey": key}


@pytest.mark.parametrize(
    ("sizes", "sent"),
    [
        ([], []),
        ([10] * 500, [500]),
        ([10] * 1201, [500, 500, 201]),
        ([MB] * 5, [5]),
        ([MB] * 11, [5, 5, 1]),
        ([10, MB + 1, 10, 10], [1, 1, 2]),
        ([MB + 1], [1]),
        ([MB + 1, MB + 1, 10], [1, 1, 1]),
    ],
)
def test_what_is_sent_together(sizes: list[int], sent: list[int]) -> None:
    entries = [entry(size) for size in sizes]
    made = list(requests(entries))
    assert [len(request) for request in made] == sent
    assert [each for request in made for each in request] == entries, "in their order"


@pytest_asyncio.fixture
async def aws(kinesalite_server: HttpServer) -> AsyncIterator[AwsAnswers]:
    async with AwsAnswers(kinesalite_server.url) as answers:
        yield answers


@pytest_asyncio.fixture
async def opened(aws: AwsAnswers, tmp_path: Path) -> AsyncIterator[Open]:
    made: list[KinesisDestination] = []

    async def opened(stream: str, **settings: Any) -> KinesisDestination:
        chosen = KinesisDestination.Settings(
            region=REGION, endpoint_url=aws.url, access_key_id="test", secret_access_key="test", **settings
        )
        destination = KinesisDestination(stream, chosen, destination_context(tmp_path))
        await destination.connect()
        made.append(destination)
        return destination

    yield opened
    for destination in made:
        await destination.close(1)


def records(count: int, function: str = "hello") -> list[OutgoingRecord]:
    origin = {"eventfn.origin": f"fn:{function}"}
    return [OutgoingRecord(f"{function}-{number}", str(number).encode(), origin) for number in range(count)]


async def test_what_kinesis_refuses_of_a_request_is_tried_again_and_the_rest_is_not(
    kinesis: Peer, aws: AwsAnswers, opened: Open
) -> None:
    destination = await opened(await kinesis.create())
    taken = {"SequenceNumber": "1", "ShardId": "shardId-000000000000"}
    slow = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded for shard"}
    aws.answer("PutRecords", {"FailedRecordCount": 1, "Records": [taken, slow, taken]})
    first, second, third = await destination.write(records(3))
    assert (first, third) == (WRITTEN, WRITTEN)
    assert isinstance(second, RetryAfter)
    assert second.reason == "ProvisionedThroughputExceededException: Rate exceeded for shard"


async def test_what_comes_behind_a_refused_request_waits_for_it(kinesis: Peer, aws: AwsAnswers, opened: Open) -> None:
    stream = await kinesis.create()
    destination = await opened(stream)
    # The client tries it once more by itself.
    aws.refuse("PutRecords", "ProvisionedThroughputExceededException", "Rate exceeded", times=2)
    answers = await destination.write(records(1100))
    assert len(answers) == 1100
    assert all(isinstance(answer, RetryAfter) for answer in answers)
    assert await kinesis.read_all(stream) == []
    assert await destination.write(records(1100)) == [WRITTEN] * 1100
    assert await kinesis.read_all(stream) == [str(number).encode() for number in range(1100)]


@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
async def test_a_record_that_no_stream_takes_leaves_the_others_alone(kinesis: Peer, opened: Open) -> None:
    destination = await opened(await kinesis.create())
    big = OutgoingRecord("big", b"x" * (MB + 1))
    first, second, third = await destination.write([*records(1), big, *records(1)])
    assert (first, third) == (WRITTEN, WRITTEN)
    assert isinstance(second, Rejected)


async def test_a_stream_that_is_not_there_may_come(opened: Open) -> None:
    (answer,) = await (await opened("nobody-made-it")).write(records(1))
    assert isinstance(answer, RetryAfter)
    assert "ResourceNotFoundException" in answer.reason


@pytest.mark.parametrize(("partition_key", "keys"), [("id", 40), ("origin", 2)])
async def test_by_what_records_are_spread_over_shards(
    kinesis: Peer, aws: AwsAnswers, opened: Open, partition_key: str, keys: int
) -> None:
    stream = await kinesis.create(shards=4)
    destination = await opened(stream, partition_key=partition_key)
    assert await destination.write(records(20, "one") + records(20, "two")) == [WRITTEN] * 40
    (asked,) = aws.asked("PutRecords")
    assert len({each["PartitionKey"] for each in asked["Records"]}) == keys

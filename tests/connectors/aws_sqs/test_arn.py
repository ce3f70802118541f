"""`arn:aws:...` as a destination: which service does the work, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from eventfn.destination import OutgoingRecord, Rejected, RetryAfter, Written
from eventfn.errors import EngineFull, Throttled
from eventfn.testing import DestinationSuite, destination_context
from eventfn.testing.contexts import Submissions
from eventfn_aws import ArnDestination
from eventfn_aws.client import AwsSettings
from tests.servers.aws import Servers
from tests.servers.sqs import Queue

QUEUE = "aws:sqs:eu-west-1:123456789012:jobs"
FUNCTION = "aws:lambda:eu-west-1:123456789012:function:hello"


class TestArnOfAQueue(DestinationSuite):
    destination = ArnDestination
    scheme = "arn"
    has_sample = False
    nonsense = ("", "aws", "aws:sqs:eu-west-1:123456789012:", "aws:sqs:eu-west-1:123456789012:a b")

    @pytest_asyncio.fixture(autouse=True)
    async def _queue(self, host: None, servers: Servers) -> AsyncIterator[None]:
        async with Queue.on(servers, "ministack") as self.queue:
            self.target = (await self.queue.arn(self.queue.url)).removeprefix("arn:")
            yield

    def settings(self) -> AwsSettings:
        return self.queue.settings

    async def received(self) -> list[Any]:
        return [msgspec.json.decode(message["Body"]) for message in await self.queue.received()]

    async def numbers(self) -> list[int]:
        return sorted(await super().numbers())  # a standard queue promises no order

    async def refuse(self) -> None:
        await self.queue.proxy.refuse()

    async def accept(self) -> None:
        await self.queue.proxy.accept()


@pytest.mark.parametrize(
    "target",
    [
        QUEUE,
        f"{QUEUE}.fifo",
        "aws:sns:eu-west-1:123456789012:alerts",
        "aws:kinesis:eu-west-1:123456789012:stream/orders",
        "aws:s3:::bucket",
        "aws-cn:sqs:cn-north-1:123456789012:jobs",
        FUNCTION,
    ],
)
def test_it_takes_what_a_service_takes(target: str, tmp_path: Path) -> None:
    assert ArnDestination.check(target, AwsSettings()) is None
    ArnDestination(target, AwsSettings(), destination_context(tmp_path))


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("aws:sqs", "expected an ARN such as"),
        ("aws:events:eu-west-1:123456789012:event-bus/default", "expected kinesis, s3, sns, sqs or lambda"),
        ("aws:sqs:eu-west-1:123456789012:two words", "expected a queue's name"),
        ("aws:sns:eu-west-1:123456789012:two words", "expected a topic's name"),
        (f"{FUNCTION}:prod", "without a version"),
        ("aws:lambda:eu-west-1:123456789012:layer:x", "the ARN of a function"),
    ],
)
def test_it_refuses_what_no_service_takes(target: str, why: str) -> None:
    assert why in (ArnDestination.check(target, AwsSettings()) or "")


async def test_a_function_of_the_project_is_submitted_to(tmp_path: Path) -> None:
    submissions = Submissions()
    sending = ArnDestination(FUNCTION, AwsSettings(), destination_context(tmp_path, submissions=submissions))
    await sending.connect()
    records = [OutgoingRecord("1", b"{}"), OutgoingRecord("1", b"{}"), OutgoingRecord("2", b"[]")]
    assert await sending.write(records) == [Written()] * 3
    assert submissions.events == [("hello", b"{}"), ("hello", b"[]")]
    submissions.refusal = Throttled("full", 3)
    assert await sending.write([OutgoingRecord("3", b"{}")]) == [RetryAfter("hello is throttled: full", 3)]
    submissions.refusal = EngineFull("no space left")
    assert await sending.write([OutgoingRecord("3", b"{}")]) == [RetryAfter("no space left")]
    submissions.refusal, submissions.functions = None, []
    (answer,) = await sending.write([OutgoingRecord("3", b"{}")])
    assert isinstance(answer, Rejected)
    await sending.close(5)

"""The conformance suite over the servers that have SNS, seen through a queue that is subscribed to the topic."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import msgspec
import pytest_asyncio

from eventfn.destination import OutgoingRecord
from eventfn.testing import DestinationSuite
from eventfn_aws.client import AwsSettings
from eventfn_aws.sns import SnsDestination
from tests.servers import aws
from tests.servers.aws import Servers
from tests.servers.sqs import Queue


class SnsDestinationSuite(DestinationSuite):
    destination = SnsDestination
    scheme = "sns"
    nonsense = ("", "two words", "a/b", "alerts.fifo.fifo", "arn:aws:sqs:eu-west-1:1:queue", "arn:aws:sns:eu-west-1::a")
    largest = 256 * 1024
    too_large = largest
    server: ClassVar[str]
    fifo: ClassVar[bool] = False

    @pytest_asyncio.fixture(autouse=True)
    async def _topic(self, host: None, servers: Servers) -> AsyncIterator[None]:
        running = servers.get(self.server)
        async with (
            Queue.on(servers, self.server, fifo=self.fifo) as self.queue,
            aws.client("sns", running.url) as client,
        ):
            self.target = f"alerts-{uuid.uuid4().hex[:8]}" + (".fifo" if self.fifo else "")
            attributes = {"FifoTopic": "true"} if self.fifo else {}
            made = await client.call("create_topic", Name=self.target, Attributes=attributes)
            self.arn = made["TopicArn"]
            self.elsewhere = f"other-{self.target}"
            await client.call("create_topic", Name=self.elsewhere, Attributes=attributes)
            await client.call(
                "subscribe",
                TopicArn=self.arn,
                Protocol="sqs",
                Endpoint=await self.queue.arn(self.queue.url),
                Attributes={"RawMessageDelivery": "true"},
            )
            yield

    def settings(self) -> AwsSettings:
        return self.queue.settings

    async def received(self) -> list[Any]:
        return [msgspec.json.decode(message["Body"]) for message in await self.queue.received()]

    async def numbers(self) -> list[int]:
        numbers = await super().numbers()
        return numbers if self.fifo else sorted(numbers)  # a standard topic promises no order

    async def refuse(self) -> None:
        await self.queue.proxy.refuse()

    async def accept(self) -> None:
        await self.queue.proxy.accept()

    async def test_a_topic_may_be_an_arn(self) -> None:
        self.target = self.arn
        await self.write(await self.opened(), self.record(1))
        assert await self.numbers() == [1]

    async def test_attributes_go_with_a_record(self) -> None:
        attributes = {"RequestID": "r", "ErrorCode": "200", "ErrorMessage": "no", "eventfn.origin": "fn:f"}
        await self.write(await self.opened(), OutgoingRecord("1", b"{}", attributes))
        (message,) = await self.queue.received()
        assert {
            name: (each["DataType"], each["StringValue"]) for name, each in message["MessageAttributes"].items()
        } == {
            "RequestID": ("String", "r"),
            "ErrorCode": ("Number", "200"),
            "ErrorMessage": ("String", "no"),
        }


class TestSnsDestinationOnMoto(SnsDestinationSuite):
    server = "moto"


class TestSnsDestinationOnMinistack(SnsDestinationSuite):
    server = "ministack"


class TestFifoDestinationOnMinistack(SnsDestinationSuite):
    server = "ministack"
    fifo = True

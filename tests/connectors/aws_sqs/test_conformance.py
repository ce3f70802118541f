"""Both conformance suites, over every server that has SQS.

Where the servers differ from AWS: moto and MiniStack go on with a long poll whose client has gone, and what it
receives is hidden for the queue's timeout; so the queues here have a short one. ElasticMQ takes no message above
256 KB, AWS's limit until 2025. moto is too slow with FIFO queues for hundreds of messages.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import msgspec
import pytest
import pytest_asyncio

from eventfn.event import Record
from eventfn.testing import DestinationSuite, TriggerSuite
from eventfn_aws.client import AwsSettings
from eventfn_aws.sqs import SqsDestination, SqsTrigger
from tests.servers.aws import Servers
from tests.servers.sqs import Queue


class SqsTriggerSuite(TriggerSuite):
    trigger = SqsTrigger
    name = "sqs"
    nonsense = ({}, {"queue": "two words"}, {"queue": "jobs", "visibility_timeout": 0}, {"queue": "jobs", "url": "x"})
    outside = True
    server: ClassVar[str]
    fifo: ClassVar[bool] = False

    @pytest_asyncio.fixture(autouse=True)
    async def _queue(self, host: None, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
        if not self.fifo:  # a standard queue promises no order
            monkeypatch.setattr(SqsTrigger, "traits", msgspec.structs.replace(SqsTrigger.traits, ordered=False))
        self.began = time.monotonic()
        async with Queue.on(servers, self.server, fifo=self.fifo, dead_letters=50) as self.queue:
            yield

    def settings(self) -> Any:
        return SqsTrigger.Settings(queue=self.queue.name)

    def shared(self) -> AwsSettings:
        return self.queue.settings

    async def elsewhere(self) -> Any:
        name = f"other-{uuid.uuid4().hex[:8]}" + (".fifo" if self.fifo else "")
        await self.queue.make(name, {"FifoQueue": "true"} if self.fifo else {})
        return SqsTrigger.Settings(queue=name)

    async def put(self, number: int) -> None:
        await self.queue.send(str(number))
        await self.pass_time()  # hundreds take a busy machine as long as what was read stays invisible

    def number(self, record: Record) -> int:
        return int(msgspec.json.decode(record.payload)["body"])

    async def pass_time(self) -> None:
        """The server counts visibility on a real clock, and the host's goes along."""
        await self.clock.advance(time.monotonic() - self.began - self.clock.monotonic())

    async def lapse(self) -> None:
        await self.queue.all_visible()

    async def refuse(self) -> None:
        await self.queue.proxy.refuse()

    async def accept(self) -> None:
        await self.queue.proxy.accept()


class TestSqsTriggerOnMoto(SqsTriggerSuite):
    server = "moto"

    async def test_what_comes_while_nobody_reads_waits_outside(self) -> None:
        pytest.skip("moto looks at every message for each one that is sent: hundreds take a minute")

    async def test_a_slow_function_holds_back_the_reading(self) -> None:
        pytest.skip("moto looks at every message for each one that is sent: hundreds take a minute")


class SqsDestinationSuite(DestinationSuite):
    destination = SqsDestination
    scheme = "sqs"
    nonsense = ("", "two words", "a/b", "x" * 81, "jobs.fifo.fifo", "http://", "arn:aws:sns:eu-west-1:1:topic")
    too_large = 1024 * 1024
    server: ClassVar[str]
    fifo: ClassVar[bool] = False

    @pytest_asyncio.fixture(autouse=True)
    async def _queue(self, host: None, servers: Servers) -> AsyncIterator[None]:
        async with Queue.on(servers, self.server, fifo=self.fifo) as self.queue:
            self.target = self.queue.name
            self.elsewhere = f"other-{self.queue.name}"
            await self.queue.make(self.elsewhere, {"FifoQueue": "true"} if self.fifo else {})
            yield

    def settings(self) -> AwsSettings:
        return self.queue.settings

    async def received(self) -> list[Any]:
        return [msgspec.json.decode(message["Body"]) for message in await self.queue.received()]

    async def numbers(self) -> list[int]:
        numbers = await super().numbers()
        return numbers if self.fifo else sorted(numbers)  # a standard queue promises no order

    async def refuse(self) -> None:
        await self.queue.proxy.refuse()

    async def accept(self) -> None:
        await self.queue.proxy.accept()


class TestSqsDestinationOnMoto(SqsDestinationSuite):
    server = "moto"

    async def test_the_outbox_is_delivered_in_its_order(self) -> None:
        pytest.skip("moto looks at every message for each one that is sent: hundreds take a minute")


class TestFifoTriggerOnMinistack(SqsTriggerSuite):
    server = "ministack"
    fifo = True


class TestSqsDestinationOnMinistack(SqsDestinationSuite):
    server = "ministack"


class TestSqsTriggerOnElasticmq(SqsTriggerSuite):
    server = "elasticmq"


class TestFifoTriggerOnElasticmq(SqsTriggerSuite):
    server = "elasticmq"
    fifo = True


class TestFifoDestinationOnElasticmq(SqsDestinationSuite):
    server = "elasticmq"
    fifo = True
    largest = 256 * 1024

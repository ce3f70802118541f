"""Both conformance suites, over every server that has S3, and for every way to hear of objects."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import msgspec
import pytest
import pytest_asyncio

from eventfn.testing import DestinationSuite, TriggerSuite
from eventfn.units import Duration
from eventfn_aws.client import AwsSettings
from eventfn_aws.s3 import S3Destination, S3Trigger
from eventfn_aws.s3.destination import S3DestinationSettings
from eventfn_aws.s3.settings import S3Settings, S3Shared
from tests.connectors.aws_s3.store import store
from tests.servers.aws import Servers
from tests.servers.process import free_port
from tests.servers.s3 import Bucket
from tests.servers.sqs import Queue


class ListingSuite(TriggerSuite):
    trigger = S3Trigger
    name = "s3"
    outside = True
    nonsense = (
        {},
        {"bucket": "My Photos"},
        {"bucket": "photos", "events": []},
        {"bucket": "photos", "events": ["Created"]},
        {"bucket": "photos", "events": ["ObjectCreated:Copy"]},
        {"bucket": "photos", "every": "0s"},
        {"bucket": "photos", "queue": "jobs"},
    )
    server: ClassVar[str]

    @pytest_asyncio.fixture(autouse=True)
    async def _bucket(self, host: None, servers: Servers) -> AsyncIterator[None]:
        async with Bucket.on(servers, self.server) as self.bucket:
            yield

    def settings(self) -> S3Settings:
        return S3Settings(bucket=self.bucket.name, prefix="in/", suffix=".jpg", every=Duration(1))

    def shared(self) -> S3Shared:
        return S3Shared(**msgspec.structs.asdict(self.bucket.settings))

    async def elsewhere(self) -> S3Settings:
        return S3Settings(bucket=await self.bucket.make(), every=Duration(1))

    async def put(self, number: int) -> None:
        await self.bucket.put(f"in/{number}.jpg")

    async def refuse(self) -> None:
        await self.bucket.proxy.refuse()

    async def accept(self) -> None:
        await self.bucket.proxy.accept()


class TestListingOnMoto(ListingSuite):
    server = "moto"

    async def test_what_comes_while_nobody_reads_waits_outside(self) -> None:
        pytest.skip("moto takes its time for each object: MiniStack has the hundreds")

    async def test_a_slow_function_holds_back_the_reading(self) -> None:
        pytest.skip("moto takes its time for each object: MiniStack has the hundreds")


class QueueSuite(TriggerSuite):
    trigger = S3Trigger
    name = "s3"
    outside = True
    nonsense = (
        {"notifications": "queue"},
        {"notifications": "queue", "queue": "two words"},
        {"notifications": "queue", "queue": "jobs.fifo"},
        {"notifications": "queue", "queue": "jobs", "every": "1m"},
        {"notifications": "queue", "queue": "jobs", "path": "/"},
        {"notifications": "queue", "queue": "jobs", "events": ["TestEvent"]},
    )
    server: ClassVar[str]

    @pytest_asyncio.fixture(autouse=True)
    async def _bucket(self, host: None, servers: Servers) -> AsyncIterator[None]:
        self.began = time.monotonic()
        async with Bucket.on(servers, self.server) as self.bucket, Queue.on(servers, self.server) as self.queue:
            await self.bucket.tell(await self.queue.arn(self.queue.url))
            yield

    def settings(self) -> S3Settings:
        return S3Settings(notifications="queue", queue=self.queue.name, bucket=self.bucket.name)

    def shared(self) -> S3Shared:
        return S3Shared(**msgspec.structs.asdict(self.queue.settings))

    async def elsewhere(self) -> S3Settings:
        name = f"other-{self.queue.name}"
        await self.queue.make(name, {})
        return S3Settings(notifications="queue", queue=name)

    async def put(self, number: int) -> None:
        await self.bucket.put(f"in/{number}.jpg")
        await self.pass_time()  # hundreds take a busy machine as long as what was read stays invisible

    async def pass_time(self) -> None:
        """The server counts visibility on a real clock, and the host's goes along."""
        await self.clock.advance(time.monotonic() - self.began - self.clock.monotonic())

    async def refuse(self) -> None:
        await self.queue.proxy.refuse()

    async def accept(self) -> None:
        await self.queue.proxy.accept()


class TestQueueOnMoto(QueueSuite):
    server = "moto"

    async def test_what_comes_while_nobody_reads_waits_outside(self) -> None:
        pytest.skip("moto looks at every message for each one that is sent: hundreds take a minute")

    async def test_a_slow_function_holds_back_the_reading(self) -> None:
        pytest.skip("moto looks at every message for each one that is sent: hundreds take a minute")


class TestWebhook(TriggerSuite):
    trigger = S3Trigger
    name = "s3"
    nonsense = (
        {"notifications": "webhook", "path": "photos"},
        {"notifications": "webhook", "path": "/a b"},
        {"notifications": "webhook", "queue": "jobs"},
        {"notifications": "webhook", "existing": "skip"},
        {"notifications": "webhook", "events": ["s3:ObjectCreated:*"]},
    )

    @pytest_asyncio.fixture(autouse=True)
    async def _store(self, host: None) -> AsyncIterator[None]:
        self.listen = f"127.0.0.1:{free_port()}"
        async with store(f"http://{self.listen}/photos", "guess me") as self.store:
            yield

    def settings(self) -> S3Settings:
        return S3Settings(notifications="webhook", path="/photos", bucket="photos")

    def shared(self) -> S3Shared:
        return S3Shared(listen=self.listen, webhook_token="guess me")

    async def elsewhere(self) -> S3Settings:
        return S3Settings(notifications="webhook", path="/other")

    async def put(self, number: int) -> None:
        self.store.put(f"in/{number}.jpg")


class S3DestinationSuite(DestinationSuite):
    destination = S3Destination
    scheme = "s3"
    nonsense = ("", "bucket", "//", "//A/b", "//two words", "//a..b", "//-a-", "//photos/a\nb")
    server: ClassVar[str]

    @pytest_asyncio.fixture(autouse=True)
    async def _bucket(self, host: None, servers: Servers) -> AsyncIterator[None]:
        async with Bucket.on(servers, self.server) as self.bucket:
            self.target = f"//{self.bucket.name}/failed"
            self.elsewhere = f"//{await self.bucket.make()}"
            yield

    def settings(self) -> AwsSettings:
        return S3DestinationSettings(**msgspec.structs.asdict(self.bucket.settings))

    async def received(self) -> list[Any]:
        return [msgspec.json.decode((await self.bucket.get(key))[0]) for key in await self.bucket.keys()]

    async def numbers(self) -> list[int]:
        return sorted(await super().numbers())  # a bucket knows no order

    async def refuse(self) -> None:
        await self.bucket.proxy.refuse()

    async def accept(self) -> None:
        await self.bucket.proxy.accept()


class TestS3DestinationOnMoto(S3DestinationSuite):
    server = "moto"


class TestListingOnMinistack(ListingSuite):
    server = "ministack"


class TestQueueOnMinistack(QueueSuite):
    server = "ministack"


class TestS3DestinationOnMinistack(S3DestinationSuite):
    server = "ministack"

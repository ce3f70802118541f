"""A bucket of S3 for one test: reached directly by the test, and through a proxy by the connector."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from urllib.parse import quote

import aiohttp

from eventfn_aws.client import AwsSettings, Client
from tests.servers import aws
from tests.servers.aws import REGION, Servers
from tests.servers.proxy import Proxy

# Tests put hundreds of objects. This is all that the servers want to see of a signature, and costs no time.
_HEADERS = {
    "Authorization": f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/s3/aws4_request, "
    "SignedHeaders=host, Signature=0",
    "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
}


class Bucket:
    def __init__(self, client: Client, http: aiohttp.ClientSession, server: str, proxy: Proxy) -> None:
        self.client = client
        self.proxy = proxy
        self._http = http
        self._server = server
        self.name = ""

    @property
    def settings(self) -> AwsSettings:
        return aws.settings(f"http://{self.proxy.host}:{self.proxy.port}")

    @classmethod
    @contextlib.asynccontextmanager
    async def on(cls, servers: Servers, server: str) -> AsyncGenerator[Bucket]:
        running = servers.get(server)
        async with (
            Proxy(running.host, running.port) as proxy,
            aws.client("s3", running.url) as client,
            aiohttp.ClientSession() as http,
        ):
            bucket = cls(client, http, running.url, proxy)
            bucket.name = await bucket.make()
            yield bucket

    async def make(self, name: str | None = None) -> str:
        name = name or f"photos-{uuid.uuid4().hex[:8]}"
        await self.client.call("create_bucket", Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name

    async def tell(self, queue_arn: str, *events: str) -> None:
        """From now on the queue is told of what happens here."""
        told = {"QueueArn": queue_arn, "Events": list(events or ("s3:ObjectCreated:*", "s3:ObjectRemoved:*"))}
        await self._tell({"QueueConfigurations": [told]})

    async def tell_topic(self, topic_arn: str) -> None:
        await self._tell({"TopicConfigurations": [{"TopicArn": topic_arn, "Events": ["s3:ObjectCreated:*"]}]})

    async def _tell(self, configuration: dict[str, Any]) -> None:
        await self.client.call(
            "put_bucket_notification_configuration", Bucket=self.name, NotificationConfiguration=configuration
        )

    async def tag(self, key: str) -> None:
        tags = {"TagSet": [{"Key": "kind", "Value": "photo"}]}
        await self.client.call("put_object_tagging", Bucket=self.name, Key=key, Tagging=tags)

    async def put(self, key: str, body: bytes = b"x") -> None:
        await self._request("PUT", key, body)

    async def put_all(self, keys: Sequence[str]) -> None:
        left = deque(keys)

        async def put() -> None:
            while left:
                await self.put(left.popleft())

        await asyncio.gather(*(put() for _ in range(16)))

    async def delete(self, key: str) -> None:
        await self._request("DELETE", key)

    async def _request(self, method: str, key: str, body: bytes | None = None) -> None:
        url = f"{self._server}/{self.name}/{quote(key)}"
        async with self._http.request(method, url, data=body, headers=_HEADERS) as answer:
            assert answer.ok, await answer.text()

    async def keys(self) -> list[str]:
        return [each["Key"] for each in await self.objects()]

    async def objects(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        more: dict[str, Any] = {}
        while True:
            page = await self.client.call("list_objects_v2", Bucket=self.name, **more)
            found += page.get("Contents", [])
            if not page["IsTruncated"]:
                return found
            more = {"ContinuationToken": page["NextContinuationToken"]}

    async def get(self, key: str) -> tuple[bytes, str]:
        """Its content, and the type of it."""
        answer = await self.client.call("get_object", Bucket=self.name, Key=key)
        async with answer["Body"] as body:
            return await body.read(), answer["ContentType"]

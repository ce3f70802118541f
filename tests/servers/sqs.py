"""A queue of SQS for one test: reached directly by the test, and through a proxy by the connector."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import msgspec

from eventfn_aws.client import AwsSettings, Client
from tests.servers import aws
from tests.servers.aws import REGION, Servers
from tests.servers.proxy import Proxy
from tests.support import until

VISIBILITY = 2  # seconds: the servers count them on a real clock

# Tests send hundreds of messages. This is all that the servers want to see of a signature, and costs no time.
_HEADERS = {
    "Content-Type": "application/x-amz-json-1.0",
    "X-Amz-Target": "AmazonSQS.SendMessage",
    "Authorization": f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/sqs/aws4_request, "
    "SignedHeaders=host, Signature=0",
}


class Queue:
    def __init__(self, client: Client, http: aiohttp.ClientSession, server: str, proxy: Proxy) -> None:
        self.client = client
        self.proxy = proxy
        self._http = http
        self._server = server
        self.name = ""
        self.url = ""
        self.dead_url = ""

    @property
    def settings(self) -> AwsSettings:
        return aws.settings(f"http://{self.proxy.host}:{self.proxy.port}")

    @classmethod
    @contextlib.asynccontextmanager
    async def on(
        cls, servers: Servers, server: str, *, fifo: bool = False, dead_letters: int | None = None
    ) -> AsyncGenerator[Queue]:
        """`dead_letters`: its maxReceiveCount. The queue for them is NAME-dead."""
        running = servers.get(server)
        async with (
            Proxy(running.host, running.port) as proxy,
            aws.client("sqs", running.url) as client,
            aiohttp.ClientSession() as http,
        ):
            queue = cls(client, http, running.url, proxy)
            name, suffix = f"jobs-{uuid.uuid4().hex[:8]}", ".fifo" if fifo else ""
            attributes = {"VisibilityTimeout": str(VISIBILITY)} | ({"FifoQueue": "true"} if fifo else {})
            if dead_letters is not None:
                dead = await queue.make(f"{name}-dead{suffix}", attributes)
                policy = {"deadLetterTargetArn": await queue.arn(dead), "maxReceiveCount": str(dead_letters)}
                attributes |= {"RedrivePolicy": msgspec.json.encode(policy).decode()}
                queue.dead_url = dead
            queue.name = name + suffix
            queue.url = await queue.make(queue.name, attributes)
            yield queue

    async def make(self, name: str, attributes: dict[str, str]) -> str:
        made = await self.client.call("create_queue", QueueName=name, Attributes=attributes)
        url: str = made["QueueUrl"]
        return url

    async def arn(self, url: str) -> str:
        arn: str = (await self.attributes(url))["QueueArn"]
        return arn

    async def attributes(self, url: str | None = None) -> dict[str, str]:
        answer = await self.client.call("get_queue_attributes", QueueUrl=url or self.url, AttributeNames=["All"])
        said: dict[str, str] = answer["Attributes"]
        return said

    async def send(self, body: str, **more: Any) -> str:
        """The message's id."""
        if self.name.endswith(".fifo"):
            more = {"MessageGroupId": "g", "MessageDeduplicationId": uuid.uuid4().hex} | more
        payload = msgspec.json.encode({"QueueUrl": self.url, "MessageBody": body, **more})
        async with self._http.post(self._server, data=payload, headers=_HEADERS) as answer:
            text = await answer.read()
            assert answer.ok, text
            sent: str = msgspec.json.decode(text)["MessageId"]
            return sent

    async def received(self, url: str | None = None) -> list[dict[str, Any]]:
        """All that is there, each once; afterwards it is hidden, and in a FIFO queue gone."""
        url = url or self.url
        messages: list[dict[str, Any]] = []
        while True:
            answer = await self.client.call(
                "receive_message",
                QueueUrl=url,
                MaxNumberOfMessages=10,
                VisibilityTimeout=600,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            )
            if not answer.get("Messages"):
                return messages
            messages += answer["Messages"]
            if url.endswith(".fifo"):  # a group gives no more before these are gone
                for message in answer["Messages"]:
                    await self.client.call("delete_message", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    async def all_visible(self) -> None:
        """Returns when nothing is hidden any more."""

        async def visible() -> bool:
            return (await self.attributes())["ApproximateNumberOfMessagesNotVisible"] == "0"

        await until(visible, "all messages are visible again")

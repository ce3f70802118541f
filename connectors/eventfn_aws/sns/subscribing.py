"""Subscribes this node's endpoint to topics, until it has succeeded. Nothing is unsubscribed: while a node is down, SNS
keeps trying, and a node that never comes back is for its operator to take away."""

from __future__ import annotations

import asyncio

from eventfn.errors import ConnectorError
from eventfn.trigger import ListenContext
from eventfn_aws.arns import Arn
from eventfn_aws.client import AwsSettings, Client

_FIRST_PAUSE = 1.0  # seconds; doubled after each failure
_LONGEST_PAUSE = 60.0


class Subscriber:
    def __init__(self, settings: AwsSettings, public_url: str, context: ListenContext) -> None:
        self.wanted: set[tuple[str, str]] = set()  # (path, topic ARN)
        self._settings = settings
        self._public_url = public_url.rstrip("/")
        self._clock = context.clock
        self._log = context.log
        self._done: set[tuple[str, str]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """What is wanted now and was not before."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="sns subscriptions")

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while left := self.wanted - self._done:
            failed = False
            for path, topic in sorted(left):
                try:
                    await self._subscribe(path, topic)
                    self._done.add((path, topic))
                except ConnectorError as error:
                    failed = True
                    self._log.warning("cannot subscribe to %s, trying again in %g s: %s", topic, pause, error)
            if failed:
                await self._clock.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _subscribe(self, path: str, topic: str) -> None:
        """SNS answers with the subscription that there is, if it is the same; else it asks the endpoint to confirm."""
        arn = Arn.parse(topic)
        client = Client("sns", self._settings, region=arn.region if arn else None)
        await client.open()
        try:
            protocol = self._public_url.partition(":")[0]
            await client.call("subscribe", TopicArn=topic, Protocol=protocol, Endpoint=self._public_url + path)
        finally:
            await client.close()

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

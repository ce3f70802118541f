"""One queue of a server: found by its name, and asked by its URL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from eventfn.errors import ConnectorError
from eventfn_aws.batch import Failed, in_one_call
from eventfn_aws.client import AwsError, AwsSettings, Client
from eventfn_aws.sqs.names import QueueName

_GONE = ("NonExistentQueue", "QueueDoesNotExist")  # the older code, and the newer


class Queue:
    def __init__(self, name: QueueName, settings: AwsSettings, default_region: str | None = None) -> None:
        self.name = name
        if settings.endpoint_url is None and name.endpoint is not None:
            settings = msgspec.structs.replace(settings, endpoint_url=name.endpoint)
        self.client = Client("sqs", settings, region=name.region, default_region=default_region)
        self._url = name.url

    async def open(self) -> None:
        """Raises ConnectorError."""
        await self.client.open()
        if self._url is None:
            owner = {} if self.name.account is None else {"QueueOwnerAWSAccountId": self.name.account}
            try:
                self._url = (await self.client.call("get_queue_url", QueueName=self.name.name, **owner))["QueueUrl"]
            except AwsError as error:
                if error.code in _GONE:
                    raise ConnectorError(
                        f"there is no queue {self.name.name} in {self.client.region}: create it, or correct its name"
                    ) from error
                raise

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        return await self.client.call(operation, QueueUrl=self._url, **parameters)

    async def each(self, operation: str, entries: Sequence[Mapping[str, Any]]) -> list[Failed | None]:
        """A ...Batch operation, for at most ten."""
        return await in_one_call(self.client, operation, "Entries", entries, QueueUrl=self._url)

    async def attributes(self, *names: str) -> dict[str, str]:
        answer = await self.call("get_queue_attributes", AttributeNames=list(names))
        attributes: dict[str, str] = answer.get("Attributes") or {}
        return attributes

    async def close(self) -> None:
        await self.client.close()

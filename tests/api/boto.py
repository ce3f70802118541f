"""boto3's clients as the tests have them: any key, and no second try, so that each error is seen."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

REGION = "us-east-1"


def boto_client(
    service: str,
    url: str,
    region: str = REGION,
    *,
    access_key_id: str = "test",
    secret_access_key: str = "secret",
    **config: Any,
) -> Any:
    made: Any = boto3  # without types
    return made.client(
        service,
        endpoint_url=url,
        region_name=region,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=60, **config),
    )


class Api:
    """Lambda's, each call in a thread. `await api("get_policy", FunctionName="f")`: the answer without its metadata."""

    def __init__(
        self, url: str, region: str = REGION, *, access_key_id: str = "test", secret_access_key: str = "secret"
    ) -> None:
        self.client: Any = boto_client(
            "lambda", url, region, access_key_id=access_key_id, secret_access_key=secret_access_key
        )

    async def __call__(self, operation: str, **given: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await asyncio.to_thread(getattr(self.client, operation), **given)
        answer.pop("ResponseMetadata")
        return answer

    async def refused(self, operation: str, **given: Any) -> tuple[str, str]:
        """The code and the message of the error that it is answered with."""
        with pytest.raises(ClientError) as told:
            await self(operation, **given)
        error = told.value.response["Error"]
        return error["Code"], error["Message"]

    async def wait(self, waiter: str, **given: Any) -> None:
        quickly = {"Delay": 0.05, "MaxAttempts": 600}
        await asyncio.to_thread(self.client.get_waiter(waiter).wait, **given, WaiterConfig=quickly)

    async def invoke(self, function: str, event: Any, **more: Any) -> Any:
        answer: dict[str, Any] = await asyncio.to_thread(
            self.client.invoke, FunctionName=function, Payload=json.dumps(event), **more
        )
        return json.loads(await asyncio.to_thread(answer["Payload"].read))

"""The node's own clients of AWS's services, for what it does itself: roles, code from S3, logs that are written there.

Region and endpoint are those of [aws]; credentials are looked for where every AWS tool does, in the environment, in
~/.aws, at the machine. Where there are none, a server that is not AWS's is told the account's number as access key id:
such servers take anything, and several read the account from it.

The library is optional and imported when something is first asked for, by a thread: that takes longer than a start.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Generator
from typing import Any, cast

from eventfn.errors import ConnectorError
from eventfn.functions.model import Aws

EXTRA = "pip install 'eventfn[aws]'"
_CHUNK = 1 << 20  # bytes
_TIMEOUT = 20  # seconds, for a connection and for each answer


class ServiceError(ConnectorError):
    """A service has refused. `code` and `message` are its own words."""

    def __init__(self, operation: str, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{operation}: {code}: {message}")


class Clients:
    """One for each service, made when it is first used; `close` ends them."""

    def __init__(self, aws: Aws) -> None:
        """No I/O."""
        self._aws = aws
        self._made: dict[tuple[str, str], Any] = {}
        self._making = asyncio.Lock()
        self._open = contextlib.AsyncExitStack()
        self._errors: Any = None  # botocore.exceptions, once it is imported: it has no types
        self._broken: Any = None  # aiohttp.ClientError

    async def call(
        self, service: str, operation: str, *, region: str | None = None, **parameters: Any
    ) -> dict[str, Any]:
        """`call("sts", "assume_role", RoleArn=...)`: the answer as the library has it.

        Raises ServiceError, and ConnectorError when the service cannot be reached, or the library is missing.
        """
        client = await self._client(service, region or self._aws.region)
        with self._translated(f"{service} {operation}", client.meta.endpoint_url):
            return cast(dict[str, Any], await getattr(client, operation)(**parameters))

    async def read(self, body: Any, most: int) -> bytes | None:
        """The body of an answer, which is streamed; None when it is longer than `most`. Raises ConnectorError."""
        read = bytearray()
        async with body:
            with self._translated("reading", "the answer"):
                while chunk := await body.read(min(_CHUNK, most + 1 - len(read))):
                    read += chunk
                    if len(read) > most:
                        return None
        return bytes(read)

    @contextlib.contextmanager
    def _translated(self, operation: str, where: str) -> Generator[None]:
        try:
            yield
        except self._errors.ClientError as error:
            said = error.response.get("Error", {})
            raise ServiceError(operation, str(said.get("Code")), str(said.get("Message"))) from error
        except self._errors.ParamValidationError as error:
            raise ServiceError(operation, "InvalidParameter", str(error)) from error
        except (self._errors.BotoCoreError, self._broken, TimeoutError, OSError) as error:
            raise ConnectorError(f"{operation}: {where}: {error or type(error).__name__}") from error

    async def _client(self, service: str, region: str) -> Any:
        async with self._making:
            if (service, region) not in self._made:
                self._made[service, region] = await self._make(service, region)
            return self._made[service, region]

    async def _make(self, service: str, region: str) -> Any:
        try:
            sessions: Any = await asyncio.to_thread(importlib.import_module, "aiobotocore.session")
        except ImportError:
            raise ConnectorError(f"aiobotocore is not installed, which talks to {service}: {EXTRA}") from None
        self._errors = importlib.import_module("botocore.exceptions")
        self._broken = importlib.import_module("aiohttp").ClientError
        config: Any = importlib.import_module("aiobotocore.config")
        endpoint = self._aws.endpoint_of(service)
        session = sessions.AioSession()
        found: dict[str, str] = {}
        try:
            if endpoint is not None and await session.get_credentials() is None:
                found = {"aws_access_key_id": self._aws.account, "aws_secret_access_key": "eventfn"}
            client = session.create_client(
                service,
                region_name=region,
                endpoint_url=endpoint,
                verify=False if (endpoint or "").startswith("http://") else None,
                config=config.AioConfig(
                    connect_timeout=_TIMEOUT,
                    read_timeout=_TIMEOUT,
                    retries={"mode": "standard", "total_max_attempts": 3},
                    # A server of one's own has no name for each bucket, and may not know the newest checksums.
                    s3={"addressing_style": "auto" if endpoint is None else "path"},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    user_agent_extra="eventfn",
                ),
                **found,
            )
            return await self._open.enter_async_context(client)
        except (self._errors.BotoCoreError, ValueError) as error:
            raise ConnectorError(f"no client for {service}: {error}") from error

    async def close(self) -> None:
        self._made.clear()
        await self._open.aclose()

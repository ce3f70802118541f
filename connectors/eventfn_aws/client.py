"""A client of one AWS service. Clients that are reached the same way share connections, and the library's data.

The library itself is imported when the first client is opened, by a thread: it takes longer to import than all the
rest of a node, and tens of megabytes.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Hashable
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from eventfn_aws.errors import AwsError
from eventfn_aws.settings import AwsSettings

if TYPE_CHECKING:
    from eventfn_aws.session import Connection

__all__ = ["AwsError", "AwsSettings", "Client"]

if find_spec("aiobotocore") is None:
    raise ImportError("aiobotocore is not installed: pip install 'eventfn[aws]'")


class _Shared:
    """The connection that all clients with the same key use, closed when the last of them is."""

    def __init__(self) -> None:
        self.users = 0
        self.opening = asyncio.Lock()
        self.connection: Connection | None = None


_shared: dict[Hashable, _Shared] = {}


class Client:
    def __init__(
        self, service: str, settings: AwsSettings, *, region: str | None = None, default_region: str | None = None
    ) -> None:
        """No I/O. `region`: where the resource is, if its name says so (ARN, URL); it wins over the settings.
        `default_region`: for a machine that is told of no region by settings, environment or ~/.aws."""
        self._service = service
        self._settings = settings
        self._regions = (region or settings.region, default_region)
        self._key: Hashable = None
        self._held: _Shared | None = None

    async def open(self) -> None:
        """Ready to call; nothing is sent yet. Does nothing when it is open already. Raises ConnectorError."""
        if self._held is not None:
            return
        settings = tuple(getattr(self._settings, name) for name in AwsSettings.__struct_fields__)
        self._key = (asyncio.get_running_loop(), self._service, settings, self._regions)
        self._held = shared = _shared.setdefault(self._key, _Shared())
        shared.users += 1
        try:
            async with shared.opening:
                if shared.connection is None:
                    await asyncio.to_thread(importlib.import_module, "eventfn_aws.session")
                    from eventfn_aws.session import Connection  # imported by now

                    shared.connection = await Connection.open(self._service, self._settings, *self._regions)
        except BaseException:
            await self.close()
            raise

    @property
    def _connection(self) -> Connection:
        if self._held is None or self._held.connection is None:
            raise AwsError(self._service, "NotConnected", "the connection is closed", 503)
        return self._held.connection

    @property
    def region(self) -> str:
        """Once it is open: the region that requests are signed for."""
        return self._connection.region

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """`call("receive_message", QueueUrl=...)`: the answer as the library has it. Safe to cancel.

        Raises AwsError when the service refuses, ConnectorError when it cannot be reached or its answer is cut.
        """
        return await self._connection.call(operation, parameters)

    def errors(self, operation: str) -> AbstractContextManager[None]:
        """Translates as `call` does, for what is not a call: reading a body."""
        return self._connection.errors(operation)

    async def close(self) -> None:
        shared, self._held = self._held, None
        if shared is None:
            return
        shared.users -= 1
        if shared.users == 0:
            del _shared[self._key]
            if shared.connection is not None:
                await shared.connection.close()

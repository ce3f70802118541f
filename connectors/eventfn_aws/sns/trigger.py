"""An SNS topic as a source: SNS posts to this node, and each message is one asynchronous invocation."""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from eventfn.trigger import Caller, ListenContext, Mounted, Traits
from eventfn_aws.client import AwsSettings
from eventfn_aws.sns.subscribing import Subscriber
from eventfn_aws.sns.topics import topic_arn

if TYPE_CHECKING:
    from eventfn_aws.sns.endpoint import Endpoint


class SnsSettings(msgspec.Struct, frozen=True, kw_only=True):
    topic: str  # its ARN
    path: str = "/"
    subscribe: bool = False  # with public_url of [sns]

    def __post_init__(self) -> None:
        if topic_arn(self.topic) is None:
            raise ValueError('topic: expected a topic\'s ARN such as "arn:aws:sns:eu-west-1:123456789012:alerts"')
        if not self.path.startswith("/") or not self.path.isprintable() or set(self.path) & set(" ?#%"):
            raise ValueError('path: expected a path such as "/alerts"')


class SnsShared(AwsSettings, frozen=True, kw_only=True):
    """[sns]"""

    listen: str = "127.0.0.1:8090"
    public_url: str | None = None  # where SNS reaches what listens here
    verify_signature: bool = True  # off for a server that does not sign

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            host, _ = address(self.listen)
        except ValueError as error:
            raise ValueError(f"listen: {error}") from None
        if not self.verify_signature and (self.endpoint_url is None or not ipaddress.ip_address(host).is_loopback):
            raise ValueError(
                "verify_signature: expected true, since anybody could send messages: false is for a server at "
                "endpoint_url, and an address of this machine alone"
            )
        if self.public_url is not None:
            url = urlsplit(self.public_url)
            if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
                raise ValueError('public_url: expected a URL such as "https://events.example.com"')


class SnsTrigger:
    Settings: ClassVar[type[msgspec.Struct]] = SnsSettings
    Shared: ClassVar[type[msgspec.Struct] | None] = SnsShared
    traits: ClassVar[Traits] = Traits(invocation="listen")

    def __init__(self, shared: SnsShared, context: ListenContext) -> None:
        self._shared = shared
        self._context = context
        self._routes: dict[tuple[str, str], list[Caller]] = {}
        self._subscriber = Subscriber(shared, shared.public_url or "", context)
        self._endpoint: Endpoint | None = None

    def check(self, mounted: Sequence[Any]) -> list[tuple[int, str, str]]:
        if self._shared.public_url is not None:
            return []
        missing = "expected public_url in [sns] beside it: where SNS reaches this node"
        return [(index, "subscribe", missing) for index, settings in enumerate(mounted) if settings.subscribe]

    def mount(self, mounted: Sequence[Mounted]) -> None:
        routes: dict[tuple[str, str], list[Caller]] = {}
        for each in mounted:
            callers = routes.setdefault((each.settings.path, each.settings.topic), [])
            # A function that has a topic twice would get each message twice, and the second time drop it.
            if all(caller.function != each.caller.function for caller in callers):
                callers.append(each.caller)
        self._routes = routes
        self._subscriber.wanted = {
            (each.settings.path, each.settings.topic) for each in mounted if each.settings.subscribe
        }
        if self._endpoint is not None:
            self._endpoint.routes = routes
            self._subscriber.start()

    async def open(self) -> str | None:
        await asyncio.to_thread(importlib.import_module, "eventfn_aws.sns.endpoint")
        from eventfn_aws.sns.endpoint import Endpoint  # imported by now

        shared, context = self._shared, self._context
        endpoint = Endpoint(shared.endpoint_url, context.clock, context.log, verify=shared.verify_signature)
        endpoint.routes = self._routes
        bound = await endpoint.open(*address(shared.listen))
        self._endpoint = endpoint
        self._subscriber.start()
        return bound

    async def drain(self, deadline: float) -> None:
        if self._endpoint is not None:
            try:
                async with asyncio.timeout(deadline):
                    await self._endpoint.drain()
            except TimeoutError:
                self._context.log.info("SNS comes again with what was not taken in time")

    async def close(self) -> None:
        await self._subscriber.close()
        if self._endpoint is not None:
            await self._endpoint.close()


def address(text: str) -> tuple[str, int]:
    """The IP address and the port of "127.0.0.1:8090", "localhost:0", "[::1]:8090". Raises ValueError."""
    expected = 'expected an address of this machine and a port, such as "127.0.0.1:8090" or "[::1]:80"'
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        ip = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host[1:-1] if bracketed else host)
    except ValueError:
        raise ValueError(f"{expected}, got {text!r}") from None
    if bracketed != (ip.version == 6) or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"{expected}, got {text!r}")
    return str(ip), int(port)

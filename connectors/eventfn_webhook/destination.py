"""The destination: what eventfn.toml says of it, and records in order. How one is sent: posting.py."""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar
from urllib.parse import urlsplit

import msgspec

from eventfn.destination import Delivery, DestinationContext, OutgoingRecord, RetryAfter
from eventfn.units import Between, Duration
from eventfn_webhook.signature import key_of

if TYPE_CHECKING:
    from eventfn_webhook.posting import Poster

# So many records in a row that could not be delivered, and the rest of the batch waits too: a receiver that is down is
# not waited for a hundred times, and one record that it chokes on does not hold up the others.
_GIVE_UP_AFTER = 3


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True):
    secret: str | None = None  # "whsec_<base64>"; None: not signed
    secrets: dict[str, str] = {}  # host -> its own secret
    timeout: Annotated[Duration, Between(1, 300)] = Duration(15)  # from connecting to the answer's headers
    maximum_concurrency: Annotated[int, Between(1, 100)] = 1  # records on their way at once; above 1 the order is lost

    def __post_init__(self) -> None:
        for where, secret in {"secret": self.secret, **self.secrets}.items():
            try:
                if secret is not None:
                    key_of(secret)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None


class WebhookDestination:
    Settings: ClassVar[type[msgspec.Struct]] = WebhookSettings
    # A receiver that remembers webhook-id sees a record once, but not every receiver does.
    idempotent: ClassVar[bool] = False
    scheme: ClassVar[str] = "https"
    example: ClassVar[str] = "https://example.com/hook"

    @classmethod
    def check(cls, target: str, settings: WebhookSettings) -> str | None:
        expected = f'expected a URL such as "{cls.example}"'
        try:
            url = urlsplit(f"{cls.scheme}:{target}")
            host, _ = url.hostname, url.port  # the port is parsed only now
        except ValueError as error:
            return f"{expected}: {error}"
        if not target.startswith("//") or not host or not target.isprintable() or " " in target:
            return expected
        if url.username is not None or url.password is not None:
            return f"{expected} without a name and a password: it is shown in logs and in `status`"
        if url.fragment:
            return f"{expected} without a fragment: none is ever sent"
        return None

    def __init__(self, target: str, settings: WebhookSettings, context: DestinationContext) -> None:
        self._url = f"{self.scheme}:{target}"
        secret = settings.secrets.get(urlsplit(self._url).hostname or "", settings.secret)
        self._key = None if secret is None else key_of(secret)
        self._timeout = float(settings.timeout)
        self._at_once = settings.maximum_concurrency
        self._clock = context.clock
        self._poster: Poster | None = None

    async def connect(self) -> None:
        if self._poster is None:
            await asyncio.to_thread(importlib.import_module, "eventfn_webhook.posting")
            from eventfn_webhook.posting import Poster  # imported by now

            self._poster = Poster(self._url, self._key, self._clock, timeout=self._timeout, at_once=self._at_once)

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        assert self._poster is not None, "the host connects before it writes"
        answers: list[Delivery] = []
        while len(answers) < len(records):
            last = answers[-_GIVE_UP_AFTER:]
            if len(last) == _GIVE_UP_AFTER and all(isinstance(answer, RetryAfter) for answer in last):
                return answers + last[-1:] * (len(records) - len(answers))
            together = records[len(answers) : len(answers) + self._at_once]
            answers += await asyncio.gather(*(self._poster.post(record) for record in together))
        return answers

    async def close(self, deadline: float) -> None:
        poster, self._poster = self._poster, None
        if poster is not None:
            await poster.close()


class LoopbackWebhookDestination(WebhookDestination):
    """`http://` sends records and their signatures in the clear: to this machine and no further."""

    scheme: ClassVar[str] = "http"
    example: ClassVar[str] = "http://127.0.0.1:8000/hook"

    @classmethod
    def check(cls, target: str, settings: WebhookSettings) -> str | None:
        problem = super().check(target, settings)
        if problem is None and not _is_loopback(urlsplit(f"http:{target}").hostname or ""):
            return "expected https, or an address of this machine such as 127.0.0.1: http sends records in the clear"
        return problem


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

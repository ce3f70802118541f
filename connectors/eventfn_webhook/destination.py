"""The destination: one POST for each record, in order, over connections that are kept."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from eventfn.destination import Delivery, DestinationContext, OutgoingRecord, Rejected, RetryAfter
from eventfn.units import Between, Duration
from eventfn_webhook.answers import delivery
from eventfn_webhook.signature import key_of, signed_headers

_BODY_SHOWN = 512  # bytes of an answer's body that are read, and kept with a dead letter
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
        self._session: aiohttp.ClientSession | None = None

    async def connect(self) -> None:
        """Connections are made when there is something to send: a receiver that is down is found then."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._at_once),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                headers={"content-type": "application/json", "user-agent": "eventfn", "accept-encoding": "identity"},
                # Unpacking what somebody packed all the same could make gigabytes of a few bytes.
                auto_decompress=False,
            )

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        answers: list[Delivery] = []
        while len(answers) < len(records):
            last = answers[-_GIVE_UP_AFTER:]
            if len(last) == _GIVE_UP_AFTER and all(isinstance(answer, RetryAfter) for answer in last):
                return answers + last[-1:] * (len(records) - len(answers))
            together = records[len(answers) : len(answers) + self._at_once]
            answers += await asyncio.gather(*(self._post(record) for record in together))
        return answers

    async def close(self, deadline: float) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, record: OutgoingRecord) -> Delivery:
        assert self._session is not None, "the host connects before it writes"
        now = self._clock.now_ms() / 1000
        headers = signed_headers(record.id, int(now), record.payload, self._key)
        try:
            async with self._session.post(
                self._url, data=record.payload, headers=headers, allow_redirects=False
            ) as answer:
                body = b"" if answer.ok else await _start_of(answer)
                said = answer.headers
                return delivery(answer.status, said.get("location"), said.get("retry-after"), body, now)
        except TimeoutError:
            return RetryAfter(f"{self._url} did not answer within {self._timeout:g} s")
        except aiohttp.InvalidURL:
            return Rejected(f"{self._url} is no URL that can be sent to")
        except aiohttp.ClientError as error:
            return RetryAfter(f"{self._url} cannot be reached: {error or type(error).__name__}")


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


async def _start_of(answer: aiohttp.ClientResponse) -> bytes:
    """At most `_BODY_SHOWN` bytes of the body; a connection with more on its way is closed, not emptied."""
    body = b""
    try:
        while len(body) < _BODY_SHOWN and (more := await answer.content.read(_BODY_SHOWN - len(body))):
            body += more
    except (TimeoutError, aiohttp.ClientError):
        pass  # the status has said all that matters
    return body

"""One POST for each record, over connections that are kept.

Imported when the first record is due, by a thread: aiohttp takes longer to import than all the rest of a node.
"""

from __future__ import annotations

import aiohttp

from eventfn.clock import Clock
from eventfn.destination import Delivery, OutgoingRecord, Rejected, RetryAfter
from eventfn.units import without_secrets
from eventfn_webhook.answers import delivery
from eventfn_webhook.signature import signed_headers

_BODY_SHOWN = 512  # bytes of an answer's body that are read, and kept with a dead letter


class Poster:
    def __init__(self, url: str, key: bytes | None, clock: Clock, *, timeout: float, at_once: int) -> None:
        """On the loop. `timeout` in seconds, from connecting to the answer's headers; without `key` nothing is signed.
        Connections are made when there is something to send: a receiver that is down is found then."""
        self._url = url
        self._shown = without_secrets(url)
        self._key = key
        self._clock = clock
        self._timeout = timeout
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=at_once),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=timeout),
            headers={"content-type": "application/json", "user-agent": "eventfn", "accept-encoding": "identity"},
            # Unpacking what somebody packed all the same could make gigabytes of a few bytes.
            auto_decompress=False,
        )

    async def post(self, record: OutgoingRecord) -> Delivery:
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
            return RetryAfter(f"{self._shown} did not answer within {self._timeout:g} s")
        except aiohttp.InvalidURL:
            return Rejected(f"{self._shown} is no URL that can be sent to")
        except aiohttp.ClientError as error:
            return RetryAfter(f"{self._shown} cannot be reached: {error or type(error).__name__}")

    async def close(self) -> None:
        await self._session.close()


async def _start_of(answer: aiohttp.ClientResponse) -> bytes:
    """At most `_BODY_SHOWN` bytes of the body; a connection with more on its way is closed, not emptied."""
    body = b""
    try:
        while len(body) < _BODY_SHOWN and (more := await answer.content.read(_BODY_SHOWN - len(body))):
            body += more
    except (TimeoutError, aiohttp.ClientError):
        pass  # the status has said all that matters
    return body

"""The HTTP endpoint that SNS posts to. Answered with 200 is what is on disk; all else SNS tries again.

Imported when a node opens it, by a thread: aiohttp and cryptography take longer to import than all the rest of a node.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Mapping, Sequence

import aiohttp
import msgspec
from aiohttp import web

from eventfn.clock import Clock
from eventfn.errors import ConnectorError, EngineError, PayloadTooLarge, ShuttingDown, Throttled
from eventfn.trigger import Caller
from eventfn_aws.sns.messages import Envelope, trusted
from eventfn_aws.sns.signatures import Forged, Signatures

MAX_BODY = 2 * 1024 * 1024  # bytes: 256 KB of message, each character escaped
_MOST_FETCHED = 64 * 1024  # bytes of a certificate, or of the answer to a confirmation
_FETCH_TIMEOUT = 10.0  # seconds; SNS waits 15 for an answer
_LAST_ANSWERS = 1.0  # seconds for requests under way when the listener closes; `drain` has waited for them before

Route = tuple[str, str]  # (path, topic ARN)


class Endpoint:
    """`open` it once; `close` works without it, and twice. `routes` are those that there are now."""

    def __init__(self, endpoint_url: str | None, clock: Clock, log: logging.Logger, *, verify: bool) -> None:
        self.routes: Mapping[Route, Sequence[Caller]] = {}
        self._endpoint_url = endpoint_url
        self._log = log
        self._signatures = Signatures(self._fetch, endpoint_url, clock) if verify else None
        self._http: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._draining = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def open(self, host: str, port: int) -> str:
        """The address with its real port. Raises ConnectorError."""
        try:
            bound = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            raise ConnectorError(
                f"sns: cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}: "
                "choose another address with listen in [sns]"
            ) from error
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_FETCH_TIMEOUT), cookie_jar=aiohttp.DummyCookieJar()
        )
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            app, handle_signals=False, access_log=None, shutdown_timeout=_LAST_ANSWERS, keepalive_timeout=75
        )
        await self._runner.setup()
        await web.SockSite(self._runner, bound).start()
        at = bound.getsockname()[1]
        return f"[{host}]:{at}" if ":" in host else f"{host}:{at}"

    async def drain(self) -> None:
        """Takes nothing more: SNS comes again. Returns when nothing is under way."""
        self._draining = True
        await self._idle.wait()

    async def close(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    async def _answer(self, request: web.Request) -> web.Response:
        if self._draining:
            return _said(503, "the node is stopping")
        self._under_way += 1
        self._idle.clear()
        try:
            return await self._take(request)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _take(self, request: web.Request) -> web.Response:
        if request.method != "POST":
            return _said(405, "SNS posts")
        if not any(path == request.path for path, _ in self.routes):
            return _said(404, "no trigger has this path")
        if request.headers.get("x-amz-sns-rawdelivery", "").lower() == "true":
            self._log.error("a raw message was refused: turn RawMessageDelivery off, since raw messages are not signed")
            return _said(400, "raw messages are not signed: turn RawMessageDelivery off")
        try:
            envelope = Envelope.read(await request.read())
        except (msgspec.DecodeError, RecursionError):
            return _said(400, "this is no message of SNS")
        callers = self.routes.get((request.path, envelope.topic_arn))
        if callers is None:
            # Checked before all else: whoever has an AWS account can send what SNS has signed.
            return _said(404, "no trigger with this path has this topic")
        try:
            if self._signatures is not None:
                await self._signatures.check(envelope)
            if envelope.type == "Notification":
                return await self._submit(envelope, request.headers.get("x-amz-sns-subscription-arn", ""), callers)
            if envelope.type == "SubscriptionConfirmation":
                return await self._confirm(envelope)
        except Forged as error:
            self._log.warning("a message for %s is refused: %s", envelope.topic_arn, error)
            return _said(403, str(error))
        except (TimeoutError, aiohttp.ClientError, ConnectorError) as error:
            self._log.warning("SNS cannot be asked about a message: %s", error or type(error).__name__)
            return _said(503, "SNS cannot be asked about this message")
        self._log.warning("the subscription to %s was ended by somebody", envelope.topic_arn)
        return _said(200, "")

    async def _submit(self, envelope: Envelope, subscription_arn: str, callers: Sequence[Caller]) -> web.Response:
        payload = envelope.event(subscription_arn)
        try:
            # The message's own id: SNS sends it again after an answer that got lost, or came late.
            await asyncio.gather(
                *(caller.submit(payload, str(uuid.uuid4()), f"sns:{envelope.message_id}") for caller in callers)
            )
        except Throttled as error:
            return _said(429, error.reason, {"Retry-After": str(error.retry_after)})
        except PayloadTooLarge as error:
            return _said(413, str(error))
        except (ShuttingDown, EngineError) as error:
            return _said(503, str(error))
        return _said(200, "")

    async def _confirm(self, envelope: Envelope) -> web.Response:
        place = trusted(envelope.subscribe_url or "", self._endpoint_url)
        if place is None:
            raise Forged("its SubscribeURL is not one of SNS")
        await self._fetch(place)
        self._log.info("subscribed to %s", envelope.topic_arn)
        return _said(200, "")

    async def _fetch(self, url: str) -> bytes:
        """Raises TimeoutError, aiohttp.ClientError, ConnectorError."""
        assert self._http is not None, "it is open"
        async with self._http.get(url, allow_redirects=False) as answer:
            body = await answer.content.read(_MOST_FETCHED)
            if answer.status != 200:
                raise ConnectorError(f"{url.partition('?')[0]} answers {answer.status}")
            return body


def _said(status: int, why: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=why, headers=headers)

"""PutEvents on the wire: POST / with X-Amz-Target: AWSEvents.PutEvents, JSON 1.1, as the SDKs send it.

What belongs here: HTTP, who may call, and what is answered when an entry is on disk. What an entry must be: entries.py.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import socket
import uuid
from collections.abc import Collection, Sequence

import msgspec
from aiohttp import web

from eventfn.clock import Clock
from eventfn.errors import ConnectorError, EngineError, Refused, Throttled
from eventfn.trigger import QueueMessage, Queues
from eventfn_bus.entries import BadEntry, BadRequest, Entry, entries_of, event_of
from eventfn_bus.events import Home, queue_of

MAX_BODY = 2 * 1024 * 1024  # bytes: 256 KB of entries, each character escaped
_TARGET = "AWSEvents.PutEvents"
_CONTENT_TYPE = "application/x-amz-json-1.1"
_LAST_ANSWERS = 5.0  # seconds for requests under way when the listener closes


class Result(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """What became of an entry: its id, or an error."""

    event_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None


class PutEvents:
    """`open` it once; `close` works without it, and twice. `buses` are those that there are now."""

    def __init__(self, tokens: Sequence[str], home: Home, queues: Queues, clock: Clock, log: logging.Logger) -> None:
        self.buses: Collection[str] = ()
        self._tokens = [token.encode() for token in tokens]
        self._home = home
        self._queues = queues
        self._clock = clock
        self._log = log
        self._runner: web.AppRunner | None = None
        self._draining = False

    async def open(self, host: str, port: int) -> str:
        """The address with its real port. Raises ConnectorError."""
        try:
            bound = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            raise ConnectorError(
                f"bus: cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}: "
                "choose another address with listen in [bus]"
            ) from error
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post("/", self._answer)
        self._runner = web.AppRunner(
            app, handle_signals=False, access_log=None, shutdown_timeout=_LAST_ANSWERS, keepalive_timeout=75
        )
        await self._runner.setup()
        await web.SockSite(self._runner, bound).start()
        at = bound.getsockname()[1]
        return f"[{host}]:{at}" if ":" in host else f"{host}:{at}"

    def drain(self) -> None:
        """Takes no more events; whoever sends some is told to try again."""
        self._draining = True

    async def close(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        if not self._may(request):
            return _error(403, "AccessDeniedException", "A token of [bus] is needed: x-api-key, or a bearer token")
        if self._draining:
            return _error(503, "ServiceUnavailableException", "The node is stopping: try again")
        target = request.headers.get("X-Amz-Target", "")
        if target != _TARGET:
            return _error(400, "UnknownOperationException", f"{target or 'this'} is not known here, only {_TARGET} is")
        try:
            entries = entries_of(await request.read())
        except BadRequest as refused:
            return _error(400, refused.code, str(refused))
        except web.HTTPRequestEntityTooLarge:
            return _error(413, "RequestEntityTooLarge", f"Expected at most {MAX_BODY} bytes")
        results = await self._put(entries)
        failed = sum(result.event_id is None for result in results)
        return _response(200, {"FailedEntryCount": failed, "Entries": results})

    def _may(self, request: web.Request) -> bool:
        if not self._tokens:
            return True
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        given = [request.headers.get("X-Api-Key", ""), bearer.strip() if scheme.lower() == "bearer" else ""]
        known = False
        for each in given:
            for token in self._tokens:  # all of them, so that the time does not say which one it was
                known |= hmac.compare_digest(token, each.encode("utf-8", "surrogateescape"))
        return known

    async def _put(self, entries: Sequence[Entry]) -> list[Result]:
        """Once what is answered is on disk."""
        return list(await asyncio.gather(*(self._put_one(entry) for entry in entries)))

    async def _put_one(self, entry: Entry) -> Result:
        event_id = str(uuid.uuid4())
        try:
            bus, event = event_of(entry, event_id, self._clock.now_ms(), self.buses, self._home)
            message = QueueMessage(msgspec.json.encode(event), dedupe_key=event_id)
            await self._queues.send(queue_of(bus), [message])
        except BadEntry as refused:
            return Result(error_code=refused.code, error_message=str(refused))
        except Throttled as throttled:
            return Result(error_code="ThrottlingException", error_message=throttled.reason)
        except (Refused, EngineError) as error:
            self._log.error("an event could not be kept: %s", error)
            return Result(error_code="InternalFailure", error_message=str(error))
        return Result(event_id=event_id)


def _response(status: int, content: object) -> web.Response:
    body = msgspec.json.encode(content)
    headers = {"x-amzn-RequestId": str(uuid.uuid4())}
    return web.Response(status=status, body=body, headers=headers, content_type=_CONTENT_TYPE)


def _error(status: int, code: str, message: str) -> web.Response:
    return _response(status, {"__type": code, "message": message})

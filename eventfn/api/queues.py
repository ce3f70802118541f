"""Named queues: list, peek, send, purge, redrive."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from aiohttp import web

from eventfn.api.answers import json_answer
from eventfn.api.errors import did_you_mean, invalid_content, invalid_parameter, not_found
from eventfn.api.ports import Node
from eventfn.destination import DESTINATION
from eventfn.engine.contract import Message
from eventfn.errors import PayloadTooLarge
from eventfn.event import MAX_ASYNC_REQUEST
from eventfn.trigger import QueueMessage
from eventfn.units import recognisable

MAX_PEEK = 1000
MAX_MESSAGE = MAX_ASYNC_REQUEST  # SQS's limit is the same 1 MiB

StructType = TypeVar("StructType", bound=msgspec.Struct)


class PeekedMessage(msgspec.Struct, frozen=True):
    """A message as it lies in its queue. `error` is what its last try failed with, or why it is here."""

    id: str
    sequence: int
    body: str
    attributes: dict[str, str]
    receives: int
    sent_ms: int
    visible_ms: int
    group: str | None = None
    error: str | None = None


class SendRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a POST. `delay` in seconds, SQS's 0 to 900."""

    body: str
    attributes: dict[str, str] = {}
    delay: Annotated[float, msgspec.Meta(ge=0, le=900)] | None = None
    group: str | None = None
    dedupe_key: str | None = None


class RedriveRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Queues:
    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        messages = "/queues/{queue}/messages"
        return [
            web.get("/queues", self._list),
            web.get(messages, self._peek),
            web.post(messages, self._send),
            web.delete(messages, self._purge),
            web.post("/queues/{queue}/redrive", self._redrive),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        return json_answer(await self._node.queues())

    async def _peek(self, request: web.Request) -> web.Response:
        queue = await self._named(request)
        limit = _number(request, "limit", 10, MAX_PEEK)
        after = _number(request, "after", 0, 2**63 - 1)
        return json_answer([_peeked(message) for message in await self._node.peek(queue, limit, after)])

    async def _send(self, request: web.Request) -> web.Response:
        queue = await self._named(request)
        asked = await _body(request, SendRequest)
        size = len(asked.body.encode())
        if size > MAX_MESSAGE:
            raise PayloadTooLarge(size, MAX_MESSAGE, "SendMessage")
        message = QueueMessage(asked.body.encode(), asked.attributes, asked.delay, asked.group, asked.dedupe_key)
        return json_answer({"id": await self._node.send(queue, message)}, status=201)

    async def _purge(self, request: web.Request) -> web.Response:
        queue = await self._named(request)
        return json_answer({"purged": await self._node.purge(queue)})

    async def _redrive(self, request: web.Request) -> web.Response:
        queue = await self._named(request)
        asked = await _body(request, RedriveRequest)
        return json_answer(await self._node.redrive(queue, asked.limit))

    async def _named(self, request: web.Request) -> str:
        """The queue in the path. Raises ApiError for one that nobody declares, names or uses: a typing mistake must not
        make a queue that nobody reads."""
        name = request.match_info["queue"]
        known = [queue.name for queue in await self._node.queues()]
        if name not in known:
            raise not_found(f"Queue not found: {name}{did_you_mean(name, known)}")
        return name


def _number(request: web.Request, key: str, default: int, most: int) -> int:
    given = request.query.get(key, str(default))
    if not given.isascii() or not given.isdigit() or int(given) > most:
        raise invalid_parameter(f"{key} must be a whole number from 0 to {most}, not '{given}'")
    return int(given)


async def _body(request: web.Request, kind: type[StructType]) -> StructType:
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=kind)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise invalid_content(f"Could not parse request body: {error}") from error


def _peeked(message: Message) -> PeekedMessage:
    return PeekedMessage(
        id=message.id,
        sequence=message.sequence,
        body=message.body.decode(errors="replace"),  # what comes in by a queue's front door is text
        # Where a redrive sends it is not read from here.
        attributes={
            name: recognisable(value) if name == DESTINATION else value for name, value in message.attributes.items()
        },
        receives=message.claims,
        sent_ms=message.sent_ms,
        visible_ms=message.visible_ms,
        group=message.group,
        error=message.last_error or message.attributes.get("ErrorMessage"),
    )

"""Who has subscribed to what, and what has been gathered for them: Lambda's Telemetry and its older Logs API. PURE.

Source: contract/execution-environment.md, section 3. Time is passed in. Delivery is delivery.py's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from eventfn.workers.local_api import answers
from eventfn.workers.local_api.answers import Answer
from eventfn.workers.local_api.extensions import Extension, Extensions
from eventfn.workers.local_api.http import Exchange

TELEMETRY, LOGS = "/2022-07-01/telemetry", "/2020-08-15/logs"
_VERSIONS = {TELEMETRY: ("2025-01-29", "2022-12-13", "2022-07-01"), LOGS: ("2021-03-18", "2020-08-15")}
_ROOM = 65_536  # bytes of a body
_MOST_KEPT = 1_048_576  # bytes for one subscriber who does not take them
# Items of an init, of which there are a dozen: each new subscription is one too, and is told all that came before.
_MOST_BEFORE = 256
_DESTINATION = re.compile(r"http://sandbox(?:\.localdomain)?:(\d{1,5})(/[!-~]*)?", re.IGNORECASE)
_KINDS = "platform", "function", "extension"
# The older API knows fewer of the platform's, and one that the newer has not.
_OF_LOGS = re.compile(r"platform\.(start|end|report|runtimeDone|extension|logsSubscription|logsDropped|fault)")
_NOT_OF_TELEMETRY = ("platform.end", "platform.logsSubscription")


class _Destination(msgspec.Struct):
    protocol: str
    URI: str = ""


class Buffering(msgspec.Struct, frozen=True):
    max_items: Annotated[int, msgspec.Meta(ge=1000, le=10_000)] = msgspec.field(default=10_000, name="maxItems")
    max_bytes: Annotated[int, msgspec.Meta(ge=262_144, le=1_048_576)] = msgspec.field(default=262_144, name="maxBytes")
    timeout_ms: Annotated[int, msgspec.Meta(ge=25, le=30_000)] = msgspec.field(default=1000, name="timeoutMs")


class _Wish(msgspec.Struct):
    types: list[Literal["platform", "function", "extension"]]
    destination: _Destination
    schemaVersion: str = "2020-08-15"  # noqa: N815 - its name in the request
    buffering: Buffering = Buffering()


class Subscriber:
    """What has been gathered for one extension since its last batch."""

    def __init__(self, extension: Extension, api: str, wish: _Wish, port: int, path: str) -> None:
        self.extension = extension
        self.port = port
        self.path = path
        self.buffering = wish.buffering
        self._api = api
        self._types = wish.types
        self._items: list[bytes] = []
        self._bytes = 0
        self._dropped = 0, 0  # items, bytes

    def wants(self, kind: str) -> bool:
        if kind.partition(".")[0] not in self._types:
            return False
        if not kind.startswith("platform."):
            return True
        return _OF_LOGS.fullmatch(kind) is not None if self._api == LOGS else kind not in _NOT_OF_TELEMETRY

    def add(self, item: bytes) -> None:
        if self._bytes + len(item) > _MOST_KEPT:
            count, size = self._dropped
            self._dropped = count + 1, size + len(item)
            return
        self._items.append(item)
        self._bytes += len(item) + 1

    @property
    def empty(self) -> bool:
        return not self._items

    @property
    def full(self) -> bool:
        """Whether a batch is not to wait any longer."""
        return len(self._items) >= self.buffering.max_items or self._bytes >= self.buffering.max_bytes

    def batch(self, dropped: Callable[[int, int], bytes]) -> bytes:
        """The next one as JSON. `dropped` makes an item that says what was thrown away."""
        size = count = 0
        for item in self._items:
            if count == self.buffering.max_items or (count and size + len(item) > self.buffering.max_bytes):
                break
            count, size = count + 1, size + len(item) + 1
        items, self._items = self._items[:count], self._items[count:]
        self._bytes -= size
        if self._dropped[0]:
            items.append(dropped(*self._dropped))
            self._dropped = 0, 0
        return b"[" + b",".join(items) + b"]"


class Telemetry:
    def __init__(
        self,
        extensions: Extensions,
        now: Callable[[], str],
        subscribed: Callable[[Subscriber], None] | None,
        gathered: Callable[[Subscriber], None],
    ) -> None:
        """`now`: an ISO time. `subscribed` is told who is to be delivered to, `gathered` who has more; without the
        former nobody can be reached in there."""
        self.subscribers: list[Subscriber] = []
        self._extensions = extensions
        self._now = now
        self._subscribed = subscribed
        self._gathered = gathered
        self._closed = False
        self._before: list[tuple[str, bytes]] = []  # of the init, for who subscribes in its course

    # --- from the supervisor -----------------------------------------------------------------------------------------

    def tell(self, kind: str, record: Mapping[str, Any] | str) -> None:
        """`kind` is "function", "extension" or one of "platform."."""
        if self._closed and not self.subscribers:
            return
        item = self._item(kind, record)
        if not self._closed and kind.startswith("platform.") and len(self._before) < _MOST_BEFORE:
            self._before.append((kind, item))
        for subscriber in self.subscribers:
            if subscriber.wants(kind):
                subscriber.add(item)
                self._gathered(subscriber)

    def close_subscription(self) -> None:
        """The init is over."""
        self._closed = True
        self._before.clear()

    def batch(self, subscriber: Subscriber) -> bytes:
        return subscriber.batch(self._dropped)

    def _item(self, kind: str, record: Mapping[str, Any] | str) -> bytes:
        return msgspec.json.encode({"time": self._now(), "type": kind, "record": record})

    def _dropped(self, items: int, size: int) -> bytes:
        facts = {"reason": "Consumer seems to have fallen behind", "droppedRecords": items, "droppedBytes": size}
        return self._item("platform.logsDropped", facts)

    # --- from the extensions -----------------------------------------------------------------------------------------

    def begins(self, exchange: Exchange) -> None:
        exchange.room = _ROOM

    def arrived(self, exchange: Exchange) -> None:
        if exchange.method != "PUT" or exchange.path not in _VERSIONS:
            exchange.answer(answers.not_found())
            return
        extension = self._extensions.find(exchange)
        if extension is not None:
            exchange.answer(self._subscribe(extension, exchange))

    def lost(self, exchange: Exchange) -> None:
        """Nothing is kept of it."""

    def _subscribe(self, extension: Extension, exchange: Exchange) -> Answer:
        name = "Telemetry" if exchange.path == TELEMETRY else "Logs"
        if self._closed:
            text = f"{name} API subscription is closed already"
            return answers.error(403, f"{name}.SubscriptionClosed", text)
        if any(each.extension is extension and each.wants("platform.end") != (exchange.path == LOGS)
               for each in self.subscribers):  # fmt: skip
            return answers.error(400, "ValidationError", "the Logs API and the Telemetry API exclude each other")
        try:
            wish = msgspec.json.decode(exchange.body, type=_Wish)
        except (msgspec.MsgspecError, RecursionError) as error:
            return answers.error(400, "ValidationError", str(error))
        if wish.schemaVersion not in _VERSIONS[exchange.path]:
            return answers.error(400, "ValidationError", f"schemaVersion {wish.schemaVersion} is not supported")
        found = _DESTINATION.fullmatch(wish.destination.URI)
        if wish.destination.protocol != "HTTP" or found is None or not 0 < int(found[1]) < 65536:
            text = "destination: expected protocol HTTP and a URI such as http://sandbox.localdomain:8080"
            return answers.error(400, "ValidationError", text)
        if self._subscribed is None:
            return Answer(202, b'"OK"')
        subscriber = Subscriber(extension, exchange.path, wish, int(found[1]), found[2] or "/")
        self.subscribers = [each for each in self.subscribers if each.extension is not extension] + [subscriber]
        for kind, item in self._before:
            if subscriber.wants(kind):
                subscriber.add(item)
        self._subscribed(subscriber)
        self._gathered(subscriber)
        facts = {"name": extension.name, "state": "Subscribed", "types": list(_types(wish.types))}
        self.tell(f"platform.{name.lower()}Subscription", facts)
        return Answer(200, b'"OK"')


def _types(wished: Sequence[str]) -> Sequence[str]:
    return [kind for kind in _KINDS if kind in wished]

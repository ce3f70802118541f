"""What an extension may say when: the states of Lambda's Extensions API. PURE.

    Started ──register──▶ Registered ──next──▶ Ready ──an event──▶ Running ──next──▶ Ready
       external ones only      └──init/error──▶ InitError      any ──exit/error──▶ ExitError

External ones are programs of their own, known by their file before they say a word; internal ones are a part of the
runtime's process. Source: contract/execution-environment.md, section 2; texts: Amazon's runtime interface emulator.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from eventfn.workers.local_api import answers
from eventfn.workers.local_api.answers import Answer
from eventfn.workers.local_api.http import Exchange
from eventfn.workers.local_api.runtime import Event

STARTED, REGISTERED, READY, RUNNING = "Started", "Registered", "Ready", "Running"
INIT_ERROR, EXIT_ERROR = "InitError", "ExitError"

MOST = 10
ROOT = "/2020-01-01/extension/"
_ROOM = 65_536  # bytes of a body
_IDENTIFIER = "lambda-extension-identifier"
_ERROR_TYPE_HEADER = "Lambda-Extension-Function-Error-Type"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ERROR_TYPE = re.compile(r"Extension\.[A-Z][a-zA-Z]+")

Reason = Literal["spindown", "timeout", "failure"]


class Facts(msgspec.Struct, frozen=True):
    """What an extension is told about its function."""

    function: str
    version: str
    handler: str
    account: str


class Extension:
    def __init__(self, name: str, identifier: str, *, external: bool) -> None:
        self.name = name
        self.identifier = identifier
        self.external = external
        self.state = STARTED
        self.events: tuple[str, ...] = ()
        self.ended = False
        self.next: Exchange | None = None  # waits for an event
        self.event: bytes | None = None  # that it has not asked for yet


class Listener(Protocol):
    """Whoever keeps the environment."""

    def extensions_registered(self) -> None:
        """All external ones: the runtime may start."""
        ...

    def extension_ready(self) -> None:
        """One of them has asked for the next event."""
        ...

    def extension_failed(self, name: str, error_type: str) -> None:
        """It says that it cannot go on."""
        ...


class _Registration(msgspec.Struct):
    events: list[str] = []


class Extensions:
    def __init__(self, names: Iterable[str], facts: Facts, new_id: Callable[[], str], listener: Listener) -> None:
        """`names`: of the external ones."""
        self._facts = facts
        self._new_id = new_id
        self._listener = listener
        self._all = [Extension(name, new_id(), external=True) for name in names]
        self._closed = False  # nobody registers any more

    # --- from the supervisor -----------------------------------------------------------------------------------------

    @property
    def all(self) -> Sequence[Extension]:
        return self._all

    @property
    def ready(self) -> bool:
        """Whether all wait for an event."""
        return all(each.state == READY for each in self._all)

    def close_registration(self) -> None:
        """The runtime has asked for its first event."""
        self._closed = True

    def invoke(self, event: Event) -> None:
        body = {
            "eventType": "INVOKE",
            "deadlineMs": event.deadline_ms,
            "requestId": event.request_id,
            "invokedFunctionArn": event.arn,
            "tracing": {"type": "X-Amzn-Trace-Id", "value": event.trace_id},
        }
        self._give("INVOKE", body, self._all)

    def shut_down(self, reason: Reason, deadline_ms: int) -> list[Extension]:
        """Those that are told: whoever has registered for it and lives."""
        told = [each for each in self._all if each.external and not each.ended and "SHUTDOWN" in each.events]
        self._give("SHUTDOWN", {"eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": deadline_ms}, told)
        return told

    def _give(self, kind: str, body: Mapping[str, object], to: Iterable[Extension]) -> None:
        encoded = msgspec.json.encode(body)
        for extension in to:
            if kind in extension.events:
                extension.event = encoded
                self._hand_out(extension)

    def _hand_out(self, extension: Extension) -> None:
        if extension.next is not None and extension.event is not None:
            waiting, extension.next, event, extension.event = extension.next, None, extension.event, None
            extension.state = RUNNING
            waiting.answer(Answer(200, event, (("Lambda-Extension-Event-Identifier", self._new_id()),)))

    # --- from the extensions -----------------------------------------------------------------------------------------

    def begins(self, exchange: Exchange) -> None:
        exchange.room = _ROOM

    def arrived(self, exchange: Exchange) -> None:
        what = exchange.method, exchange.path.removeprefix(ROOT)
        if exchange.too_large:
            exchange.answer(answers.error(400, "InvalidRequestFormat", f"more than {_ROOM} bytes"))
        elif what == ("POST", "register"):
            self._register(exchange)
        elif what == ("GET", "event/next"):
            self._take_next(exchange)
        elif what in (("POST", "init/error"), ("POST", "exit/error")):
            self._take_error(exchange, INIT_ERROR if what[1] == "init/error" else EXIT_ERROR)
        else:
            exchange.answer(answers.not_found())

    def lost(self, exchange: Exchange) -> None:
        for extension in self._all:
            if extension.next is exchange:
                extension.next = None

    def find(self, exchange: Exchange) -> Extension | None:
        """Who it says that it is; otherwise it is answered why not."""
        identifier = exchange.headers.get(_IDENTIFIER, "")
        if not identifier:
            kind, text = "MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header"
        elif not _UUID.fullmatch(identifier.lower()):
            kind, text = "InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier"
        else:
            for extension in self._all:
                if extension.identifier == identifier.lower() and extension.state != STARTED:
                    return extension
            kind, text = "UnknownExtensionIdentifier", f"Unknown extension {identifier}"
        exchange.answer(_refused(kind, text))
        return None

    # --- one call each -----------------------------------------------------------------------------------------------

    def _register(self, exchange: Exchange) -> None:
        name = exchange.headers.get("lambda-extension-name", "")
        if not name:
            exchange.answer(_refused("InvalidExtensionName", "Empty extension name"))
            return
        try:
            events = tuple(dict.fromkeys(msgspec.json.decode(exchange.body, type=_Registration).events))
        except (msgspec.MsgspecError, RecursionError) as error:
            exchange.answer(answers.error(400, "InvalidRequestFormat", str(error)))
            return
        extension = next((each for each in self._all if each.name == name), None)
        if (refused := self._may_register(name, events, extension)) is not None:
            exchange.answer(refused)
            return
        if extension is None:
            extension = Extension(name, self._new_id(), external=False)
            self._all.append(extension)
        extension.state, extension.events = REGISTERED, events
        exchange.answer(self._registered(extension, exchange.headers.get("lambda-extension-accept-feature", "")))
        if extension.external and all(each.state != STARTED for each in self._all):
            self._listener.extensions_registered()

    def _may_register(self, name: str, events: tuple[str, ...], extension: Extension | None) -> Answer | None:
        """What to answer if it may not."""
        external = extension is not None and extension.external
        for event in events:
            if event not in ("INVOKE", "SHUTDOWN"):
                return _refused("InvalidEventType", f"{event}: event type is not supported")
            if event == "SHUTDOWN" and not external:
                return _refused("InvalidEventType", "SHUTDOWN: event type is not supported for internal extensions")
        if extension is not None and extension.state != STARTED:
            return _wrong_state(extension, REGISTERED)
        if self._closed:
            return _refused("RegistrationClosed", "Extension registration closed already")
        if extension is None and len(self._all) >= MOST:
            return _refused("TooManyExtensions", f"Extension limit ({MOST}) reached")
        return None

    def _registered(self, extension: Extension, features: str) -> Answer:
        facts = self._facts
        told = {"functionName": facts.function, "functionVersion": facts.version, "handler": facts.handler}
        if "accountId" in [feature.strip() for feature in features.split(",")]:
            told["accountId"] = facts.account
        return Answer(200, msgspec.json.encode(told), (("Lambda-Extension-Identifier", extension.identifier),))

    def _take_next(self, exchange: Exchange) -> None:
        extension = self.find(exchange)
        if extension is None:
            return
        if extension.state not in (REGISTERED, READY, RUNNING):
            exchange.answer(_wrong_state(extension, READY))
            return
        if extension.next is not None:
            extension.next.answer(_wrong_state(extension, READY))  # the later one counts
        extension.next = exchange
        extension.state = READY
        if extension.event is not None:
            self._hand_out(extension)
        else:
            self._listener.extension_ready()

    def _take_error(self, exchange: Exchange, to: str) -> None:
        extension = self.find(exchange)
        if extension is None:
            return
        header = exchange.headers.get(_ERROR_TYPE_HEADER.lower(), "")
        if not header:
            exchange.answer(_refused("MissingHeader", f"{_ERROR_TYPE_HEADER} not found"))
            return
        if extension.state in (INIT_ERROR, EXIT_ERROR) or (to == INIT_ERROR and extension.state != REGISTERED):
            exchange.answer(_wrong_state(extension, to))
            return
        extension.state = to
        exchange.answer(answers.accepted())
        self._listener.extension_failed(extension.name, header if _ERROR_TYPE.fullmatch(header) else f"Extension.{to}")


def _refused(kind: str, text: str) -> Answer:
    return answers.error(403, f"Extension.{kind}", text)


def _wrong_state(extension: Extension, to: str) -> Answer:
    text = (
        f"State transition from {extension.state} to {to} failed for extension {extension.name}. "
        "Error: State transition is not allowed"
    )
    return _refused("InvalidExtensionState", text)

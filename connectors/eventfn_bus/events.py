"""The event that travels on a bus, and how other things become one.

    {"version": "0", "id", "detail-type", "source", "account", "time", "region", "resources": [...], "detail": {...}}

PURE. Source: Amazon EventBridge, "Events"; AWS Lambda, "Destinations" for what a function leaves behind: source
"lambda", detail-type "Lambda Function Invocation Result - Success" or "- Failure", resources [bus, function].
"""

from __future__ import annotations

import datetime
import re
import uuid
from typing import Any, TypeGuard

import msgspec

DEFAULT_BUS = "default"
QUEUE_PREFIX = "bus."  # the queue "bus.orders" holds what is on its way through the bus "orders"
ONLY_RULE = "eventfn.rule"  # attribute of a message that is for one rule, whatever its pattern: a schedule's

_BUS_NAME = re.compile(r"[A-Za-z0-9_.-]{1,76}")  # a queue's name has 80
_RULE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ENVELOPE = {"id": str, "detail-type": str, "source": str, "time": str, "detail": dict}

Event = dict[str, Any]


def bus_name_mistake(name: str) -> str | None:
    if _BUS_NAME.fullmatch(name):
        return None
    return f"expected the name of a bus, 1 to 76 letters, digits, '-', '_' or '.', got {name!r}"


def rule_name_mistake(name: str) -> str | None:
    if _RULE_NAME.fullmatch(name):
        return None
    return f"expected the name of a rule, 1 to 64 letters, digits, '-', '_' or '.', got {name!r}"


def queue_of(bus: str) -> str:
    return QUEUE_PREFIX + bus


class Home(msgspec.Struct, frozen=True):
    """Where the buses are: parts of every ARN."""

    region: str
    account: str

    def bus_arn(self, bus: str) -> str:
        return f"arn:aws:events:{self.region}:{self.account}:event-bus/{bus}"

    def rule_arn(self, bus: str, rule: str) -> str:
        path = rule if bus == DEFAULT_BUS else f"{bus}/{rule}"
        return f"arn:aws:events:{self.region}:{self.account}:rule/{path}"


def iso(ms: int) -> str:
    """2015-11-11T21:29:54Z"""
    return datetime.datetime.fromtimestamp(ms // 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_event(value: Any) -> TypeGuard[Event]:
    """Whether it is an event already: one that was put, or that another bus hands on."""
    return _is_table(value) and all(isinstance(value.get(key), kind) for key, kind in _ENVELOPE.items())


def _is_table(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def read(payload: bytes) -> dict[str, Any]:
    """What stands in a message. Raises ValueError when it cannot become an event."""
    try:
        value = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not _is_table(value):
        raise ValueError("it is not a JSON object, and the detail of an event is one")
    return value


class _Put(msgspec.Struct, frozen=True, rename="pascal"):
    """What PutEvents would be given. The bus is the one that it is on already."""

    source: str
    detail_type: str
    detail: str
    resources: list[str] = []


def event_of(payload: bytes, record_id: str, sent_ms: int, bus: str, home: Home) -> tuple[Event, bytes]:
    """The event that a message holds, decoded and as JSON: itself, that of an entry of PutEvents, or one around a
    record that somebody left behind. The same message makes the same event. Raises ValueError."""
    value = read(payload)
    if is_event(value):
        return value, payload
    event = _made(value, record_id, sent_ms, bus, home)
    return event, msgspec.json.encode(event)


def _made(value: dict[str, Any], record_id: str, sent_ms: int, bus: str, home: Home) -> Event:
    detail = value
    context = value.get("requestContext")
    if (put := _put(value)) is not None:
        entry, detail = put
        source, detail_type, resources = entry.source, entry.detail_type, entry.resources
    elif _is_table(context) and isinstance(context.get("condition"), str):
        outcome = "Success" if context["condition"] == "Success" else "Failure"
        source, detail_type = "lambda", f"Lambda Function Invocation Result - {outcome}"
        resources = [home.bus_arn(bus), str(context.get("functionArn", ""))]
    else:
        source, detail_type, resources = "eventfn", "Record", [home.bus_arn(bus)]
    return envelope(
        event_id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"eventfn:{bus}:{record_id}")),
        detail_type=detail_type,
        source=source,
        time_ms=sent_ms,
        resources=resources,
        detail=detail,
        home=home,
    )


def _put(value: dict[str, Any]) -> tuple[_Put, dict[str, Any]] | None:
    """The entry and its detail, if it is one."""
    try:
        entry = msgspec.convert(value, _Put)
        return entry, read(entry.detail.encode())
    except ValueError:
        return None


def envelope(
    *,
    event_id: str,
    detail_type: str,
    source: str,
    time_ms: int,
    resources: list[str],
    detail: dict[str, Any] | msgspec.Raw,
    home: Home,
) -> Event:
    return {
        "version": "0",
        "id": event_id,
        "detail-type": detail_type,
        "source": source,
        "account": home.account,
        "time": iso(time_ms),
        "region": home.region,
        "resources": resources,
        "detail": detail,
    }

"""The event of a tick, as EventBridge sends it for a schedule rule.

PURE. Source: Amazon EventBridge, "Scheduled Event" (version, id, detail-type, source, account, time, region, resources,
detail; the time in whole seconds, UTC).
"""

from __future__ import annotations

import datetime
import re
import uuid
from typing import Any

import msgspec


def event_id(source: str, tick: int) -> str:
    """The same tick of the same trigger has the same id, however often it is tried."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"eventfn:{source}:{tick}"))


def scheduled_event(source: str, tick: int, account: str, region: str) -> bytes:
    rule = re.sub(r"[^.\-_A-Za-z0-9]+", "-", source).strip("-")  # the letters that AWS allows in a rule's name
    event: dict[str, Any] = {
        "version": "0",
        "id": event_id(source, tick),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": account,
        "time": datetime.datetime.fromtimestamp(tick, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": region,
        "resources": [f"arn:aws:events:{region}:{account}:rule/{rule}"],
        "detail": {},
    }
    return msgspec.json.encode(event)

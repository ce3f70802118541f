"""Public: what our tests and our users' tests share. In-memory parts, a fake clock, the conformance suites.

Names are loaded when they are asked for: the pytest plugin is imported in every run of pytest beside eventfn, and
the suites import pytest, which a user of the fake clock alone may not have.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventfn.testing.clock import FakeClock
    from eventfn.testing.contexts import (
        MemoryPositions,
        NoQueues,
        Submissions,
        destination_context,
        memory_queues,
        trigger_context,
    )
    from eventfn.testing.destinations import DestinationSuite
    from eventfn.testing.memory import MemoryDestination, MemorySink, MemorySource, MemoryTrigger
    from eventfn.testing.memory_streams import MemoryGroupTrigger, MemoryStream, MemoryStreamTrigger
    from eventfn.testing.pool import InProcessPool
    from eventfn.testing.streams import StreamSuite
    from eventfn.testing.triggers import TriggerSuite
    from eventfn.testing.waiting import eventually

__all__ = [
    "DestinationSuite",
    "FakeClock",
    "InProcessPool",
    "MemoryDestination",
    "MemoryGroupTrigger",
    "MemoryPositions",
    "MemorySink",
    "MemorySource",
    "MemoryStream",
    "MemoryStreamTrigger",
    "MemoryTrigger",
    "NoQueues",
    "StreamSuite",
    "Submissions",
    "TriggerSuite",
    "destination_context",
    "eventually",
    "memory_queues",
    "trigger_context",
]

_HOMES = {
    "DestinationSuite": "destinations",
    "FakeClock": "clock",
    "InProcessPool": "pool",
    "MemoryDestination": "memory",
    "MemoryGroupTrigger": "memory_streams",
    "MemoryPositions": "contexts",
    "MemorySink": "memory",
    "MemorySource": "memory",
    "MemoryStream": "memory_streams",
    "MemoryStreamTrigger": "memory_streams",
    "MemoryTrigger": "memory",
    "NoQueues": "contexts",
    "StreamSuite": "streams",
    "Submissions": "contexts",
    "TriggerSuite": "triggers",
    "destination_context": "contexts",
    "eventually": "waiting",
    "memory_queues": "contexts",
    "trigger_context": "contexts",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

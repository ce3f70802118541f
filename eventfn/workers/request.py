"""An invocation on its way through the workers: who waits for it, and its times."""

from __future__ import annotations

import msgspec

from eventfn.event import Invocation, ResponseStream
from eventfn.workers.contract import Done
from eventfn.workers.flow import Flow

NEVER = float("inf")  # of a moment


class Request(msgspec.Struct):
    """An invocation in the hands of an environment, or waiting for one."""

    invocation: Invocation
    done: Done
    tail: bytearray | None
    stream: ResponseStream | None = None
    started_ms: int = 0  # since the epoch
    started: float = 0.0  # on the pool's clock
    sent: float = 0.0  # likewise: earlier, if it was sent ahead
    took_ms: float = 0.0  # without its ways there and back, where that is known
    start_due: float = 0.0  # on the machine's monotonic clock, as `deadline`: when START must have been said
    deadline: float = 0.0
    resent: bool = False  # an environment ended before it had begun it
    flow: Flow | None = None  # once it has begun to stream

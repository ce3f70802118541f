"""What a Python handler's environment says at the end of its init, once: that it is ready, or why it never will be."""

from __future__ import annotations

import os
import time
from typing import NoReturn

from eventfn.workers.child import frames, logs, results


def say_ready(first_until: float | None, rest: bytearray, *, ahead: bool = False) -> frames.Frame | None:
    """The first request, if there is one to begin with at once: wire.Own.first_until, and what of it was received.
    `ahead`: it takes others that come while it is at one."""
    if first_until is None:
        frames.write(frames.CHANNEL, frames.join(frames.READY, flag=ahead))
        return None
    request = frames.read_ahead(frames.CHANNEL, rest)
    if request is None:
        os._exit(0)
    logs.flush()  # before the look at the clock: until then nobody has read what was written
    if time.monotonic() >= first_until:
        frames.write(frames.CHANNEL, frames.join(frames.READY, flag=ahead))
        return None
    frames.write(frames.CHANNEL, frames.join(frames.READY, number=request[1], amount=logs.waiting(), flag=ahead))
    return request


def fail(error: Exception) -> NoReturn:
    failure = results.describe(error, "")
    logs.log_failure(failure)
    logs.flush()
    frames.write(frames.CHANNEL, frames.join(frames.INIT_ERROR, failure.header, failure.payload))
    os._exit(1)

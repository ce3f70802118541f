"""What a Python handler's environment says at the end of its init, once: that it is ready, or why it never will be."""

from __future__ import annotations

import os
from typing import NoReturn

from eventfn.workers.child import frames, logs, results


def say_ready() -> None:
    frames.write(frames.CHANNEL, frames.join(frames.READY))


def fail(error: Exception) -> NoReturn:
    failure = results.describe(error, "")
    logs.log_failure(failure)
    logs.flush()
    frames.write(frames.CHANNEL, frames.join(frames.INIT_ERROR, failure.header, failure.payload))
    os._exit(1)

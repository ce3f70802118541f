"""How many wait at the other end of an environment's channel, as far as that is this process's burden.

Whoever writes into a socket wakes all that wait for it, one by one and in his own time. A function has one that waits.
But it may have as many as its descriptors times its threads, by epoll, poll and select: with a quarter of a million
each frame to it takes the supervisor tens of milliseconds in which nobody else is served, and no limit of the kernel's
is low enough. So from time to time a frame is sent that says nothing, and what it has cost is looked at.
"""

from __future__ import annotations

import os
import time

from eventfn.workers import wire

_MOST = 0.002  # seconds of the processor for one frame, which takes 5 us
_TIMES = 3  # in a row: an interrupt may have come in between
_SAYS_NOTHING = wire.room(0, 0)  # of no request


def are_too_many(channel: int) -> bool:
    """`channel` has no half of a frame in it. Raises OSError."""
    for _ in range(_TIMES):
        began = time.thread_time()
        os.write(channel, _SAYS_NOTHING)
        if time.thread_time() - began < _MOST:
            return False
    return True

"""How many wait at the other end of an environment's channel, as far as that is this process's burden.

Whoever writes into a socket wakes all that wait for it, one by one and in his own time. A function has one that waits.
But it may have as many as its descriptors times its threads, by epoll, poll and select: with a quarter of a million
each frame to it takes the supervisor tens of milliseconds in which nobody else is served, and no limit of the kernel's
is low enough. So from time to time a frame is written at once, and what that has cost is looked at.
"""

from __future__ import annotations

import os
import time

from eventfn.event import Buffer

_MOST = 0.002  # seconds of the processor for one frame, which takes 5 us
_TIMES = 3  # in a row: an interrupt may have come in between


class Waiters:
    def __init__(self) -> None:
        self._slow = 0  # frames in a row

    @property
    def suspected(self) -> bool:
        """The next frame is to be measured too."""
        return self._slow > 0

    @property
    def are_too_many(self) -> bool:
        return self._slow >= _TIMES

    def write(self, channel: int, frame: Buffer) -> Buffer:
        """What of it is left to write. It may be that all is, and that the channel is at its end."""
        began = time.thread_time()
        try:
            written = os.write(channel, frame)
        except OSError:
            return frame
        self._slow = self._slow + 1 if time.thread_time() - began >= _MOST else 0
        return frame[written:]

"""The right to begin a request that the supervisor has sent.

It sends a quick function some requests ahead, and takes back those that would wait too long; and what an environment
had not begun when it ended, somebody else is given. Who of the two has one is decided by the kernel: the gate is an
eventfd, whose number is how many requests were begun, and one more. The environment takes the number, and puts it back
greater by one, before it begins the next; when the supervisor has taken it, nothing is begun until a request comes that
opens the gate again. The supervisor never writes to it: a write could be made to wait (workers/gate.py).
"""

from __future__ import annotations

import os

GATE = 5  # its descriptor in an environment: sandbox/descriptors.py
FIRST = 1  # the number of nothing begun


class Gate:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._number = FIRST
        self._holds_back = True

    def open(self) -> None:
        """For the one that is begun with it."""
        self._holds_back = False
        self._number += 1
        os.eventfd_write(self._descriptor, self._number)

    def passes(self, *, ahead: bool) -> bool:
        """Whether the next one may be begun: it is, then. One that did not come `ahead` ends what `hold_back` began."""
        if ahead and self._holds_back:
            return False
        self._holds_back = False
        try:
            self._number = os.eventfd_read(self._descriptor) + 1
        except BlockingIOError:
            self._holds_back = True
            return False
        os.eventfd_write(self._descriptor, self._number)
        return True

    def hold_back(self) -> None:
        """Nothing that has come ahead until now is begun: the supervisor takes it back by itself."""
        self._holds_back = True

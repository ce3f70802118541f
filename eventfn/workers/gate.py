"""The supervisor's hold on what it has sent an environment ahead: child/gate.py says how.

The eventfd is the function's as well, which may do with it as it likes. So it is only ever read, and each read says for
itself that it must not wait: the descriptor's own flag is shared, and could be changed in there.
"""

from __future__ import annotations

import functools
import os
import sys

_NUMBER = 8  # bytes


class Gate:
    """Shut, until the environment opens it. `close` when both sides are done. Raises OSError."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def shut(self) -> int | None:
        """How many of those that came ahead were begun in all: no other one will be. None: not now, as it is shut
        already, or one is just being begun."""
        number = bytearray(_NUMBER)
        try:
            os.preadv(self.descriptor, [number], -1, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        return int.from_bytes(number, sys.byteorder) - 1

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


@functools.cache
def is_possible() -> bool:
    """Whether the kernel has a read of it that does not wait, as Linux has since 5.8."""
    try:
        gate = Gate()
    except OSError:
        return False
    try:
        gate.shut()
    except OSError:
        return False
    finally:
        gate.close()
    return True

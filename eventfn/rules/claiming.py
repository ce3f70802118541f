"""How many of a function's events are claimed before they have a place to run. PURE.

Claims and settlements share their commits, so a function that is done sooner than a commit would wait for one after the
other. What is claimed ahead waits on this node, and a node that dies has counted an attempt of it: so it is no more
than what begins in the twinkling of an eye.
"""

from __future__ import annotations


class ClaimAhead:
    """None until something has run."""

    SECONDS = 0.05  # in which all of them begin
    MOST = 128
    FORGOTTEN = 0.97  # of the slowest, with every event after it

    def __init__(self) -> None:
        self._slowest: float | None = None

    def took(self, seconds: float) -> None:
        """From its start to its end, what it waited for an environment included."""
        self._slowest = seconds if self._slowest is None else max(seconds, self._slowest * self.FORGOTTEN)

    def events(self, places: int) -> int:
        """`places`: how many run at once."""
        if self._slowest is None:
            return 0
        return min(int(self.SECONDS * places / max(self._slowest, 1e-6)), self.MOST)

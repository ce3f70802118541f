"""How quickly a function answers, and what follows from it: how many of its environments are worth waking, and how many
requests one of them is sent ahead. PURE.

A function that answers within milliseconds computes, and one more busy environment only shares the same cores. One
that answers within a fraction of that costs less than waking somebody to run it: then requests are sent ahead, and
system calls, wake-ups and cold caches are paid once for several.
"""

from __future__ import annotations

# A function that answers within this computes; a slower one mostly waits, and costs no cache.
_QUICK_MS = 5.0
_AHEAD_MS = 1.0  # of computing that a request is sent behind, at most
_TOGETHER_MS = 0.25  # of it, before another environment is woken
_MOST_AHEAD = 16
_LEAST_MS = 0.001


class Pace:
    """`quick` of any function; `ahead` and `together` are numbers of requests."""

    def __init__(self) -> None:
        self._typical_ms = self._least = self._most = float("inf")
        self.quick = False
        self.ahead = 0
        self.together = 0

    def answered(self, milliseconds: float) -> None:
        # The least of late, and not the mean: on a busy machine an answer may take any time, and a few are still quick.
        typical = self._typical_ms * 1.03 + 0.01
        if milliseconds < typical:
            typical = milliseconds
        self._typical_ms = typical
        if typical < self._least or typical > self._most:  # else what follows is much the same
            self._decide(typical)

    def _decide(self, typical: float) -> None:
        self._least, self._most = typical * 0.95, typical * 1.05
        self.quick = typical <= _QUICK_MS
        typical = max(typical, _LEAST_MS)
        self.ahead = min(int(_AHEAD_MS / typical), _MOST_AHEAD)
        self.together = min(int(_TOGETHER_MS / typical), _MOST_AHEAD)

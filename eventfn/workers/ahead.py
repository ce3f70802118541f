"""The requests that an environment was sent ahead, in order: which are begun, and which can be taken back. PURE.

The environment begins the first when it has answered the request before it. So an answer says that the next one's turn
has come, and what the gate says (child/gate.py) is never less than the answers that are still on their way.
"""

from __future__ import annotations

from collections import deque
from typing import TypeVar

T = TypeVar("T")


class Ahead(deque[tuple[int, T]]):
    """Numbered requests. A deque, since it is asked several times for each request how many there are."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = 0  # of all that have to pass the gate: those whose turn has come
        self._latest = 0  # the number of the last one of them

    def add(self, number: int, request: T) -> None:
        self.append((number, request))

    def begin_alone(self, number: int) -> None:
        """With nothing before it: it is its turn as soon as it is sent. Kept elsewhere."""
        self._begun += 1
        self._latest = number

    def begin(self) -> tuple[int, T]:
        """The request before it is answered."""
        self._begun += 1
        self._latest, request = self.popleft()
        return self._latest, request

    def take_back(self, passed: int) -> list[T]:
        """What is not begun, by the gate's number, which the environment may have made up. The first one first."""
        at_work = min(max(passed - self._begun, 0), len(self))
        return [self.pop()[1] for _ in range(len(self) - at_work)][::-1]

    def held_up(self, passed: int | None) -> int:
        """The number of the one whose turn has come, by `begin`, and which the gate has not let pass; 0: there is none.
        `passed` is the gate's number; None: the environment ended just when one was passing."""
        if self._begun and (passed is None or passed < self._begun):
            self._begun -= 1
            return self._latest
        return 0

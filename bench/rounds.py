"""How often and how long to measure, and taking turns."""

from __future__ import annotations

import math
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

T = TypeVar("T")


class Plan(msgspec.Struct, frozen=True):
    """`rounds` measurements of everything, each of about `seconds`."""

    rounds: int = 5
    seconds: float = 1.0

    def count(self, per_second: int) -> int:
        """A load that is a number of things: so many that they take about `seconds`, at least one."""
        return max(1, round(per_second * self.seconds))

    @property
    def whole_seconds(self) -> int:
        """wrk knows no fractions."""
        return max(1, math.ceil(self.seconds))


async def interleaved(measures: Mapping[str, Callable[[], Awaitable[T]]], rounds: int) -> dict[str, list[T]]:
    """Each measure once per round, in turn: whatever disturbs the machine meanwhile disturbs all of them."""
    found: dict[str, list[T]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            found[name].append(await measure())
    return found


def medians(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: statistics.median(figures) for name, figures in found.items()}

"""The table: one line for each figure and each thing it stands beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from bench.targets import TARGETS, Target

Better = Literal["more", "less"]
OURS = "eventfn"  # the name of our own figure among those measured
_MET = {None: "", True: "yes", False: "**no**"}


class Row(msgspec.Struct, frozen=True):
    """One comparison. `better` says which way is good; `ratio` is eventfn's figure over the other's. What could not be
    measured here is None, and `beside` says why."""

    what: str
    unit: str
    ours: float
    beside: str
    theirs: float | None
    better: Better

    @property
    def ratio(self) -> float | None:
        return self.ours / self.theirs if self.theirs else None

    @property
    def target(self) -> Target | None:
        return TARGETS.get((self.what, self.beside))

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.target.met(self.ours, self.ratio)

    def as_json(self) -> dict[str, Any]:
        """Everything that the table shows, for other programs."""
        return msgspec.structs.asdict(self) | {"ratio": self.ratio, "target": self.target, "met": self.met}


def rows(what: str, unit: str, better: Better, figures: Mapping[str, float]) -> list[Row]:
    """`figures`: eventfn's under OURS, and what it stands beside by name."""
    return [Row(what, unit, figures[OURS], name, figure, better) for name, figure in figures.items() if name != OURS]


def markdown(found: Sequence[Row]) -> str:
    """Where nothing is to be reached, it says which way is good."""
    lines = ["| what | eventfn | beside, in the same run | ratio | to reach | met |", "|---|---:|---|---:|---|---|"]
    for row in found:
        beside = row.beside if row.theirs is None else f"{row.beside}: {_figure(row.theirs)} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        to_reach = row.better if row.target is None else row.target.text(row.unit)
        ours = f"{_figure(row.ours)} {row.unit}"
        lines.append(f"| {row.what} | {ours} | {beside} | {ratio} | {to_reach} | {_MET[row.met]} |")
    return "\n".join(lines)


def _figure(value: float) -> str:
    """Three digits that mean something: 12,345 is 12,300."""
    if value >= 100:
        digits = len(str(int(value)))
        return f"{round(value, 3 - digits):,.0f}"
    return f"{value:.3g}"

"""Which walls are said to stand in which tier."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest

from eventfn.sandbox.walls import Tier, of

ALWAYS = {"processes", "environment", "descriptors", "privileges", "limits"}
CONFINED = ALWAYS | {"files", "network", "memory access", "signals", "system calls"}
NAMESPACES = CONFINED | {"full sandbox", "file modes", "own /tmp", "process list", "daemons", "process count"}
CGROUPS = {"process count", "total memory", "CPU share"}


def enforced(tier: Tier, *controllers: str, abi: int = 7, kills: bool = False, root: bool = False) -> set[str]:
    walls = of(tier, "why", abi, controllers, "none here", kills=kills, root=root)
    return {wall.name for wall in walls if wall.enforced}


def test_what_stands_in_each_tier() -> None:
    assert enforced("none") == ALWAYS | {"memory access"}
    assert enforced("none", root=True) == ALWAYS
    assert enforced("landlock", root=True) == CONFINED
    assert enforced("landlock", abi=5) == CONFINED - {"signals"}
    assert enforced("landlock", kills=True) == CONFINED | {"daemons"}
    assert enforced("full") == NAMESPACES
    assert enforced("full", abi=1) == NAMESPACES
    assert enforced("full", "memory", "cpu", "pids") == NAMESPACES | CGROUPS


@pytest.mark.parametrize(
    ("controller", "wall"), [("memory", "total memory"), ("cpu", "CPU share"), ("pids", "process count")]
)
def test_what_each_controller_adds(controller: str, wall: str) -> None:
    assert enforced("landlock", controller) == CONFINED | {wall}


def test_each_has_a_line_and_what_does_not_stand_says_why() -> None:
    for tier, root in itertools.product(get_args(Tier), (False, True)):
        walls = of(tier, "the call failed", 3, (), "no controller", kills=False, root=root)
        assert len({wall.name for wall in walls}) == len(walls)
        assert all(wall.meaning and "\n" not in wall.meaning for wall in walls)
        by_name = {wall.name: wall for wall in walls}
        assert "no controller" in by_name["total memory"].meaning
        assert ("the call failed" in by_name["full sandbox"].meaning) == (tier != "full")

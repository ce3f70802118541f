"""Every attack in every tier, as root and as an ordinary user: as far as this machine has them."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator

import pytest

from tests.sandbox.attacks.stage import Stage

_PR_SET_CHILD_SUBREAPER = 36
STAGES = list(itertools.product(("full", "landlock"), ("root", "ordinary user")))


@pytest.fixture(scope="session")
def orphans_come_here() -> Iterator[None]:
    """What loses its parent, since a supervisor died or a daemon left it, becomes a child of this process."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture(scope="session", params=STAGES, ids=" as ".join)
def stage(request: pytest.FixtureRequest, orphans_come_here: None) -> Iterator[Stage]:
    tier, who = request.param
    ready = Stage(tier, who)
    yield ready
    ready.close()

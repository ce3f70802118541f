"""Every attack in every tier, as root and as an ordinary user: as far as this machine has them."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator

import pytest

from tests.sandbox.attacks.stage import Stage

_PR_SET_CHILD_SUBREAPER = 36
STAGES = list(itertools.product(("full", "landlock"), ("root", "ordinary user")))


@pytest.fixture
def orphans_come_here() -> Iterator[None]:
    """What loses its parent, since a supervisor died or a daemon left it, becomes a child of this process. Not for
    longer than a test: those of other folders that run in it have orphans too, and nobody who waits for them."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class Stages:
    """One for each place, until an attack has got through: the next one finds another."""

    def __init__(self) -> None:
        self._ready: dict[tuple[str, str], Stage] = {}

    def get(self, place: tuple[str, str]) -> Stage:
        if place not in self._ready:
            self._ready[place] = Stage(*place)
        return self._ready[place]

    def drop(self, place: tuple[str, str]) -> None:
        self._ready.pop(place).close()

    def close(self) -> None:
        for place in list(self._ready):
            self.drop(place)


@pytest.fixture(scope="session")
def stages() -> Iterator[Stages]:
    ready = Stages()
    yield ready
    ready.close()


@pytest.fixture(scope="session", params=STAGES, ids=" as ".join)
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def stage(place: tuple[str, str], stages: Stages, orphans_come_here: None) -> Iterator[Stage]:
    ready = stages.get(place)
    ready.unharmed = False
    yield ready
    if not ready.unharmed:
        stages.drop(place)

"""What holds for all tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import settings

from eventfn.sandbox.cgroups import Cgroups, NoCgroups

# No test asserts how long something takes: machines are noisy, and a slow example is no wrong one.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def no_cgroups_of_killed_nodes_are_left() -> Iterator[None]:
    """The next node would remove them, and the tests that kill nodes are not always followed by one."""
    yield
    with contextlib.suppress(NoCgroups):
        Cgroups.find().close()

"""What holds for all tests."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from eventfn.sandbox.cgroups import Cgroups, NoCgroups

# No test asserts how long something takes: machines are noisy, and a slow example is no wrong one.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Read by now. Tests start pytests of their own, whose options and last lines are not for whoever started this one.
os.environ.pop("PYTEST_ADDOPTS", None)


@pytest.fixture(scope="session", autouse=True)
def no_cgroups_of_killed_nodes_are_left() -> Iterator[None]:
    """The next node would remove them, and the tests that kill nodes are not always followed by one."""
    yield
    with contextlib.suppress(NoCgroups):
        Cgroups.find().close()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`pytest -n 2`: file after file goes to whichever process has time. The files of some folders stay together, in
    their order: they share a server that takes seconds to start, or a supervisor under attack that knows what is its
    own by who was there before."""
    scheduler = importlib.import_module("xdist.scheduler").LoadScopeScheduling(config, log)
    scheduler._split_scope = _stays_together_as
    return scheduler


_TOGETHER = ("tests/connectors/", "tests/aws/", "tests/sandbox/attacks/")


def _stays_together_as(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    return file.rpartition("/")[0] if file.startswith(_TOGETHER) else file

"""What holds for all tests."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from eventfn.sandbox.cgroups import Cgroups, NoCgroups

# No test asserts how long something takes: machines are noisy, and a slow example is no wrong one.
settings.register_profile("untimed", deadline=None)
settings.register_profile("brief", deadline=None, max_examples=20)  # for one more interpreter
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
def pytest_xdist_auto_num_workers() -> int:
    """`pytest -n auto`: two processes for each core. What tests wait for, others do, and much of it with a deadline."""
    return 2 * len(os.sched_getaffinity(0))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """File after file goes to whichever process has time. The files of some folders stay together, in their order: they
    share a server that takes seconds to start, or a supervisor under attack that knows what is its own by who was there
    before."""
    config.option.loadscopereorder = False  # they come in order
    scheduler = importlib.import_module("xdist.scheduler").LoadScopeScheduling(config, log)
    scheduler._split_scope = _stays_together_as
    return scheduler


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a process of pytest-xdist's: what takes minutes goes first, and then what has most tests, so that at the end
    none works alone."""
    if not hasattr(config, "workerinput"):
        return
    tests = Counter(_stays_together_as(item.nodeid) for item in items)
    first = {scope: number for number, scope in enumerate(_LONGEST)}

    def turn(item: pytest.Item) -> tuple[int, int, str]:
        scope = _stays_together_as(item.nodeid)
        return first.get(scope, len(first)), -tests[scope], scope

    items.sort(key=turn)


_TOGETHER = ("tests/connectors/", "tests/aws/", "tests/sandbox/attacks/")
# Each took more than half a minute by itself, most of them many times what their number of tests says.
_LONGEST = (
    "tests/connectors/aws_sqs",
    "tests/connectors/aws_s3",
    "tests/connectors/kafka",
    "tests/aws",
    "tests/sandbox/attacks",
    "tests/api/test_fuzz.py",
    "tests/connectors/aws_sns",
    "tests/connectors/aws_kinesis",
    "tests/connectors/amqp",
    "tests/examples/test_examples.py",
    "tests/api/test_mappings.py",
    "tests/workers/test_sent_ahead.py",
    "tests/workers/test_streaming.py",
    "tests/workers/test_snapshots.py",
    "tests/workers/test_external.py",
    "tests/workers/runtimes/test_node.py",
    "tests/connectors/postgres",
    "tests/connectors/mqtt",
    "tests/bench/test_bench.py",
    "tests/faults/test_killed_supervisor.py",
    "tests/faults/test_killed_workers.py",
    "tests/faults/test_overload.py",
    "tests/workers/test_relay.py",
    "tests/workers/test_faults.py",
    "tests/faults/test_fairness.py",
    "tests/engine/test_crash.py",
    "tests/cli/test_new.py",
    "tests/workers/test_rest.py",
    "tests/connectors/bus",
    "tests/connectors/aws_dynamodb",
    "tests/connectors/nats",
    "tests/api/test_durable.py",
)


def _stays_together_as(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    return file.rpartition("/")[0] if file.startswith(_TOGETHER) else file

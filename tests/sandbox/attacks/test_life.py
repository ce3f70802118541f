"""Attacks on the end: to be there still when the environment, or the supervisor, is not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests import processes
from tests.sandbox.attacks.attack import Attack
from tests.sandbox.attacks.conftest import STAGES
from tests.sandbox.attacks.stage import Stage
from tests.support import PATIENCE

_DAEMON = """
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(1, 32):
                with contextlib.suppress(OSError):
                    signal.signal(number, signal.SIG_IGN)
            while True:
                time.sleep(100)
        os._exit(0)
    os.wait()
    return 'done'
"""


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_daemon_is_gone_with_its_environment(stage: Stage) -> None:
    stage.deploy("daemon", _DAEMON)
    assert stage.invoke("daemon", stage.machine) == "done"
    stage.ask("retire", name="daemon")
    if not stage.walls["daemons"]:
        (left,) = stage.strays()
        assert processes.name_of(left) == "fn:daemon"
        os.kill(left, signal.SIGKILL)
        until(lambda: not processes.alive(left))
        os.waitpid(left, 0)
    stage.is_unharmed()


def test_what_stays_in_its_group_is_gone_too(stage: Stage) -> None:
    code = "forks(5)\nos._exit(0)"
    exited = "Runtime.ExitError: Runtime exited without providing a reason"
    stage.stands_up_to(Attack("children", "processes", code, exited))


def test_it_cannot_outlive_the_supervisor_by_its_own_will(stage: Stage) -> None:
    code = """
    death = ctypes.c_int()
    libc.prctl(2, ctypes.byref(death), 0, 0, 0)
    taken_back = [libc.prctl(1, number, 0, 0, 0) for number in (0, signal.SIGTERM, signal.SIGCONT)]
    return [death.value, taken_back]
    """
    signalled = 0 if stage.tier == "full" else signal.SIGKILL  # where it is its init that goes, and all with it
    stage.stands_up_to(Attack("pdeathsig", "processes", code, [signalled, [-1] * 3]))


@pytest.fixture(params=STAGES, ids=" as ".join)
def doomed(request: pytest.FixtureRequest, orphans_come_here: None) -> Iterator[Stage]:
    """A stage of its own, since its supervisor is killed."""
    tier, who = request.param
    ready = Stage(tier, who)
    yield ready
    ready.close()


def test_nothing_outlives_a_killed_supervisor(doomed: Stage) -> None:
    how = {
        "spinning": "while True:\n    pass",
        "stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
        "deaf": "for number in range(1, 32):\n    with contextlib.suppress(OSError):\n"
        "        signal.signal(number, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(100)",
        "parent": "forks(2)\nprint('parent', flush=True)\ntime.sleep(100)",
        "daemon": _DAEMON,
    }
    for name, code in how.items():
        doomed.deploy(name, code)
        doomed.begin("invoke", name=name, event=doomed.machine)
    supervisor = doomed.process.pid
    expected = 8  # a handler each, and three that two of them have started
    functions = [f"fn:{name}" for name in how]

    def running() -> set[int]:
        everybody = processes.descendants_of(supervisor) | processes.children_of(os.getpid())
        return {pid for pid in everybody if processes.name_of(pid) in functions}

    until(lambda: len(running()) == expected)
    before = processes.descendants_of(supervisor) | running()
    victim = doomed.machine["victim"]
    doomed.kill()
    os.kill(victim, signal.SIGKILL)  # the machine's, not a function's
    if doomed.walls["daemons"]:
        until(lambda: not any(processes.alive(pid) for pid in before))
        return
    # What a function has started is nobody's there; handlers, zygote and blank environments are the supervisor's.
    until(lambda: len([pid for pid in before if processes.alive(pid)]) == 3)
    assert sorted(processes.name_of(pid) for pid in before if processes.alive(pid)) == ["fn:daemon", *["fn:parent"] * 2]

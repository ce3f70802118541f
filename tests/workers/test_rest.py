"""Between two requests: environments that have nothing to do stand still, and go on as if nothing had been."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from eventfn.clock import SystemClock
from eventfn.sandbox.probe import Sandbox
from eventfn.sandbox.walls import Tier
from eventfn.units import Duration, Megabytes
from tests.processes import descendants_of, handlers, parent_of, state_of

from .conftest import Workbench, until, workbench

BUSY_BEHIND_ITS_BACK = """
import os, signal, subprocess, threading, time
counted = 0
def count():
    global counted
    while True:
        counted += 1
        time.sleep(0.0001)
threading.Thread(target=count, daemon=True).start()
child = os.fork()
if child == 0:
    os.setsid()
    while True:
        time.sleep(0.0001)
def handler(event, context):
    before = counted
    while counted == before:
        time.sleep(0.0001)
    return [before, counted]
"""


def used_by(pid: int) -> list[str]:
    """What the kernel has counted of a process's turns on a CPU, of all its threads."""
    return [
        line
        for task in Path(f"/proc/{pid}/task").iterdir()
        for line in (task / "status").read_text().splitlines()
        if "ctxt_switches" in line
    ]


def of_environment(name: str) -> set[int]:
    (handler,) = handlers(os.getpid(), name)
    return descendants_of(parent_of(handler))


async def at_rest(pids: set[int]) -> list[list[str]]:
    """What they have used, once it is the same at ten looks in a row. A process is seen as stopped a moment before it
    leaves its processor, which counts as one more switch; on a busy machine the moment may be a long one."""
    seen: list[list[list[str]]] = []

    def steady() -> bool:
        seen.append([used_by(pid) for pid in pids])
        return len(seen) >= 10 and all(look == seen[-1] for look in seen[-10:])

    await until(steady)
    return seen[-1]


async def test_nothing_of_an_idle_environment_runs(bench: Workbench) -> None:
    bench.deploy("fn", BUSY_BEHIND_ITS_BACK)
    bench.deploy("clock", "import time\ndef handler(event, context): time.sleep(event)")
    for _ in range(3):
        _, counted = await bench.result("fn")
        everybody = of_environment("fn")
        assert len(everybody) == 2, "the handler, and what it has forked into a session of its own"
        await until(lambda: all(state_of(pid) == "T" for pid in everybody))  # noqa: B023 - asked in this turn
        before = await at_rest(everybody)
        await bench.result("clock", 0.2)
        assert [used_by(pid) for pid in everybody] == before
        again, _ = await bench.result("fn")
        assert again >= counted, "it went on where it was stopped"


async def test_a_busy_environment_is_not_stopped(bench: Workbench) -> None:
    bench.deploy("fn", "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event")
    assert await bench.result("fn", 0) == 0
    (handler,) = handlers(os.getpid(), "fn")
    await until(lambda: state_of(handler) == "T")
    answer = bench.begin("fn", 0.5)
    await until(lambda: state_of(handler) == "S")
    seen = set()
    while not answer.done():
        seen.add(state_of(handler))
        await asyncio.sleep(0)
    assert "T" not in seen


async def test_without_an_init_the_process_group_stands_still(tmp_path: Path, sandbox: Sandbox) -> None:
    async with workbench(tmp_path, SystemClock(), sandbox.lowered("landlock")) as bench:
        bench.deploy("fn", "import os\nchild = os.fork() or os.read(os.pipe()[0], 1)\ndef handler(e, c): return e")
        for number in range(3):
            assert await bench.result("fn", number) == number
            (handler,) = handlers(os.getpid(), "fn")
            everybody = {handler, *descendants_of(handler)}
            assert len(everybody) == 2
            await until(lambda: all(state_of(pid) == "T" for pid in everybody))  # noqa: B023 - asked in this turn


FORKS = """
import os, subprocess
def handler(event, context):
    pids = []
    for _ in range(3):
        if (pid := os.fork()) == 0:
            os._exit(0)
        pids.append(pid)
    if os.fork() == 0:
        for _ in range(20):
            if os.fork() == 0:
                os._exit(0)
            os.wait()
        os._exit(0)
    for pid in pids:
        os.waitpid(pid, 0)
    return event
"""


@pytest.mark.parametrize("tier", ["full", "landlock"])
async def test_stopped_while_it_forks_it_still_answers(tmp_path: Path, sandbox: Sandbox, tier: Tier) -> None:
    """Stopped and continued on purpose, at every moment of forks that go on behind the answer."""
    async with workbench(tmp_path, SystemClock(), sandbox.lowered(tier)) as bench:
        bench.deploy("fn", FORKS, timeout=Duration(50), memory_size=Megabytes(3538))  # two CPUs
        await bench.result("fn", 0)
        (environment,) = bench.pool._environments
        for number in range(150):
            process = environment.process
            assert process is not None
            process.freeze()
            environment._frozen = True
            assert await bench.result("fn", number) == number

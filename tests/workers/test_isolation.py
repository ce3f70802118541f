"""What one function has never reaches another one, and nothing outlives the supervisor."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import sys
import uuid
from pathlib import Path

import pytest

from .conftest import Workbench, alive, children, until


def memory(pid: int) -> bytes:
    """All private memory of a process."""
    parts = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as data:
        for line in maps:
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found:
                start, end = int(found[1], 16), int(found[2], 16)
                data.seek(start)
                parts.append(data.read(end - start) or b"")
    return b"".join(parts)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into processes that hide their memory")
async def test_events_and_variables_of_one_function_are_in_no_other_process(bench: Workbench) -> None:
    event, variable = uuid.uuid4().hex, uuid.uuid4().hex
    code = "import os\nseen = []\ndef handler(event, context):\n    seen.append(event)\n    return os.getpid()\n"
    bench.deploy("first", code, environment={"SECRET": variable})
    bench.deploy("second", code)
    first = await bench.result("first", {"secret": event})
    second = await bench.result("second", {"secret": "none"})
    (zygote,) = [
        pid for pid in children() - {first, second} if b"zygote.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    has = memory(first)
    assert event.encode() in has, "the test looks in the wrong place"
    assert variable.encode() in has
    for pid in (second, zygote):
        others = memory(pid)
        assert len(others) > 1_000_000
        assert event.encode() not in others
        assert variable.encode() not in others
    environ = Path(f"/proc/{first}/environ").read_bytes()
    assert b"LANG=C.UTF-8" in environ
    assert variable.encode() not in environ


SUPERVISOR = """
import asyncio, os, sys, uvloop
from eventfn.clock import SystemClock
from eventfn.event import Invocation
from eventfn.functions.model import Function, Workers
from eventfn.workers.contract import Prepared
from eventfn.workers.pool import WorkerPool
from eventfn.workers.runtimes import python

class Sink:
    def write(self, function, stream, timestamp_ms, message):
        if message.startswith("pid "):
            print(message.split()[1], flush=True)

    def write_all(self, function, stream, messages):
        pass

async def main(root):
    pool = WorkerPool(Workers(), SystemClock(), Sink())
    await pool.start()
    function = Function(name="spin", handler="main.handler", code=root, timeout=60.0)
    found = python.find(function)
    pool.deploy(Prepared(function=function, arn="", version="1", task_root=root,
                         interpreter=found.path, runtime=found.runtime))
    for how in ("spin", "sleep", "grandchild"):
        pool.invoke(Invocation(how, "spin", b'"%s"' % how.encode(), ""), print)
    await asyncio.Event().wait()

uvloop.run(main(sys.argv[1]))
"""


async def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "import os, time\n"
        "def handler(event, context):\n"
        "    print('pid', os.getpid())\n"
        "    while event == 'spin': pass\n"
        "    time.sleep(600)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISOR, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    pids = [int(await process.stdout.readline()) for _ in range(3)]
    task = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    everything = {int(pid) for pid in task.read_text().split()}
    assert len(everything) == 4, "three environments and a zygote"
    assert everything > set(pids)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await until(lambda: not any(alive(pid) for pid in everything))


PEEK = """
import os
def handler(event, context):
    try:
        os.open(f"/proc/{event}/mem", os.O_RDWR)
    except PermissionError:
        return "refused"
    return "opened"
"""


async def test_the_supervisor_hides_its_memory(bench: Workbench) -> None:
    bench.deploy("fn", PEEK)
    dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
    assert dumpable == 0
    expected = "opened" if os.geteuid() == 0 else "refused"  # as sandbox.probe says of root
    assert await bench.result("fn", os.getpid()) == expected

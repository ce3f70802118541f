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

from tests.processes import adopted, alive, descendants_of, handlers, parent_of, zygote

from .conftest import Workbench, until


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
    not_the_pools = descendants_of(os.getpid())  # of other tests, whose fixtures live on
    event, variable = uuid.uuid4().hex, uuid.uuid4().hex
    code = "from who import ME\nseen = []\ndef handler(event, context):\n    seen.append(event)\n    return ME\n"
    bench.deploy("first", code, environment={"SECRET": variable})
    bench.deploy("second", code)
    first = bench.process_of(await bench.result("first", {"secret": event}))
    second = bench.process_of(await bench.result("second", {"secret": "none"}))
    has = memory(first)
    assert event.encode() in has, "the test looks in the wrong place"
    assert variable.encode() in has
    others = {pid for pid in descendants_of(os.getpid()) - not_the_pools if alive(pid)} - {first}
    # Also the inits of both, and the sandboxes that stand ready.
    assert others > {second, zygote(os.getpid()), parent_of(first), parent_of(second)}
    for pid in others:
        found = memory(pid)
        assert len(found) > 1_000_000
        assert event.encode() not in found
        assert variable.encode() not in found
    environ = Path(f"/proc/{first}/environ").read_bytes()
    assert b"LANG=C.UTF-8" in environ
    assert variable.encode() not in environ


SUPERVISOR = """
import asyncio, sys, uvloop
from eventfn.clock import SystemClock
from eventfn.event import Invocation
from eventfn.functions.model import Function, Workers
from eventfn.sandbox.probe import Probe
from eventfn.workers.contract import Prepared
from eventfn.workers.pool import WorkerPool
from eventfn.workers.runtimes import python

class Sink:
    def write(self, function, stream, timestamp_ms, message):
        if message == "in":
            print(message, flush=True)

    def write_all(self, function, stream, lines):
        pass

async def main(root):
    pool = WorkerPool(Workers(), SystemClock(), Sink())
    await pool.start(Probe().sandbox())
    function = Function(name="spin", handler="main.handler", code=root, timeout=60.0)
    found = python.find(function)
    pool.deploy(Prepared(function=function, arn="", version="1", task_root=root,
                         interpreter=found.path, runtime=found.runtime))
    for how in ("spin", "sleep", "daemon"):
        pool.invoke(Invocation(how, "spin", b'"%s"' % how.encode(), ""), print)
    await asyncio.Event().wait()

uvloop.run(main(sys.argv[1]))
"""


async def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "main.py").write_text(
        "import os, time\n"
        "def handler(event, context):\n"
        "    if event == 'daemon' and os.fork() == 0:\n"
        "        os.setsid()\n"
        "        time.sleep(600)\n"
        "    print('in')\n"
        "    while event == 'spin': pass\n"
        "    time.sleep(600)\n"
    )
    with adopted() as orphans:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SUPERVISOR, str(code), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(3):
            await process.stdout.readline()
        everything = descendants_of(process.pid)
        assert len(handlers(process.pid, "spin")) == 3
        assert len(everything) >= 3 * 2 + 2, "inits and their handlers, a daemon and a zygote"
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await until(lambda: not any(map(alive, everything)))
        await orphans.gone()  # nor what was being started just then


PEEK = """
import ctypes, errno, os

vm_readv = {"x86_64": 310, "aarch64": 270}[os.uname().machine]
libc = ctypes.CDLL(None, use_errno=True)

def attempt(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def handler(pid, context):
    vector = ctypes.create_string_buffer(16)
    read = libc.syscall(vm_readv, pid, vector, 1, vector, 1, 0)
    return {
        "memory": attempt(os.open, f"/proc/{pid}/mem", os.O_RDWR),
        "variables": attempt(os.open, f"/proc/{pid}/environ", os.O_RDONLY),
        "signal": attempt(os.kill, pid, 0),
        "handle": attempt(os.pidfd_open, pid),
        "process_vm_readv": "done" if read >= 0 else errno.errorcode[ctypes.get_errno()],
        "seen": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "own": [os.getppid(), os.getpid()],
    }
"""


async def test_a_function_sees_and_reaches_no_process_but_its_own(bench: Workbench) -> None:
    bench.deploy("fn", PEEK)
    bench.deploy("other", "from who import ME\ndef handler(event, context): return ME")
    other = bench.process_of(await bench.result("other"))
    for pid in (os.getpid(), other, zygote(os.getpid())):
        answer = await bench.result("fn", pid)
        assert answer.pop("seen") == answer.pop("own"), "its init and itself"
        assert answer == {
            "memory": "ENOENT",
            "variables": "ENOENT",
            "signal": "ESRCH",
            "handle": "ESRCH",
            "process_vm_readv": "EPERM",
        }


async def test_an_environment_is_a_session_of_its_own(bench: Workbench) -> None:
    bench.deploy("fn", "from who import ME\ndef handler(event, context): return ME")
    handler = bench.process_of(await bench.result("fn"))
    assert os.getsid(handler) == os.getpgid(handler) == handler
    init = parent_of(handler)
    assert os.getsid(init) == os.getpgid(init) == init, "a Ctrl-C at the terminal is not for it"


async def test_the_supervisor_hides_its_memory(bench: Workbench) -> None:
    """The second wall before it: no other process of its user can look into it, wherever that one comes from."""
    dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
    assert dumpable == 0

"""snap_start: copies of one environment, each like an environment of its own."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import pytest

from eventfn.clock import SystemClock
from eventfn.sandbox.probe import Sandbox
from eventfn.units import Duration, Megabytes
from tests.processes import alive, children_of, descendants_of, handlers, parent_of, state_of

from .conftest import Workbench, error_of, until, workbench

COUNTED = """
import os, random, ssl, time, uuid
open("/tmp/inits", "a").write("x")
drawn = random.random()
def handler(event, context):
    time.sleep(event or 0)
    return {
        "inits": len(open("/tmp/inits").read()),
        "drawn": drawn,
        "pid": os.getpid(),
        "random": random.random(),
        "ssl": ssl.RAND_bytes(16).hex(),
        "uuid": uuid.uuid4().hex,
        "stream": os.environ["AWS_LAMBDA_LOG_STREAM_NAME"],
        "kind": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"],
    }
"""


def original(name: str) -> int:
    (found,) = handlers(os.getpid(), name)
    return found


def copy(name: str) -> int:
    (found,) = children_of(original(name))
    return found


async def test_copies_have_one_init_and_nothing_secret_in_common(bench: Workbench) -> None:
    bench.deploy("fn", COUNTED, snap_start=True)
    answers = await asyncio.gather(*(bench.result("fn", 0.5) for _ in range(3)))
    assert {answer["inits"] for answer in answers} == {1}
    assert len({answer["drawn"] for answer in answers}) == 1, "what the init has drawn is copied"
    for differs in ("pid", "random", "ssl", "uuid", "stream"):
        assert len({answer[differs] for answer in answers}) == 3, differs
    assert {answer["kind"] for answer in answers} == {"snap-start"}
    assert len(children_of(original("fn"))) == 3
    streams = {stream for _, stream, message in bench.sink.lines if message.startswith("RESTORE_REPORT")}
    assert streams == {answer["stream"] for answer in answers}
    # The next ones draw different numbers too, in the same copies.
    again = await asyncio.gather(*(bench.result("fn", 0.5) for _ in range(3)))
    assert {answer["pid"] for answer in again} == {answer["pid"] for answer in answers}
    assert len({answer["random"] for answer in (*answers, *again)}) == 6


async def test_a_deploy_takes_the_snapshot_before_anybody_asks(bench: Workbench) -> None:
    bench.deploy("fn", "print('init')\ndef handler(event, context): return event", snap_start=True)
    await bench.sink.saw("init")
    await until(lambda: state_of(original("fn")) == "T")
    assert bench.pool.stats("fn").environments == 0
    assert await bench.result("fn", 1) == 1
    assert bench.sink.messages().count("init") == 1


HOOKS = """
import snapshot_restore_py as hooks
happened = []
hooks.register_before_snapshot(happened.append, "before, registered first")
@hooks.register_before_snapshot
def second():
    happened.append("before, registered second")
hooks.register_after_restore(happened.append, "after, registered first")
@hooks.register_after_restore
def fourth():
    happened.append("after, registered second")
def handler(event, context): return happened
"""


async def test_hooks_run_in_lambdas_order(bench: Workbench) -> None:
    bench.deploy("fn", HOOKS, snap_start=True)
    assert await bench.result("fn") == [
        "before, registered second",
        "before, registered first",
        "after, registered first",
        "after, registered second",
    ]


@pytest.mark.parametrize(
    ("hook", "error_type"),
    [
        ("register_before_snapshot", "Runtime.BeforeSnapshotError"),
        ("register_after_restore", "Runtime.AfterRestoreError"),
    ],
)
async def test_a_hook_that_fails_fails_the_request(bench: Workbench, hook: str, error_type: str) -> None:
    bench.deploy(
        "fn",
        f"""
        import snapshot_restore_py
        @snapshot_restore_py.{hook}
        def hook():
            raise ValueError("not today")
        def handler(event, context): return 1
        """,
        snap_start=True,
    )
    outcome = await bench.invoke("fn")
    assert outcome.error_type == error_type
    assert error_of(outcome)["errorMessage"] == "ValueError: not today"


BAD = {
    "os.kill(os.getpid(), signal.SIGKILL)": "Error: Runtime exited with error: signal: killed",
    "os._exit(7)": "Error: Runtime exited with error: exit status 7",
    "sys.exit(3)": "Error: Runtime exited with error: exit status 3",
    "time.sleep(60)": "Error: Task timed out after 1.00 seconds",
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)": "Error: Task timed out after 1.00 seconds",
    "os.write(3, b'x' * 100)": "Error: Runtime sent what is not a response",
}


@pytest.mark.parametrize("deed", BAD)
async def test_a_copy_that_ends_fails_its_own_request_only(bench: Workbench, deed: str) -> None:
    bench.deploy(
        "fn",
        f"""
        import os, signal, sys, time
        print("init")
        def handler(event, context):
            print("in", os.getpid())
            if event == "misbehave":
                if os.fork() == 0:
                    time.sleep(600)    # left behind
                {deed}
            time.sleep(event)
            return os.getpid()
        """,
        snap_start=True,
        timeout=Duration(1),
    )
    beside = bench.begin("fn", 0.8)
    await bench.sink.saw("in ")
    outcome = await bench.invoke("fn", "misbehave")
    assert BAD[deed] in error_of(outcome)["errorMessage"]
    assert (await beside).ok, "another copy"
    (living,) = [msgspec.json.decode((await beside).payload)]
    assert await bench.result("fn", 0) == living
    await until(lambda: len(handlers(os.getpid(), "fn")) == 1)  # what was left behind counts, until it is ended
    first = original("fn")
    await until(lambda: len(children_of(first)) == 1)
    await until(lambda: len(descendants_of(parent_of(first))) == 2)  # nothing was left behind
    both = await asyncio.gather(bench.result("fn", 0.5), bench.result("fn", 0.5))
    assert len(set(both)) == 2, "it is replaced"
    assert bench.sink.messages().count("init") == 1
    assert original("fn") == first


async def test_a_copy_runs_out_of_memory_alone(bench: Workbench, sandbox: Sandbox) -> None:
    if sandbox.cgroups is None or "memory" not in sandbox.cgroups.controllers:
        pytest.skip(sandbox.no_cgroups or "no memory controller")
    bench.deploy(
        "fn",
        """
        import os, time
        def handler(event, context):
            if event == "hungry":
                children = []
                for _ in range(6):
                    if (pid := os.fork()) == 0:
                        held = b"x" * (40 * 1024 * 1024)
                        time.sleep(60)
                    children.append(pid)
                for pid in children:
                    os.waitpid(pid, 0)
            return os.getpid()
        """,
        snap_start=True,
        memory_size=Megabytes(64),
        timeout=Duration(10),
    )
    outcome = await bench.invoke("fn", "hungry")
    assert outcome.error_type == "Runtime.OutOfMemory", outcome
    assert await bench.result("fn")


async def test_the_originals_end_ends_all_copies_and_the_next_invoke_takes_a_new_snapshot(bench: Workbench) -> None:
    bench.deploy(
        "fn",
        """
        import os, time
        print("init")
        def handler(event, context):
            print("handles it")
            time.sleep(event)
            return 1
        """,
        snap_start=True,
        timeout=Duration(60),
    )
    assert await bench.result("fn", 0) == 1
    busy = [bench.begin("fn", 50) for _ in range(2)]
    await until(lambda: bench.sink.messages().count("handles it") == 3)
    first = original("fn")
    everybody = {first, *descendants_of(first)}
    os.kill(first, signal.SIGKILL)
    for outcome in await asyncio.gather(*busy):
        assert error_of(outcome)["errorMessage"].endswith("Error: Runtime exited with error: signal: killed")
    await until(lambda: not any(map(alive, everybody)))
    assert await bench.result("fn", 0) == 1
    assert bench.sink.messages().count("init") == 2


async def test_the_end_of_an_idle_original_costs_nobody_a_request(bench: Workbench) -> None:
    bench.deploy("fn", "def handler(event, context): return event", snap_start=True)
    for number in range(5):
        assert await bench.result("fn", number) == number
        idle = copy("fn")
        os.kill(original("fn"), signal.SIGKILL)
        while alive(idle):
            pass  # no turn of the loop: the pool does not know yet, of the original or of its copy


async def test_originals_go_with_their_version(bench: Workbench) -> None:
    code = "def handler(event, context): return {version}"
    bench.deploy("fn", code.format(version=1), snap_start=True)
    assert await bench.result("fn") == 1
    first = original("fn")
    bench.deploy("fn", code.format(version=2), snap_start=True)
    assert await bench.result("fn") == 2
    await until(lambda: not alive(first))
    second = original("fn")
    bench.pool.retire("fn")
    await until(lambda: not alive(second))
    # Nor does one stay that was not ready when its function went.
    bench.deploy("fn", "print('init')\ndef handler(event, context): return 3", snap_start=True)
    await bench.sink.saw("init")
    bench.pool.retire("fn")
    await until(lambda: not handlers(os.getpid(), "fn"))


FORGED = {
    "ends_of_copies": "[control.send(struct.pack('!IiI', n, 0, 0)) for n in range(100)]",
    "impossible_status": "control.send(struct.pack('!IiI', 1, -99999, 0))",
    "garbage": "control.send(b'?')",
    "nothing": "control.send(b'')",
    "endless": "threading.Thread(target=flood, daemon=True).start()",
    "closed": "os.close(4)",
}


@pytest.mark.parametrize("how", FORGED)
async def test_a_module_that_forges_what_an_original_says_harms_only_itself(bench: Workbench, how: str) -> None:
    bench.deploy("good", "def handler(event, context): return event", snap_start=True)
    bench.deploy(
        "bad",
        f"""
        import os, socket, struct, threading
        try:
            control = socket.socket(fileno=os.dup(4))
        except OSError:
            control = None   # in a copy
        def flood():
            while True:
                control.send(struct.pack('!IiI', 7, 0, 0))
        if control:
            {FORGED[how]}
        def handler(event, context): return event
        """,
        snap_start=True,
    )
    first = bench.begin("bad", 1)
    for number in range(20):
        assert await bench.result("good", number) == number
    await first
    await bench.invoke("bad", 1)
    assert await bench.result("good", "after") == "after"
    await bench.pool.close()


async def test_an_original_that_makes_no_copies_is_ended(tmp_path: Path, sandbox: Sandbox) -> None:
    async with workbench(tmp_path, SystemClock(), sandbox, init_timeout=Duration(1)) as bench:
        bench.deploy(
            "bad",
            """
            import os, time
            def none():
                time.sleep(600)
            os.fork = none
            def handler(event, context): return event
            """,
            snap_start=True,
        )
        bench.deploy("good", "def handler(event, context): return event", snap_start=True)
        outcome = await bench.invoke("bad", 1)
        assert outcome.error_type == "Sandbox.Timedout"
        assert await bench.result("good", 1) == 1
        await until(lambda: not handlers(os.getpid(), "bad"))
        bench.begin("bad", 1)
        await until(lambda: len(handlers(os.getpid(), "bad")) == 1)


async def test_an_original_whose_copies_are_idle_stands_still_with_them(bench: Workbench) -> None:
    bench.deploy("fn", "def handler(event, context): return event", snap_start=True)
    for number in range(3):
        assert await bench.result("fn", number) == number
        first = original("fn")
        everybody = {first, *descendants_of(first)}
        assert len(everybody) == 2
        await until(lambda: all(state_of(pid) == "T" for pid in everybody))  # noqa: B023 - asked in this turn


async def test_where_no_init_ends_them_copies_end_with_their_original(tmp_path: Path, sandbox: Sandbox) -> None:
    async with workbench(tmp_path, SystemClock(), sandbox.lowered("landlock")) as bench:
        bench.deploy(
            "fn",
            """
            def handler(event, context):
                print("in")
                while event == "spin":
                    pass
                return event
            """,
            snap_start=True,
            timeout=Duration(60),
        )
        assert await bench.result("fn", 1) == 1
        first = original("fn")
        spinning, busy = copy("fn"), bench.begin("fn", "spin")
        await until(lambda: bench.sink.messages().count("in") == 2)
        os.kill(first, signal.SIGKILL)
        assert error_of(await busy)["errorMessage"].endswith("Error: Runtime exited with error: signal: killed")
        await until(lambda: not alive(spinning))
        assert await bench.result("fn", 2) == 2

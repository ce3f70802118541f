"""What functions do to themselves, and that nobody else has to know."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import pytest

from eventfn.event import MAX_SYNC_RESPONSE, OutcomeKind
from eventfn.functions.model import LoggingConfig
from eventfn.units import Duration, Megabytes
from eventfn.workers.child import frames
from eventfn.workers.process import Process
from tests.processes import alive, children_of, descendants_of, parent_of, zygote

from .conftest import Workbench, error_of, until

BAD = {
    "sys.exit(0)": "Runtime exited without providing a reason",
    "os._exit(0)": "Runtime exited without providing a reason",
    "sys.exit(3)": "Runtime exited with error: exit status 3",
    "exit(3)": "Runtime exited with error: exit status 3",
    "os._exit(7)": "Runtime exited with error: exit status 7",
    "os.kill(os.getpid(), signal.SIGSEGV)": "Runtime exited with error: signal: segmentation fault",
    "os.kill(os.getpid(), signal.SIGKILL)": "Runtime exited with error: signal: killed",
    "os.killpg(0, signal.SIGKILL)": "Runtime exited with error: signal: killed",
    "os.abort()": "Runtime exited with error: signal: aborted",
    "os.close(3)": "Runtime sent what is not a response: it closed its channel",
    "os.write(3, b'x' * 100)": "Runtime sent what is not a response: a header of 2021161080 bytes",
    f"os.write(3, bytes([{frames.ERROR}] + 16*[0] + [1] + 8*[0] + [255]))": (
        "Runtime sent what is not a response: a header that is"
    ),
    f"os.write(3, bytes([{frames.RESULT}] + 24 * [0] + [3]) + b'abc')": (
        "Runtime sent what is not a response: an answer to request 0"
    ),
    f"os.write(3, bytes([{frames.RESULT},0,0,0,0] + [2] + 19 * [0] + [3]) + b'abc')": (
        "Runtime sent what is not a response: a body"
    ),
}


# An event loop has a descriptor of its own for the channel: there, closing 3 closes nothing.
CASES = [(kind, deed) for kind in ("def", "async def") for deed in BAD if (kind, deed) != ("async def", "os.close(3)")]


@pytest.mark.parametrize(("kind", "deed"), CASES)
async def test_an_environment_that_ends_fails_its_own_request_only(bench: Workbench, kind: str, deed: str) -> None:
    bench.deploy(
        "bad",
        f"""
        import os, signal, sys, time
        from who import ME
        {kind} handler(event, context):
            if event == "misbehave":
                {deed}
                time.sleep(60)
            return ME
        """,
        timeout=Duration(30),
    )
    bench.deploy("good", "def handler(event, context): return event")
    assert await bench.result("good", 1) == 1
    first = await bench.result("bad")
    outcome = await bench.invoke("bad", "misbehave")
    assert outcome.kind is OutcomeKind.FUNCTION_ERROR
    assert outcome.error_type == "Runtime.ExitError"
    error = error_of(outcome)
    assert error["errorType"] == "Runtime.ExitError"
    assert error["errorMessage"].startswith(f"RequestId: {outcome.request_id} Error: {BAD[deed]}")
    assert await bench.result("bad") != first
    assert await bench.result("good", 2) == 2
    messages = bench.sink.messages("bad")
    crash = next(index for index, message in enumerate(messages) if message.endswith("\nRuntime.ExitError"))
    assert messages[crash].startswith(f"RequestId: {outcome.request_id} Error: ")
    assert messages[crash + 1] == f"END RequestId: {outcome.request_id}"
    assert messages[crash + 2].endswith("\tStatus: error\tError Type: Runtime.ExitError")


@pytest.mark.parametrize(
    "how",
    ["while True: pass", "time.sleep(60)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    while True: pass"],
)
async def test_a_handler_that_hangs_is_killed_at_its_deadline(bench: Workbench, how: str) -> None:
    code = f"import signal, time, who\ndef handler(event, context):\n    {how}\n"
    bench.deploy("slow", code, timeout=Duration(0.3), provisioned_concurrency=1)
    process = bench.process_of((await bench.sink.saw("I am ")).split()[2])
    await until(lambda: bench.pool.stats("slow").idle == 1)
    outcome = await bench.invoke("slow", log_tail=True)
    assert outcome.error_type == "Sandbox.Timedout"
    text = f"RequestId: {outcome.request_id} Error: Task timed out after 0.30 seconds"
    assert error_of(outcome) == {"errorType": "Sandbox.Timedout", "errorMessage": text}
    assert outcome.duration_ms == 300.0
    assert outcome.max_memory_mb > 5
    lines = bench.sink.messages()
    assert lines[-3].endswith(f"Z {outcome.request_id} Task timed out after 0.30 seconds\n")
    assert lines[-1].endswith("MB\tInit Duration: " + f"{outcome.init_ms:.2f} ms\tStatus: timeout")
    await until(lambda: not alive(process))
    assert b"Task timed out" in outcome.log_tail


async def test_a_flood_of_output_is_logged_whole_and_starves_nobody(bench: Workbench) -> None:
    bench.deploy(
        "flood",
        """
        import os
        def handler(event, context):
            line = b"x" * 99_999 + b"\\n"
            for _ in range(1000):
                os.write(1, line)
        """,
        timeout=Duration(60),
    )
    bench.deploy("calm", "def handler(event, context): return event")
    flood = bench.begin("flood")
    answered = 0
    while not flood.done():
        assert await bench.result("calm", answered) == answered
        answered += 1
    assert answered > 10
    assert (await flood).ok
    assert sum(len(message) for message in bench.sink.messages("flood") if message.startswith("x")) == 99_999_000
    assert bench.sink.messages("flood")[-2].startswith("END ")


async def test_a_line_without_end_is_cut(bench: Workbench) -> None:
    bench.deploy("endless", "def handler(event, context): print('y' * 1_000_000, end='')")
    assert (await bench.invoke("endless")).ok
    parts = [message for message in bench.sink.messages() if message.startswith("y")]
    assert sum(map(len, parts)) == 1_000_000
    assert max(map(len, parts)) == 262_144


async def test_an_answer_over_the_limit_is_refused_and_the_environment_lives_on(bench: Workbench) -> None:
    bench.deploy("large", "from who import ME\ndef handler(event, context): return event and 'x' * event or ME")
    name = await bench.result("large")
    assert (await bench.invoke("large", MAX_SYNC_RESPONSE - 2)).ok
    outcome = await bench.invoke("large", 7_000_000)
    assert outcome.error_type == "Function.ResponseSizeTooLarge"
    message = "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
    assert error_of(outcome)["errorMessage"] == message
    assert error_of(outcome)["errorType"] == "Function.ResponseSizeTooLarge"
    assert await bench.result("large") == name


async def test_the_supervisor_enforces_the_limit_itself(bench: Workbench) -> None:
    bench.deploy(
        "liar",
        """
        import os, struct, time
        def handler(event, context):
            os.write(3, struct.pack("!BBIIIIII", 8, 0, 1, 1, 0, 0, 2_000_000_000, 2_000_000_000) + b"x" * 1000)
            time.sleep(60)
        """,
        timeout=Duration(30),
    )
    outcome = await bench.invoke("liar")
    assert outcome.error_type == "Function.ResponseSizeTooLarge"


@pytest.mark.parametrize("descriptor", [1, 2])
async def test_closing_an_output_hurts_nobody(bench: Workbench, descriptor: int) -> None:
    bench.deploy("mute", f"import os\ndef handler(event, context):\n    os.close({descriptor})\n    return event\n")
    assert await bench.result("mute", 5) == 5


async def test_a_closed_stdout_object_hurts_nobody(bench: Workbench) -> None:
    bench.deploy("mute", "import sys\ndef handler(event, context):\n    sys.stdout.close()\n    return 1 / event\n")
    assert (await bench.invoke("mute", 0)).error_type == "ZeroDivisionError"


async def test_what_a_function_has_started_dies_with_its_environment(bench: Workbench) -> None:
    bench.deploy(
        "parent",
        """
        import os, subprocess, time
        from who import ME
        def handler(event, context):
            if event == "leave":
                os._exit(1)
            if os.fork() == 0:
                time.sleep(600)
            # A daemon: a session of its own, and its parent is gone.
            subprocess.run(["sh", "-c", "setsid sleep 600 & exit"], stdout=subprocess.DEVNULL)
            return ME
        """,
    )
    handler = bench.process_of(await bench.result("parent"))
    init = parent_of(handler)
    sandbox = descendants_of(init)
    assert len(children_of(init)) == 2, "the handler, and the daemon"
    assert len(sandbox) == 3
    assert all(map(alive, sandbox))
    await bench.invoke("parent", "leave")
    await until(lambda: not any(map(alive, {init, *sandbox})))


async def test_a_forked_copy_of_a_handler_does_not_answer_twice(bench: Workbench) -> None:
    bench.deploy(
        "twice",
        """
        import os
        def handler(event, context):
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
            return event
        """,
    )
    assert [await bench.result("twice", n) for n in range(3)] == [0, 1, 2]


async def test_out_of_memory_is_an_exception_or_a_kill(bench: Workbench) -> None:
    bench.deploy(
        "hungry",
        """
        import os, signal
        def handler(event, context):
            if event == "exception":
                bytes(400 * 1024 * 1024)
            held = b"x" * (80 * 1024 * 1024)
            os.kill(os.getpid(), signal.SIGKILL)   # as the kernel does at a memory limit
        """,
        memory_size=Megabytes(64),
    )
    assert (await bench.invoke("hungry", "exception")).error_type == "MemoryError"
    outcome = await bench.invoke("hungry", "kill")
    assert outcome.error_type == "Runtime.OutOfMemory"
    assert error_of(outcome)["errorMessage"].endswith("Runtime exited with error: signal: killed")


async def test_an_idle_environment_that_is_killed_is_replaced(bench: Workbench) -> None:
    bench.deploy("fn", "from who import ME\ndef handler(event, context): return ME")
    for _ in range(5):
        name = await bench.result("fn")
        os.kill(bench.process_of(name), signal.SIGKILL)
        # At once: the pool does not know yet. What the dead environment had not read goes to another one.
        assert await bench.result("fn") != name


async def test_an_environment_ends_with_its_init_and_is_replaced(bench: Workbench) -> None:
    bench.deploy("fn", "from who import ME\ndef handler(event, context): return ME")
    name = await bench.result("fn")
    handler = bench.process_of(name)
    os.kill(parent_of(handler), signal.SIGKILL)
    await until(lambda: not alive(handler))
    assert await bench.result("fn") != name


@pytest.mark.parametrize("whom", ["handler", "init"])
async def test_a_busy_environment_that_is_killed_fails_its_request(bench: Workbench, whom: str) -> None:
    code = "import time, who\ndef handler(event, context):\n    print('in')\n    time.sleep(30)\n"
    bench.deploy("fn", code, timeout=Duration(60))
    bench.deploy("fn2", "def handler(event, context): return 2")
    answer = bench.begin("fn")
    handler = bench.process_of((await bench.sink.saw("I am ")).split()[2])
    await bench.sink.saw("in")
    os.kill(handler if whom == "handler" else parent_of(handler), signal.SIGKILL)
    outcome = await answer
    assert error_of(outcome)["errorMessage"].endswith("Error: Runtime exited with error: signal: killed")
    assert await bench.result("fn2") == 2
    await until(lambda: not alive(handler))


async def test_a_request_that_ran_for_a_while_is_not_run_again_when_its_environment_ends(bench: Workbench) -> None:
    """By then its environment was looked after."""
    code = "import os, time\ndef handler(event, context):\n    print('in')\n    time.sleep(0.5)\n    os._exit(3)\n"
    bench.deploy("fn", code)
    outcome = await bench.invoke("fn")
    assert error_of(outcome)["errorMessage"].endswith("Error: Runtime exited with error: exit status 3")
    assert bench.sink.messages("fn").count("in") == 1


async def test_a_dead_zygote_touches_no_environment_and_is_replaced(bench: Workbench) -> None:
    code = """
        from who import ME
        def handler(path, context):
            print("in")
            open(path).read()
            return ME
    """
    root = bench.deploy("fn", code, timeout=Duration(30)).task_root
    os.mkfifo(f"{root}/gate")
    answer = bench.begin("fn", "/var/task/gate")
    name = (await bench.sink.saw("I am ")).split()[2]
    await bench.sink.saw("in")
    handler, first = bench.process_of(name), zygote(os.getpid())
    assert parent_of(parent_of(handler)) == os.getpid(), "an environment is the supervisor's child"
    os.kill(first, signal.SIGKILL)
    await until(lambda: not alive(first))
    await asyncio.to_thread(Path(f"{root}/gate").write_text, "go")
    outcome = await answer
    assert outcome.ok
    assert msgspec.json.decode(outcome.payload) == name
    bench.deploy("new", "from who import ME\ndef handler(event, context): return ME")
    new = bench.process_of(await bench.result("new"))
    assert parent_of(parent_of(new)) == os.getpid()
    assert zygote(os.getpid()) != first
    assert await bench.result("fn", "/dev/null") == name
    assert bench.process_of(name) == handler


async def test_a_flood_behind_an_answer_is_ended_once(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its frames is a reason to: at some system calls each, they would keep everybody else waiting."""
    bench.deploy(
        "flood",
        f"""
        import os
        from who import ME
        def handler(event, context):
            while True:
                os.write(3, {frames.join(frames.RESULT, payload=b"11", number=1)!r} * 10_000)
        """,
        memory_size=Megabytes(1769),
    )
    bench.deploy("good", "def handler(event, context): return event")
    assert await bench.result("good", 1) == 1
    killed: list[Process] = []
    kill = Process.kill

    def counted(process: Process) -> None:
        killed.append(process)
        kill(process)

    monkeypatch.setattr(Process, "kill", counted)
    assert await bench.result("flood") == 11
    await until(lambda: bench.pool.stats("flood").environments == 0)
    assert len(killed) == 1
    assert await bench.result("good", 2) == 2


async def test_lines_that_are_nested_without_end_are_lines(bench: Workbench) -> None:
    code = """
        import os
        def handler(event, context):
            os.write(1, b'{"a":' * 12_000 + b"1" + b"}" * 12_000 + event.encode())
            if event == "":
                os._exit(0)
            return event
    """
    bench.deploy("deep", code, logging_config=LoggingConfig(log_format="JSON"))
    assert await bench.result("deep", "\n") == "\n"
    outcome = await bench.invoke("deep", "")
    assert outcome.error_type == "Runtime.ExitError"
    await until(lambda: bench.pool.stats("deep").environments == 0)
    assert len([line for line in bench.sink.messages("deep") if line.startswith('{"a":{"a":')]) == 2

"""Extensions: programs beside the runtime, of any runtime, and what they hear."""

from __future__ import annotations

import asyncio
import os
import textwrap
from pathlib import Path
from typing import Any

import pytest

from eventfn.clock import SystemClock
from eventfn.sandbox.probe import Sandbox
from eventfn.sandbox.walls import Tier
from eventfn.testing.clock import FakeClock
from eventfn.units import Duration
from tests.processes import handlers

from .conftest import Workbench, until, workbench
from .external import CLIENT, deploy

EXTENSION = (
    CLIENT
    + """
NAME = os.path.basename(sys.argv[0])

def extension(method, path, body=None, headers={}):
    api.request(method, "/2020-01-01/extension/" + path, body, headers)
    answer = api.getresponse()
    return answer.status, answer.headers, json.loads(answer.read() or b"null")

def register(events=("INVOKE", "SHUTDOWN"), name=NAME):
    status, headers, facts = extension("POST", "register", json.dumps({"events": events}), {
        "Lambda-Extension-Name": name, "Lambda-Extension-Accept-Feature": "accountId"})
    print(name, "registered", status, json.dumps(facts), flush=True)
    return {"Lambda-Extension-Identifier": headers["Lambda-Extension-Identifier"]}

def events(identity):
    while True:
        _, _, event = extension("GET", "event/next", None, identity)
        print(NAME, "got", json.dumps(event), flush=True)
        yield event
        if event["eventType"] == "SHUTDOWN":
            return
"""
)
LISTENS = "for event in events(register()): pass\nprint(NAME, 'says good-bye', flush=True)"


def layer(bench: Workbench, folder: Path, **extensions: str) -> dict[str, Any]:
    """Settings of a deployment with these extensions, name and source each."""
    for name, source in extensions.items():
        file = folder / "opt/extensions" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!{bench.interpreter.path} -IS\n" + EXTENSION + textwrap.dedent(source))
        file.chmod(0o755)
    return {"opt_root": str(folder / "opt"), "extensions": tuple(sorted(extensions))}


def python(bench: Workbench, folder: Path, source: str, **settings: Any) -> None:
    root = folder / "fn-code"
    root.mkdir(exist_ok=True)
    (root / "main.py").write_text(textwrap.dedent(source))
    deploy(bench, "fn", folder, None, bench.interpreter.runtime, **settings)


@pytest.mark.parametrize("runtime", ["python", "provided"])
async def test_an_extension_hears_of_each_invocation_and_of_the_end(
    timeless: Workbench, fake_clock: FakeClock, tmp_path: Path, runtime: str
) -> None:
    settings = layer(timeless, tmp_path, listener=LISTENS)
    if runtime == "python":
        python(timeless, tmp_path, "def handler(event, context): return {'got': event}", **settings)
    else:
        deploy(timeless, "fn", tmp_path, "serve(lambda event, headers: {'got': event})", **settings)
    assert await timeless.result("fn", {"a": 1}) == {"got": {"a": 1}}
    outcome = await timeless.invoke("fn", {"a": 2}, trace_id="Root=1-a")
    assert outcome.ok, outcome
    registered = await timeless.sink.saw("listener registered 200")
    assert '"functionName": "fn"' in registered
    assert '"accountId": "000000000000"' in registered
    assert await timeless.sink.saw("EXTENSION\tName: listener\tState: Ready\tEvents: [INVOKE, SHUTDOWN]")
    heard = await timeless.sink.saw(f'"requestId": "{outcome.request_id}"')
    assert '"eventType": "INVOKE"' in heard
    assert '"value": "Root=1-a"' in heard
    await timeless.sink.saw(f"END RequestId: {outcome.request_id}")
    # Idle only once the runtime and the extension have asked for the next: a moment after END is said.
    await until(lambda: (stats := timeless.pool.stats("fn")).idle == stats.environments)
    async with asyncio.timeout(60):
        while timeless.pool._environments:  # another one may have been on its way for the second request
            await fake_clock.advance(301)
            await asyncio.sleep(0.005)
    assert '"shutdownReason": "spindown"' in await timeless.sink.saw("shutdownReason")
    assert await timeless.sink.saw("listener says good-bye")


async def test_a_request_is_over_when_the_extensions_are_done_with_it(bench: Workbench, tmp_path: Path) -> None:
    slow = "for event in events(register()): time.sleep(0.3)"
    python(bench, tmp_path, "def handler(event, context): return 1", **layer(bench, tmp_path, slow=slow))
    outcome = await bench.invoke("fn", None)
    assert outcome.duration_ms < 250, "whoever invoked it does not wait for extensions"
    await bench.sink.saw("REPORT")
    (report,) = [line for line in bench.sink.messages() if line.startswith("REPORT")]
    assert float(report.partition("Duration: ")[2].partition(" ms")[0]) > 290
    tail = (await bench.invoke("fn", None, log_tail=True)).log_tail
    assert b"REPORT" in tail, "whoever wants the whole log does"


async def test_extensions_hear_of_a_runtime_that_fails(bench: Workbench, tmp_path: Path) -> None:
    settings = layer(bench, tmp_path, listener=LISTENS)
    python(bench, tmp_path, "import os\ndef handler(event, context): os._exit(event)", **settings)
    outcome = await bench.invoke("fn", 3)
    assert outcome.error_type == "Runtime.ExitError"
    assert outcome.error_message == f"RequestId: {outcome.request_id} Error: Runtime exited with error: exit status 3"
    assert '"shutdownReason": "failure"' in await bench.sink.saw("shutdownReason")
    assert await bench.sink.saw("listener says good-bye")


async def test_extensions_hear_of_a_timeout(bench: Workbench, tmp_path: Path) -> None:
    settings = layer(bench, tmp_path, listener=LISTENS)
    source = "import time\ndef handler(event, context): time.sleep(event)"
    python(bench, tmp_path, source, timeout=Duration(0.5), **settings)
    outcome = await bench.invoke("fn", 60)
    assert outcome.error_type == "Sandbox.Timedout"
    assert '"shutdownReason": "timeout"' in await bench.sink.saw("shutdownReason")
    assert (await bench.invoke("fn", 0)).ok, "in another environment"


async def test_an_extension_that_ends_takes_its_environment_along(bench: Workbench, tmp_path: Path) -> None:
    crash = "for event in events(register()): time.sleep(0.1); sys.exit(7)"
    source = "import time\ndef handler(event, context): time.sleep(event)"
    python(bench, tmp_path, source, timeout=Duration(20), **layer(bench, tmp_path, crash=crash))
    outcome = await bench.invoke("fn", 10)
    assert (outcome.error_type, outcome.error_message) == (
        "Extension.Crash", f"RequestId: {outcome.request_id} Error: exit code 7",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("source", "error_type"),
    [
        ("sys.exit(1)", "Extension.Crash"),
        (
            "extension('POST', 'init/error', '{}', register() | "
            "{'Lambda-Extension-Function-Error-Type': 'Extension.NoKey'}); time.sleep(60)",
            "Extension.NoKey",
        ),
    ],
)
async def test_an_extension_that_cannot_start_fails_the_init(
    bench: Workbench, tmp_path: Path, source: str, error_type: str
) -> None:
    python(bench, tmp_path, "def handler(event, context): return 1", **layer(bench, tmp_path, bad=source))
    outcome = await bench.invoke("fn", None)
    assert outcome.error_type == error_type
    assert f"Phase: init\tStatus: error\tError Type: {error_type}" in await bench.sink.saw("INIT_REPORT")


async def test_a_stubborn_extension_is_ended(timeless: Workbench, fake_clock: FakeClock, tmp_path: Path) -> None:
    stubborn = "for event in events(register()): pass\ntime.sleep(600)"
    python(timeless, tmp_path, "def handler(event, context): return 1", **layer(timeless, tmp_path, s=stubborn))
    await timeless.result("fn")
    await timeless.sink.saw("END")
    await fake_clock.advance(301)
    await timeless.sink.saw("shutdownReason")
    await until(lambda: not timeless.pool._environments)
    assert not handlers(os.getpid(), "fn")


async def test_a_part_of_the_runtime_can_be_an_extension(
    timeless: Workbench, fake_clock: FakeClock, tmp_path: Path
) -> None:
    source = EXTENSION + textwrap.dedent("""
        import signal, threading
        def put_away(number, frame):
            print("put away", flush=True)
            sys.exit()
        signal.signal(signal.SIGTERM, put_away)
        identity = register(("INVOKE",), "inside")
        print(register(("SHUTDOWN",), "wants too much"))
        own = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
        def listen():
            while True:
                own.request("GET", "/2020-01-01/extension/event/next", None, identity)
                print("inside got", own.getresponse().read().decode(), flush=True)
        threading.Thread(target=listen, daemon=True).start()
        serve(lambda event, headers: event)
    """)
    deploy(timeless, "fn", tmp_path, f"#!{timeless.interpreter.path} -IS\n{source}")
    assert await timeless.result("fn", 1) == 1
    assert await timeless.sink.saw('inside got {"eventType":"INVOKE"')
    assert "Extension.InvalidEventType" in await timeless.sink.saw("wants too much registered 403")
    await timeless.sink.saw("END")
    await fake_clock.advance(301)
    assert await timeless.sink.saw("put away")


@pytest.mark.parametrize("tier", ["landlock", "none"])
async def test_extensions_run_with_fewer_walls_too(tmp_path: Path, sandbox: Sandbox, tier: Tier) -> None:
    async with workbench(tmp_path, SystemClock(), sandbox.lowered(tier)) as bench:
        settings = layer(bench, tmp_path, listener=LISTENS)
        python(bench, tmp_path, "def handler(event, context): return event", network="egress", **settings)
        assert await bench.result("fn", 1) == 1
        await bench.sink.saw('"eventType": "INVOKE"')
    assert '"shutdownReason": "spindown"' in await bench.sink.saw("shutdownReason")


async def test_all_that_an_environment_runs_is_held_to_its_memory(
    bench: Workbench, sandbox: Sandbox, tmp_path: Path
) -> None:
    if sandbox.cgroups is None or "memory" not in sandbox.cgroups.controllers:
        pytest.skip(sandbox.no_cgroups or "no memory controller")  # what it has of its own is no limit for a program
    greedy = "for event in events(register()):\n    held = bytearray(200 << 20)\n    time.sleep(60)"
    source = "import time\ndef handler(event, context): time.sleep(30)"
    settings = layer(bench, tmp_path, greedy=greedy)
    python(bench, tmp_path, source, timeout=Duration(40), memory_size=128, **settings)
    outcome = await bench.invoke("fn")
    assert outcome.error_type == "Runtime.OutOfMemory"

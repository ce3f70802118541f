"""Python handlers behind AWS_LAMBDA_EXEC_WRAPPER: in an interpreter of its own, and everything else as without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventfn.clock import SystemClock
from eventfn.event import OutcomeKind
from eventfn.sandbox.probe import Sandbox
from eventfn.sandbox.walls import Tier
from eventfn.units import Duration

from .conftest import Workbench, error_of, workbench
from .test_extensions import LISTENS, layer, python
from .test_streaming import Taker

EXEC = '#!/bin/sh\nexport WRAPPED=yes\nexec "$@"\n'


def wrapped(
    bench: Workbench, opt: Path, code: str, wrapper: str | None = EXEC, name: str = "fn", **settings: Any
) -> None:
    """`opt`: the folder that becomes /opt."""
    opt.mkdir(exist_ok=True)
    path = opt / "wrap"
    if wrapper is not None:
        path.write_text(wrapper)
        path.chmod(0o755)
    at = "/opt/wrap" if bench.pool.sandbox.tier == "full" else str(path)
    environment = settings.pop("environment", {}) | {"AWS_LAMBDA_EXEC_WRAPPER": at}
    bench.deploy(name, code, opt_root=str(opt), environment=environment, **settings)


@pytest.mark.parametrize("tier", ["full", "landlock", "none"])
async def test_the_runtime_is_started_by_the_wrapper(tmp_path: Path, sandbox: Sandbox, tier: Tier) -> None:
    async with workbench(tmp_path, SystemClock(), sandbox.lowered(tier)) as bench:
        code = "import os\ndef handler(event, context): return [event, os.environ.get('WRAPPED')]"
        wrapped(bench, tmp_path / "opt", code)
        assert await bench.result("fn", {"a": 1}) == [{"a": 1}, "yes"]
        assert await bench.result("fn", 2) == [2, "yes"]


async def test_a_handler_is_told_the_same_as_without_it(bench: Workbench, tmp_path: Path) -> None:
    code = """
        import eventfn, os, sys
        app = eventfn.App()
        def handler(event, context):
            facts = {name: value for name, value in vars(context).items() if isinstance(value, (str, type(None)))}
            ours = [name for name in sys.modules if name.startswith("eventfn.")]
            variables = {name for name in os.environ if name not in ("AWS_LAMBDA_EXEC_WRAPPER", "WRAPPED", "_")}
            return [
                sorted(facts), sorted(variables - {"OLDPWD", "SHLVL", "LC_CTYPE"}), os.getcwd(), sys.path[:4],
                context.client_context.custom, ours, [each for each in sys.path if each.endswith("-packages")][2:],
                sys.argv, event,
            ]
    """
    opt = tmp_path / "opt"
    wrapped(bench, opt, code, name="behind")
    bench.deploy("without", code, opt_root=str(opt))
    told = [
        (await bench.invoke(name, {"b": [1]}, client_context='{"custom": {"a": 1}}')).payload
        for name in ("behind", "without")
    ]
    assert told[0] == told[1]


async def test_errors_and_lines_are_the_same_as_without_it(bench: Workbench, tmp_path: Path) -> None:
    code = """
        import logging
        def handler(event, context):
            print("printed")
            logging.getLogger().warning("logged")
            {}[event]
    """
    wrapped(bench, tmp_path / "opt", code)
    outcome = await bench.invoke("fn", "key", log_tail=True)
    error = error_of(outcome)
    assert outcome.kind is OutcomeKind.FUNCTION_ERROR
    assert (error["errorType"], error["errorMessage"]) == ("KeyError", "'key'")
    assert len(error["stackTrace"]) == 1, "nothing of the runtime's own"
    assert "/var/task/main.py" in error["stackTrace"][0]
    lines = (outcome.log_tail or b"").decode().split("\n")
    assert lines[1] == "printed"
    assert lines[2].startswith("[WARNING]\t")
    assert f"\t{outcome.request_id}\tlogged" in lines[2]
    assert lines[3] == "[ERROR] KeyError: 'key'"


async def test_what_a_wrapper_changes_counts(bench: Workbench, tmp_path: Path) -> None:
    """The example of Lambda's documentation puts options before the last argument; tracers put a handler of their own
    before the function's, and what they bring on PYTHONPATH."""
    package = tmp_path / "opt/tracer"
    package.mkdir(parents=True)
    (package / "traced.py").write_text(
        "import importlib, os\n"
        "module, name = os.environ['ORIG_HANDLER'].rsplit('.', 1)\n"
        "theirs = getattr(importlib.import_module(module), name)\n"
        "def handler(event, context): return ['traced', theirs(event, context)]\n"
    )
    (package / "sitecustomize.py").write_text("import builtins\nbuiltins.CUSTOMIZED = True\n")
    wrapper = """#!/bin/bash
        export ORIG_HANDLER=$_HANDLER _HANDLER=traced.handler PYTHONPATH=/opt/tracer:$LAMBDA_RUNTIME_DIR
        args=("$@")
        exec "${args[@]:0:$#-1}" -X utf8=1 -W error "${args[@]: -1}"
    """
    code = """
        import sys
        def handler(event, context): return [CUSTOMIZED, sys.warnoptions]
    """
    wrapped(bench, tmp_path / "opt", code, "\n".join(map(str.strip, wrapper.split("\n"))))
    assert await bench.result("fn") == ["traced", [True, ["error"]]]


async def test_it_may_stay_beside_its_function(bench: Workbench, tmp_path: Path) -> None:
    stays = '#!/bin/sh\n"$@"\necho "ended with $?"\n'
    wrapped(bench, tmp_path / "opt", "import os\ndef handler(event, context): return os._exit(3)", stays)
    outcome = await bench.invoke("fn")
    assert outcome.error_type == "Runtime.ExitError"
    await bench.sink.saw("ended with 3")


async def test_handlers_that_are_async_or_stream_can_the_same(bench: Workbench, tmp_path: Path) -> None:
    code = """
        import asyncio
        together = asyncio.Barrier(2)
        async def handler(event, context):
            await together.wait()
            return event
    """
    wrapped(bench, tmp_path / "opt", code, name="many", concurrency_per_environment=2)
    answers = [bench.begin("many", number) for number in range(2)]
    assert [(await each).payload for each in answers] == [b"0", b"1"]
    wrapped(bench, tmp_path / "opt", "def handler(event, context): yield from ['a', 'b']", name="streams")
    taker = Taker()
    assert (await bench.begin("streams", stream=taker)).ok
    assert b"".join(taker.chunks) == b"ab"


@pytest.mark.parametrize(
    ("code", "error_type", "says"),
    [
        ("import nowhere", "Runtime.ImportModuleError", "Unable to import module 'main': No module named 'nowhere'"),
        ("other = 1", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'main'"),
    ],
)
async def test_an_init_that_fails_says_why(
    bench: Workbench, tmp_path: Path, code: str, error_type: str, says: str
) -> None:
    wrapped(bench, tmp_path / "opt", code)
    outcome = await bench.invoke("fn")
    assert (outcome.error_type, error_of(outcome)["errorMessage"]) == (error_type, says)


async def test_a_wrapper_that_is_not_there_is_said(bench: Workbench, tmp_path: Path) -> None:
    wrapped(bench, tmp_path / "opt", "def handler(event, context): return 1", None)
    outcome = await bench.invoke("fn")
    assert outcome.error_type == "Runtime.InvalidEntrypoint"
    assert error_of(outcome)["errorMessage"].endswith("fork/exec /opt/wrap: no such file or directory")


@pytest.mark.parametrize(
    ("wrapper", "says"),
    [
        ('#!/bin/sh\nexec 3>&-\nexec "$@"\n', "the wrapper has closed descriptor 3"),
        ("#!/bin/sh\nexit 7\n", "INIT_REPORT"),
    ],
)
async def test_a_wrapper_that_does_not_start_it_fails_the_init(
    bench: Workbench, tmp_path: Path, wrapper: str, says: str
) -> None:
    wrapped(bench, tmp_path / "opt", "def handler(event, context): return 1", wrapper)
    outcome = await bench.invoke("fn")
    assert outcome.error_type == "Runtime.ExitError"
    await bench.sink.saw(says)


async def test_it_has_extensions_beside_it(bench: Workbench, tmp_path: Path) -> None:
    settings = layer(bench, tmp_path, waits=LISTENS)
    (tmp_path / "opt/wrap").write_text(EXEC)
    (tmp_path / "opt/wrap").chmod(0o755)
    settings["environment"] = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrap"}
    python(bench, tmp_path, "import os\ndef handler(event, context): return [event, os.environ['WRAPPED']]", **settings)
    assert await bench.result("fn", 1) == [1, "yes"]
    assert await bench.result("fn", 2) == [2, "yes"]
    assert "INVOKE" in await bench.sink.saw("waits got")


async def test_programs_that_it_starts_do_not_have_its_channel(bench: Workbench, tmp_path: Path) -> None:
    code = """
        import subprocess
        def handler(event, context):
            return subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, close_fds=False).stdout
    """
    wrapped(bench, tmp_path / "opt", code, timeout=Duration(10))
    listed = await bench.result("fn")
    assert "/dev/null" in listed
    assert "socket" not in listed

"""The Python runtime as handlers see it: context, variables, paths, results, errors, logs."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventfn.clock import SystemClock
from eventfn.errors import ConfigError
from eventfn.event import Invocation, Outcome
from eventfn.functions.model import Function, Where
from eventfn.sandbox.probe import Sandbox
from eventfn.units import Duration
from eventfn.workers.runtimes import python

from .conftest import ARN, Workbench, error_of, until, workbench

MINOR = f"python3.{sys.version_info.minor}"


async def test_the_context_is_complete(bench: Workbench) -> None:
    bench.deploy(
        "fn",
        """
        def handler(event, context):
            names = [name for name in dir(context) if not name.startswith("_")]
            facts = {name: getattr(context, name) for name in names}
            facts = {name: value for name, value in facts.items() if isinstance(value, (str, type(None)))}
            client = context.client_context
            return {
                "facts": facts,
                "left": [context.get_remaining_time_in_millis(), type(context.get_remaining_time_in_millis()).__name__],
                "identity": [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id],
                "client": client and [client.custom, client.env, client.client.app_title],
            }
        """,
        timeout=Duration(7),
    )
    text = '{"custom": {"a": 1}, "env": {"b": 2}, "client": {"app_title": "app"}}'
    outcome = await bench.invoke("fn", client_context=text)
    answer = msgspec.json.decode(outcome.payload)
    facts = answer["facts"]
    stream = facts.pop("log_stream_name")
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", stream)
    assert stream == bench.sink.lines[0][1]
    assert facts == {
        "aws_request_id": outcome.request_id,
        "function_name": "fn",
        "function_version": "$LATEST",
        "invoked_function_arn": ARN + "fn",
        "log_group_name": "/aws/lambda/fn",
        "memory_limit_in_mb": "128",
        "tenant_id": None,
    }
    assert 6000 < answer["left"][0] <= 7000
    assert answer["left"][1] == "int"
    assert answer["identity"] == [None, None]
    assert answer["client"] == [{"a": 1}, {"b": 2}, "app"]


async def test_a_client_context_that_is_no_json_is_an_error(bench: Workbench) -> None:
    bench.deploy("fn", "def handler(event, context): return 1")
    assert (await bench.invoke("fn", client_context="{")).error_type == "Runtime.LambdaContextUnmarshalError"


async def test_variables_are_lambdas_and_the_functions_and_nobody_elses(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPERATORS_SECRET", "hunter2")
    bench.deploy(
        "fn",
        "import os, time\ndef handler(event, context): return [dict(os.environ), os.getcwd(), time.tzname[0]]",
        environment={"SIZE": "256", "LANG": "de_DE.UTF-8", "_HANDLER": "reserved"},
    )
    variables, folder, zone = await bench.result("fn")
    stream, path, libraries = (variables.pop(n) for n in ("AWS_LAMBDA_LOG_STREAM_NAME", "PATH", "LD_LIBRARY_PATH"))
    assert variables == {
        "SIZE": "256",
        "LANG": "de_DE.UTF-8",
        "TZ": ":UTC",
        "PWD": "/var/task",
        "_HANDLER": "main.handler",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{MINOR}",
        "AWS_LAMBDA_FUNCTION_NAME": "fn",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/fn",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
    }
    assert stream == bench.sink.lines[0][1]
    first, *others = path.split(":")
    assert first == os.path.dirname(bench.interpreter.path)
    assert others == [folder for folder in ("/usr/local/bin", "/usr/bin", "/bin") if folder != first]
    assert libraries == "/var/task:/var/task/lib"
    assert (folder, zone) == ("/var/task", "UTC")


async def test_the_trace_id_is_a_variable_of_its_request(bench: Workbench) -> None:
    bench.deploy("fn", "import os\ndef handler(event, context): return os.environ.get('_X_AMZN_TRACE_ID')")
    outcomes = [await bench.invoke("fn", trace_id=trace) for trace in (None, "Root=1-a", "Root=1-a", "Root=1-b", None)]
    assert [msgspec.json.decode(outcome.payload) for outcome in outcomes] == [
        None, "Root=1-a", "Root=1-a", "Root=1-b", None,
    ]  # fmt: skip


async def test_a_function_sees_its_own_code_and_layers_only(bench: Workbench, tmp_path: Path) -> None:
    site = tmp_path / f"opt/python/lib/{MINOR}/site-packages"
    site.mkdir(parents=True)
    (site / "both.py").write_text("who = 'site'")
    (tmp_path / "opt/python/both.py").write_text("who = 'plain'")
    (tmp_path / "opt/python/plain.py").write_text("")
    bench.deploy(
        "fn",
        """
        import importlib, sys
        import both, plain
        def present(name):
            try:
                importlib.import_module(name)
            except ImportError:
                return False
            return True
        def handler(event, context):
            return {
                "both": both.who,
                "present": [name for name in event if present(name)],
                "path": sys.path,
                "prefix": sys.prefix == sys.base_prefix,
                "modules": [name for name in sys.modules if "eventfn" in name or name in ("zygote", "bootstrap")],
                "stand_in": sorted({"App", "on", "errors", "workers"} & set(dir(importlib.import_module("eventfn")))),
                "main": vars(sys.modules["__main__"]).get("__file__"),
            }
        """,
        opt_root=str(tmp_path / "opt"),
    )
    answer = await bench.result("fn", ["msgspec", "uvloop", "aiohttp", "pip", "eventfn.workers", "zygote"])
    assert answer["both"] == "site", "Lambda's order"
    assert answer["present"] == []
    assert answer["prefix"]
    assert answer["stand_in"] == ["App", "on"], "what a declaring file imports, and nothing of eventfn itself"
    assert answer["modules"] == ["eventfn"], "the stand-in, once it was asked for"
    assert answer["main"] is None
    layers = [f"/opt/python/lib/{MINOR}/site-packages", "/opt/python"]
    assert answer["path"][:4] == ["/var/task", *layers, "/var/runtime"]
    ours = (f"{sys.prefix}/lib", str(Path(__file__).parents[2]))
    assert not [entry for entry in answer["path"] if entry.startswith(ours)]


async def test_the_functions_module_wins_over_a_loaded_one(bench: Workbench) -> None:
    prepared = bench.deploy("fn", "", handler="string.handler")
    (Path(prepared.task_root) / "string.py").write_text("def handler(event, context): return 'mine'")
    assert await bench.result("fn") == "mine"


INIT_ERRORS = {
    "absent.handler": ("Runtime.ImportModuleError", "Unable to import module 'absent': No module named 'absent'"),
    "needs.handler": ("Runtime.ImportModuleError", "Unable to import module 'needs': No module named 'numpy_not_here'"),
    "typo.handler": ("Runtime.UserCodeSyntaxError", "Syntax error in module 'typo': expected ':' (typo.py, line 1)"),
    "main.absent": ("Runtime.HandlerNotFound", "Handler 'absent' missing on module 'main'"),
    "main": ("Runtime.MalformedHandlerName", "Bad handler 'main': not enough values to unpack (expected 2, got 1)"),
    "sys.handler": ("Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module"),
}


@pytest.mark.parametrize("handler", INIT_ERRORS)
async def test_init_errors_have_lambdas_types_and_texts(bench: Workbench, handler: str) -> None:
    prepared = bench.deploy("fn", "def handler(event, context): pass", handler=handler)
    (Path(prepared.task_root) / "needs.py").write_text("import numpy_not_here")
    (Path(prepared.task_root) / "typo.py").write_text("def handler(event, context)\n  pass")
    outcome = await bench.invoke("fn")
    error = error_of(outcome)
    trace = error.pop("stackTrace")
    error_type, message = INIT_ERRORS[handler]
    assert error == {"errorMessage": message, "errorType": error_type, "requestId": ""}
    assert len(trace) == (1 if handler == "typo.handler" else 0)
    assert (outcome.error_type, outcome.error_message) == (error_type, message)
    report = [message for message in bench.sink.messages() if message.startswith("INIT_REPORT")]
    assert re.fullmatch(
        rf"INIT_REPORT Init Duration: \d+\.\d\d ms\tPhase: init\tStatus: error\tError Type: {error_type}", report[0]
    )


async def test_an_exception_while_importing_names_its_class_and_line(bench: Workbench) -> None:
    bench.deploy("fn", "def deeper():\n    raise LookupError('no table')\ndeeper()\n")
    error = error_of(await bench.invoke("fn"))
    assert (error["errorType"], error["errorMessage"]) == ("LookupError", "no table")
    assert [line.split(", in ")[1].split("\n")[0] for line in error["stackTrace"]] == ["<module>", "deeper"]


async def test_an_exit_while_importing_is_an_exit_error(bench: Workbench) -> None:
    bench.deploy("fn", "import os\nos._exit(9)")
    outcome = await bench.invoke("fn")
    text = f"RequestId: {outcome.request_id} Error: Runtime exited with error: exit status 9"
    assert error_of(outcome) == {"errorType": "Runtime.ExitError", "errorMessage": text}


async def test_a_package_path_may_have_slashes(bench: Workbench) -> None:
    prepared = bench.deploy("fn", "", handler="pkg/sub.module.handler")
    package = Path(prepared.task_root) / "pkg" / "sub"
    package.mkdir(parents=True)
    (package / "module.py").write_text("def handler(event, context): return __name__")
    assert await bench.result("fn") == "pkg.sub.module"


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_an_exception_is_an_error_object_and_one_log_event(bench: Workbench, kind: str) -> None:
    bench.deploy("fn", f"{kind} handler(event, context):\n    raise ValueError('bad\\nday')\n")
    outcome = await bench.invoke("fn")
    frame = "  File \"/var/task/main.py\", line 2, in handler\n    raise ValueError('bad\\nday')\n"
    assert error_of(outcome) == {
        "errorMessage": "bad\nday",
        "errorType": "ValueError",
        "requestId": outcome.request_id,
        "stackTrace": [frame],
    }
    event = next(message for message in bench.sink.messages() if message.startswith("[ERROR]"))
    assert event.splitlines() == [
        "[ERROR] ValueError: bad",
        "day",
        "Traceback (most recent call last):",
        '\u00a0\u00a0File "/var/task/main.py", line 2, in handler',
        "\u00a0\u00a0\u00a0\u00a0raise ValueError('bad\\nday')",
    ]
    assert bench.sink.messages()[-1].endswith("ms\t"), "a reported error leaves no status"


RESULTS: dict[str, Any] = {
    "None": b"null",
    "{'a': [1, 2.5, True]}": b'{"a": [1, 2.5, true]}',
    "float('nan'), float('inf')": b"[NaN, Infinity]",
    "{'price': Decimal('10.10'), 'text': 'x'}": b'{"price": 10.10, "text": "x"}',
    "b'raw \\xff'": b"raw \xff",
}


@pytest.mark.parametrize("expression", RESULTS)
async def test_results_are_written_as_lambda_writes_them(bench: Workbench, expression: str) -> None:
    bench.deploy("fn", f"from decimal import Decimal\ndef handler(event, context): return {expression}")
    assert (await bench.invoke("fn")).payload == RESULTS[expression]


async def test_other_letters_are_escaped_before_python_312(bench: Workbench) -> None:
    bench.deploy("fn", "def handler(event, context): return 'd\\u00e9j\\u00e0'")
    expected = '"déjà"'.encode() if sys.version_info >= (3, 12) else b'"d\\u00e9j\\u00e0"'
    assert (await bench.invoke("fn")).payload == expected


@pytest.mark.parametrize("expression", ["object()", "{1, 2}", "{(1, 2): 3}", "loop"])
async def test_what_json_cannot_say_is_a_marshal_error(bench: Workbench, expression: str) -> None:
    bench.deploy("fn", f"loop = []\nloop.append(loop)\ndef handler(event, context): return {expression}")
    outcome = await bench.invoke("fn")
    assert outcome.error_type == "Runtime.MarshalError"
    assert error_of(outcome)["errorMessage"].startswith("Unable to marshal response: ")
    assert error_of(outcome)["stackTrace"] == []


async def test_a_lone_surrogate_in_an_error_breaks_nothing(bench: Workbench) -> None:
    bench.deploy("fn", "def handler(event, context): raise ValueError('\\ud800' * 3 + 'x' * 100_000)")
    outcome = await bench.invoke("fn")
    assert outcome.error_type == "ValueError"
    assert outcome.error_message is not None
    assert len(outcome.error_message) == 8192
    assert len(outcome.payload) > 100_000


async def test_a_bad_event_is_an_unmarshal_error(bench: Workbench) -> None:
    bench.deploy("fn", "def handler(event, context): return 1")
    for payload in (b"{", b"\xff"):
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        bench.pool.invoke(Invocation("id", "fn", payload, ARN), answer.set_result)
        assert (await answer).error_type == "Runtime.UnmarshalError"


async def test_log_lines_come_in_order_and_in_lambdas_format(bench: Workbench) -> None:
    bench.deploy(
        "fn",
        """
        import logging, os, sys
        def handler(event, context):
            print("printed")
            logging.getLogger("app").warning("careful %s", 1)
            print("to stderr", file=sys.stderr)
            os.system("echo from a child")
            try:
                1 / 0
            except ZeroDivisionError:
                logging.exception("caught")
            print("no line end", end="")
        """,
    )
    outcome = await bench.invoke("fn", log_tail=True)
    messages = bench.sink.messages()
    request = outcome.request_id
    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    patterns = [
        r"INIT_START Runtime Version: python:3\.\d+\t"
        r"Runtime Version ARN: arn:aws:lambda:us-east-1::runtime:[0-9a-f]{64}",
        rf"START RequestId: {request} Version: \$LATEST",
        "printed",
        rf"\[WARNING\]\t{moment}\t{request}\tcareful 1",
        "to stderr",
        "from a child",
        rf"\[ERROR\]\t{moment}\t{request}\tcaught\nTraceback \(most recent call last\):\n(.|\n)*ZeroDivisionError.*",
        "no line end",
        rf"END RequestId: {request}",
        rf"REPORT RequestId: {request}\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\t"
        r"Max Memory Used: \d+ MB\tInit Duration: \d+\.\d\d ms\t",
    ]
    assert len(messages) == len(patterns), messages
    for message, pattern in zip(messages, patterns, strict=True):
        assert re.fullmatch(pattern, message), (pattern, message)
    assert outcome.log_tail.decode() == "\n".join(messages[1:]) + "\n"
    warm = await bench.invoke("fn")
    assert warm.init_ms is None
    assert "Init Duration" not in bench.sink.messages()[-1]
    assert warm.log_tail == b""


async def test_start_is_said_while_the_function_runs_and_before_what_it_prints(bench: Workbench) -> None:
    bench.deploy(
        "fn",
        """
        import sys, time
        def handler(event, context):
            if event == "print":
                print("printed")
            time.sleep(60 if event else 0)
        """,
        timeout=Duration(30),
    )
    await bench.result("fn")
    for event in ("print", "sleep"):
        bench.sink.lines.clear()
        bench.begin("fn", event)
        await bench.sink.saw("START RequestId" if event == "sleep" else "printed")
        said = [message.split()[0] for message in bench.sink.messages() if not message.startswith("INIT_START")]
        assert said == (["START"] if event == "sleep" else ["START", "printed"])


async def test_a_log_tail_is_the_last_4_kb(bench: Workbench) -> None:
    bench.deploy("fn", "def handler(event, context):\n    for n in range(1000): print('line', n)\n")
    outcome = await bench.invoke("fn", log_tail=True)
    assert len(outcome.log_tail) == 4096
    assert b"line 999\nEND RequestId" in outcome.log_tail


async def test_random_numbers_differ_between_environments(bench: Workbench) -> None:
    code = """
        import os, random, ssl, time, uuid
        drawn = [random.random(), ssl.RAND_bytes(16).hex(), str(uuid.uuid4())]
        def handler(event, context):
            print("drawn")
            while not os.path.exists("go"):
                time.sleep(0.01)
            return drawn
    """
    prepared = bench.deploy("fn", code, timeout=Duration(60))
    answers = [asyncio.create_task(bench.result("fn")) for _ in range(3)]
    # Nobody answers before all have begun, so that none begins in the environment of another.
    await until(lambda: bench.sink.messages().count("drawn") == 3)
    Path(prepared.task_root, "go").touch()
    drawn = await asyncio.gather(*answers)
    for column in zip(*drawn, strict=True):
        assert len(set(column)) == 3


async def test_an_init_that_takes_too_long_is_told_so(tmp_path: Path, sandbox: Sandbox) -> None:
    async with workbench(tmp_path, SystemClock(), sandbox, init_timeout=Duration(0.3)) as bench:
        bench.deploy("fn", "import time\ntime.sleep(60)")
        outcome = await bench.invoke("fn")
        assert outcome.error_type == "Sandbox.Timedout"
        assert "INIT_REPORT Init Duration: 300.00 ms\tPhase: init\tStatus: timeout" in bench.sink.messages()


def test_an_interpreter_that_is_not_installed_names_function_and_key() -> None:
    function = Function(name="fn", handler="a.b", code="/", runtime="python3.4", where=Where("eventfn.toml", 7))
    with pytest.raises(ConfigError) as error:
        python.find(function)
    assert "eventfn.toml:7: functions.fn.runtime: no python3.4 is on PATH" in str(error.value)


def test_the_interpreter_is_the_real_one() -> None:
    found = python.find(Function(name="fn", handler="a.b", code="/", runtime=MINOR))
    assert found.runtime == MINOR
    assert not Path(found.path).is_symlink()
    assert "shims" not in found.path
    assert python.find(Function(name="fn", handler="a.b", code="/")).runtime == MINOR


INSTALLED = [str(folder) for folder in Path.home().glob(".pyenv/versions/*/bin")]


@pytest.mark.parametrize("runtime", ["python3.11", "python3.12", "python3.13"])
async def test_every_supported_version_serves(bench: Workbench, monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    monkeypatch.setenv("PATH", ":".join([os.environ["PATH"], *INSTALLED]))
    try:
        found = python.find(Function(name="fn", handler="a.b", code="/", runtime=runtime))
    except ConfigError:
        pytest.skip(f"no {runtime} on this machine")
    code = """
        import asyncio, sys, threading
        def handler(event, context):
            thread = threading.Thread(target=print, args=("from a thread",))
            thread.start()
            thread.join()
            return "%d.%d \u00e9" % sys.version_info[:2]
        async def later(event, context):
            await asyncio.sleep(0.001)
            return [event, sys.version]
        def leave(event, context):
            sys.exit(4)
    """
    for handler in ("handler", "later", "leave"):
        bench.deploy(handler, code, handler=f"main.{handler}", interpreter=found)
    answer = (await bench.invoke("handler")).payload
    minor = runtime.removeprefix("python")
    assert answer == (f'"{minor} é"'.encode() if minor >= "3.12" else f'"{minor} \\u00e9"'.encode())
    assert await bench.result("later", 1) == [1, (await bench.result("later", 2))[1]]
    assert str((await bench.invoke("leave")).error_message).endswith("exit status 4")


def test_an_interpreter_is_asked_once_until_it_is_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, program = tmp_path / "asked", tmp_path / "python3.99"
    program.write_text(f'#!/bin/sh\necho asked >> {asked}\necho \'["{program}", "3.99.1", "main Oct"]\'\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    function = Function(name="fn", handler="a.b", code="/", runtime="python3.99")
    assert python.find(function) == python.find(function) == python.Interpreter(str(program), "3.99.1", "main Oct")
    assert asked.read_text() == "asked\n"
    os.utime(program, ns=(1, 1))  # installed anew
    python.find(function)
    assert asked.read_text() == "asked\nasked\n"


def test_an_interpreter_that_did_not_answer_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shim answers once its version is installed, and is the same file as before."""
    version, program = tmp_path / "version", tmp_path / "python3.98"
    program.write_text(f"#!/bin/sh\ncat {version}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    function = Function(name="fn", handler="a.b", code="/", runtime="python3.98")
    with pytest.raises(ConfigError):
        python.find(function)
    version.write_text(f'["{program}", "3.98.0", "main Oct"]')
    assert python.find(function).version == "3.98.0"

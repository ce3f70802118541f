"""Runtimes that are programs of their own: they speak the Runtime API and nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from eventfn.clock import SystemClock
from eventfn.event import OutcomeKind
from eventfn.sandbox.probe import Sandbox
from eventfn.sandbox.walls import Tier
from eventfn.workers.runtimes import nodejs
from tests.servers.needed import need

from .conftest import ARN, Workbench, error_of, workbench
from .external import deploy

SHELL = r"""#!/bin/bash
while :; do
    exec 4<>/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}
    printf 'GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n' >&4
    length=0
    while IFS= read -r line <&4 && line=${line%$'\r'} && [ -n "$line" ]; do
        case $line in
            Lambda-Runtime-Aws-Request-Id:*) id=${line#*: } ;;
            Content-Length:*) length=${line#*: } ;;
        esac
    done
    read -r -N "$length" event <&4
    echo "shell got $event"
    answer="{\"handler\": \"$_HANDLER\", \"event\": $event}"
    printf 'POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s' \
        "$id" "${#answer}" "$answer" >&4
    IFS= read -r line <&4
    exec 4<&-
done
"""


async def test_a_bootstrap_in_the_code_serves_events(bench: Workbench, tmp_path: Path) -> None:
    deploy(bench, "fn", tmp_path, "serve(lambda event, headers: {'got': event})")
    assert await bench.result("fn", {"a": 1}) == {"got": {"a": 1}}
    assert await bench.result("fn", [2]) == {"got": [2]}


async def test_a_shell_serves_events(bench: Workbench, tmp_path: Path) -> None:
    deploy(bench, "fn", tmp_path, SHELL)
    outcome = await bench.invoke("fn", {"a": 1}, log_tail=True)
    assert outcome.ok, outcome
    assert msgspec.json.decode(outcome.payload) == {"handler": "main.handler", "event": {"a": 1}}
    start, got, end, report, *_ = outcome.log_tail.decode().splitlines()
    assert start == f"START RequestId: {outcome.request_id} Version: $LATEST"
    assert got == 'shell got {"a":1}'
    assert end == f"END RequestId: {outcome.request_id}"
    assert report.startswith(f"REPORT RequestId: {outcome.request_id}\tDuration: ")


async def test_node_runs_on_the_least_memory(bench: Workbench, tmp_path: Path) -> None:
    found = shutil.which("node")
    need(None if found else "apt-get install nodejs")
    said = subprocess.run([str(found), "--version"], capture_output=True, text=True, check=True).stdout
    runtime = f"nodejs{said.removeprefix('v').partition('.')[0]}.x"
    node = nodejs.find(runtime)
    (tmp_path / "fn-code").mkdir()
    (tmp_path / "fn-code" / "main.js").write_text(
        "exports.handler = async (event, context) => "
        "({ event, version: process.version, cwd: process.cwd(), id: context.awsRequestId, env: process.env })"
    )
    deploy(bench, "fn", tmp_path, None, runtime, executable=node.path, runtime_version=node.version, memory_size=128)
    outcome = await bench.invoke("fn", {"a": 1})
    assert outcome.ok, outcome
    answer = msgspec.json.decode(outcome.payload)
    assert answer["version"] == f"v{node.version}"
    assert answer["event"] == {"a": 1}
    assert answer["id"] == outcome.request_id
    assert answer["cwd"] == "/var/task"
    assert answer["env"]["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{runtime}"
    assert answer["env"]["AWS_LAMBDA_RUNTIME_API"] == "127.0.0.1:9001"
    assert (await bench.sink.saw("INIT_START")).startswith(f"INIT_START Runtime Version: nodejs:{node.version}\t")
    assert outcome.max_memory_mb < 128


async def test_the_runtime_api_leaves_its_port_to_a_host_that_the_function_reaches(
    bench: Workbench, tmp_path: Path
) -> None:
    deploy(bench, "fn", tmp_path, "serve(lambda event, headers: dict(os.environ))", network=("127.0.0.1:9001",))
    host, _, port = (await bench.result("fn"))["AWS_LAMBDA_RUNTIME_API"].partition(":")
    assert host == "127.0.0.1"
    assert port != "9001"


@pytest.mark.parametrize("mode", [None, 0o644])
async def test_a_bootstrap_that_is_none_is_said_to_be_missing(
    bench: Workbench, tmp_path: Path, mode: int | None
) -> None:
    (tmp_path / "fn-code").mkdir()
    if mode is not None:
        (tmp_path / "fn-code/bootstrap").write_text("#!/bin/sh\n")
        (tmp_path / "fn-code/bootstrap").chmod(mode)
    deploy(bench, "fn", tmp_path, None)
    outcome = await bench.invoke("fn")
    assert error_of(outcome) == {
        "errorType": "Runtime.InvalidEntrypoint",
        "errorMessage": f"RequestId: {outcome.request_id} Error: Couldn't find valid bootstrap(s): "
        "[/var/task/bootstrap /opt/bootstrap]",
    }
    assert "Status: error\tError Type: Runtime.InvalidEntrypoint" in await bench.sink.saw("INIT_REPORT")


async def test_a_bootstrap_may_come_with_a_layer(bench: Workbench, tmp_path: Path) -> None:
    deploy(bench, "layer", tmp_path, "serve(lambda event, headers: os.environ['LAMBDA_TASK_ROOT'])")
    (tmp_path / "fn-code").mkdir()
    deploy(bench, "fn", tmp_path, None, opt_root=str(tmp_path / "layer-code"))
    assert await bench.result("fn") == "/var/task"


async def test_a_file_that_is_no_program_is_no_bootstrap(bench: Workbench, tmp_path: Path) -> None:
    deploy(bench, "fn", tmp_path, "#!/no/such/interpreter\n")
    outcome = await bench.invoke("fn")
    assert outcome.error_type == "Runtime.InvalidEntrypoint"
    assert str(outcome.error_message).endswith("fork/exec /var/task/bootstrap: no such file or directory")


@pytest.mark.parametrize(
    ("bootstrap", "error_type", "message"),
    [
        ("sys.exit(0)", "Runtime.ExitError", "Runtime exited without providing a reason"),
        ("sys.exit(3)", "Runtime.ExitError", "Runtime exited with error: exit status 3"),
        ("os.kill(os.getpid(), 9)", "Runtime.ExitError", "Runtime exited with error: signal: killed"),
        ("serve(lambda event, headers: sys.exit(4))", "Runtime.ExitError", "Runtime exited with error: exit status 4"),
        (
            "call('GET', 'invocation/next'); sys.exit(5)",
            "Runtime.ExitError",
            "Runtime exited with error: exit status 5",
        ),
        ("serve(lambda event, headers: time.sleep(60))", "Sandbox.Timedout", "Task timed out after 1.00 seconds"),
    ],
)
async def test_a_runtime_that_fails_is_answered_for(
    bench: Workbench, tmp_path: Path, bootstrap: str, error_type: str, message: str
) -> None:
    deploy(bench, "fn", tmp_path, bootstrap, timeout=1)
    outcome = await bench.invoke("fn")
    assert (outcome.error_type, outcome.error_message) == (
        error_type, f"RequestId: {outcome.request_id} Error: {message}",
    )  # fmt: skip
    assert error_of(outcome)["errorType"] == error_type


async def test_what_it_posts_before_it_ends_is_its_answer(bench: Workbench, tmp_path: Path) -> None:
    bootstrap = """
        _, headers, _ = call("GET", "invocation/next")
        id = headers["Lambda-Runtime-Aws-Request-Id"]
        api.request("POST", f"/2018-06-01/runtime/invocation/{id}/response", b'"' + 1000000 * b"x" + b'"')
        os._exit(1)
    """
    deploy(bench, "fn", tmp_path, bootstrap)
    outcome = await bench.invoke("fn")
    assert outcome.ok, outcome.error_message
    assert len(outcome.payload) == 1_000_002


async def test_errors_are_in_the_runtimes_own_words(bench: Workbench, tmp_path: Path) -> None:
    bootstrap = """
        while True:
            _, headers, body = call("GET", "invocation/next")
            id = headers["Lambda-Runtime-Aws-Request-Id"]
            call("POST", f"invocation/{id}/error", body, {"Lambda-Runtime-Function-Error-Type": "Function.Odd"})
    """
    deploy(bench, "fn", tmp_path, bootstrap)
    error = {"errorType": "Mine", "errorMessage": "broke", "trace": ["here"]}
    outcome = await bench.invoke("fn", error)
    assert (error_of(outcome), outcome.error_type, outcome.error_message) == (error, "Mine", "broke")
    outcome = await bench.invoke("fn", [])
    assert (outcome.payload, outcome.error_type) == (b"[]", "Function.Odd")


async def test_an_init_error_fails_whoever_waits_and_the_next_one_tries_again(bench: Workbench, tmp_path: Path) -> None:
    bootstrap = """
        error = json.dumps({"errorType": "NoSettings", "errorMessage": "set SIZE", "stackTrace": []})
        print(call("POST", "init/error", error, {"Lambda-Runtime-Function-Error-Type": "Function.Init"})[0], flush=True)
        sys.exit(1)
    """
    deploy(bench, "fn", tmp_path, bootstrap)
    for _ in range(2):
        outcome = await bench.invoke("fn")
        assert error_of(outcome) == {"errorType": "NoSettings", "errorMessage": "set SIZE", "stackTrace": []}
    assert "Error Type: NoSettings" in await bench.sink.saw("INIT_REPORT")
    assert sum(message.startswith("INIT_START") for message in bench.sink.messages()) == 2


async def test_variables_are_lambdas_and_the_functions_and_nobody_elses(bench: Workbench, tmp_path: Path) -> None:
    deploy(bench, "fn", tmp_path, "serve(lambda event, headers: dict(os.environ))", environment={"SIZE": "256"})
    variables = await bench.result("fn")
    assert variables.pop("AWS_LAMBDA_LOG_STREAM_NAME") == bench.sink.lines[0][1]
    variables.pop("LC_CTYPE", None)  # Python's own, where the machine has not the locale
    assert variables == {
        "SIZE": "256",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LD_LIBRARY_PATH": "/var/task:/var/task/lib",
        "PWD": "/var/task",
        "_HANDLER": "main.handler",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": "fn",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/fn",
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
    }


async def test_an_event_has_its_facts_in_headers(bench: Workbench, tmp_path: Path) -> None:
    deploy(bench, "fn", tmp_path, "serve(lambda event, headers: [dict(headers), time.time() * 1000])", timeout=7)
    context = '{"custom": {\n"a": "\\u00fc"}}'
    outcome = await bench.invoke("fn", trace_id="Root=1-a", client_context=context)
    headers, now = msgspec.json.decode(outcome.payload)
    assert 6000 < int(headers["Lambda-Runtime-Deadline-Ms"]) - now <= 7000
    assert headers["Lambda-Runtime-Aws-Request-Id"] == outcome.request_id
    assert headers["Lambda-Runtime-Invoked-Function-Arn"] == ARN + "fn"
    assert headers["Lambda-Runtime-Trace-Id"] == "Root=1-a"
    assert headers["Content-Type"] == "application/json"
    assert msgspec.json.decode(headers["Lambda-Runtime-Client-Context"]) == msgspec.json.decode(context)
    assert "Lambda-Runtime-Cognito-Identity" not in headers


async def test_a_wrapper_starts_a_managed_runtime(bench: Workbench, tmp_path: Path) -> None:
    bootstrap = "serve(lambda event, headers: os.environ.get('WRAPPED'))"
    wrapper = tmp_path / "opt/wrap"
    wrapper.parent.mkdir()
    wrapper.write_text('#!/bin/sh\nexport WRAPPED=yes\nexec "$@"\n')
    wrapper.chmod(0o755)
    settings = {"opt_root": str(tmp_path / "opt"), "environment": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrap"}}
    deploy(bench, "managed", tmp_path, bootstrap, "ruby3.3", **settings)
    deploy(bench, "custom", tmp_path, bootstrap, "provided.al2023", **settings)
    assert await bench.result("managed") == "yes"
    assert await bench.result("custom") is None, "Lambda wraps none of these"


@pytest.mark.parametrize("tier", ["full", "landlock", "none"])
async def test_it_speaks_on_the_machines_network_too(tmp_path: Path, sandbox: Sandbox, tier: Tier) -> None:
    async with workbench(tmp_path, SystemClock(), sandbox.lowered(tier)) as bench:
        deploy(bench, "fn", tmp_path, "serve(lambda event, headers: event)", network="egress")
        assert await bench.result("fn", 1) == 1


async def test_without_any_network_there_is_no_runtime_api(tmp_path: Path, sandbox: Sandbox) -> None:
    async with workbench(tmp_path, SystemClock(), sandbox.lowered("landlock")) as bench:
        deploy(bench, "fn", tmp_path, "serve(lambda event, headers: event)")
        outcome = await bench.invoke("fn")
        assert outcome.kind is OutcomeKind.SYSTEM_ERROR
        assert 'set network = "egress"' in str(outcome.error_message)


async def test_a_program_is_held_to_its_memory(bench: Workbench, sandbox: Sandbox, tmp_path: Path) -> None:
    if sandbox.cgroups is None or "memory" not in sandbox.cgroups.controllers:
        pytest.skip(sandbox.no_cgroups or "no memory controller")  # what it has of its own is no limit for a program
    bootstrap = "serve(lambda event, headers: (bytearray(200 << 20), time.sleep(30))[1])"
    deploy(bench, "fn", tmp_path, bootstrap, timeout=40, memory_size=128)
    assert (await bench.invoke("fn")).error_type == "Runtime.OutOfMemory"


async def test_a_program_that_floods_the_api_takes_nobody_elses_time(bench: Workbench, tmp_path: Path) -> None:
    flood = """
        import socket, threading
        host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
        def flood():
            while True:
                try:
                    with socket.create_connection((host, int(port))) as link:
                        while True:
                            link.sendall(b"GET /x HTTP/1.1\\r\\n\\r\\n" * 1000)
                            link.recv(65536)
                except OSError:
                    pass
        call("GET", "invocation/next")
        print("floods", flush=True)
        for _ in range(40): threading.Thread(target=flood, daemon=True).start()
        time.sleep(60)
    """
    deploy(bench, "flood", tmp_path, flood, timeout=15)
    bench.deploy("calm", "def handler(event, context): return event")
    flooding = bench.begin("flood")
    await bench.sink.saw("floods")
    for number in range(50):
        assert await bench.result("calm", number) == number
    assert not flooding.done(), "all of that happened meanwhile"
    bench.pool.retire("flood")
    assert (await flooding).error_type == "Sandbox.Timedout"

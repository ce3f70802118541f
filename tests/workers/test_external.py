"""Runtimes that are programs of their own: they speak the Runtime API and nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec

from eventfn.workers.runtimes import nodejs

from .conftest import Workbench
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
    node = nodejs.find("nodejs20.x")
    (tmp_path / "fn-code").mkdir()
    (tmp_path / "fn-code" / "main.js").write_text(
        "exports.handler = async (event, context) => "
        "({ event, version: process.version, cwd: process.cwd(), id: context.awsRequestId, env: process.env })"
    )
    deploy(
        bench, "fn", tmp_path, None, "nodejs20.x", executable=node.path, runtime_version=node.version, memory_size=128
    )
    outcome = await bench.invoke("fn", {"a": 1})
    assert outcome.ok, outcome
    answer = msgspec.json.decode(outcome.payload)
    assert answer["version"] == f"v{node.version}"
    assert answer["event"] == {"a": 1}
    assert answer["id"] == outcome.request_id
    assert answer["cwd"] == "/var/task"
    assert answer["env"]["AWS_EXECUTION_ENV"] == "AWS_Lambda_nodejs20.x"
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

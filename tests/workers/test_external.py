"""Runtimes that are programs of their own: they speak the Runtime API and nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec

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

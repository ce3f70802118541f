import json
from typing import Any

import pytest

from eventfn.workers.json_lines import JsonLines, wanted

ARN = "arn:aws:lambda:us-east-1:000000000000:function:hello"
TIME = "2023-11-14T22:13:20.005Z"


def lines(level: str = "INFO") -> JsonLines:
    return JsonLines("hello", ARN, "$LATEST", "stream", 128, "on-demand", level, lambda: 1_700_000_000_005)


def record(line: str, kind: str) -> Any:
    found = json.loads(line)
    assert (found["time"], found["type"]) == (TIME, kind)
    return found["record"]


def test_the_life_of_an_invocation() -> None:
    it = lines()
    assert record(it.init_start("python:3.12", "arn"), "platform.initStart") == {
        "initializationType": "on-demand",
        "phase": "init",
        "runtimeVersion": "python:3.12",
        "runtimeVersionArn": "arn",
        "functionName": "hello",
        "functionVersion": "$LATEST",
        "instanceId": "stream",
        "instanceMaxMemory": 134_217_728,
    }
    assert record(it.start("id", "$LATEST"), "platform.start") == {
        "requestId": "id",
        "functionArn": ARN,
        "version": "$LATEST",
    }
    assert it.end("id") == ""
    assert record(it.report("id", 3.01, 128, 36, 110.1), "platform.report") == {
        "requestId": "id",
        "metrics": {
            "durationMs": 3.01,
            "billedDurationMs": 114,
            "memorySizeMB": 128,
            "maxMemoryUsedMB": 36,
            "initDurationMs": 110.1,
        },
        "status": "success",
    }


@pytest.mark.parametrize(
    ("suffix", "failed", "expected"),
    [
        ("", True, {"status": "failure"}),
        ("Status: timeout", True, {"status": "timeout"}),
        ("Status: error\tError Type: Runtime.ExitError", True, {"status": "error", "errorType": "Runtime.ExitError"}),
    ],
)
def test_how_an_invocation_failed(suffix: str, failed: bool, expected: dict[str, str]) -> None:
    for level in ("INFO", "WARN"):
        found = record(lines(level).report("id", 1.0, 128, 36, None, suffix, failed=failed), "platform.report")
        assert expected.items() <= found.items()
    assert lines().timed_out(0, "id", 3.0) == ""


def test_levels_of_the_platform() -> None:
    assert lines("WARN").start("id", "$LATEST") == ""
    assert lines("WARN").report("id", 1.0, 128, 36, None) == ""
    assert lines("WARN").init_report(1.0, "init", "timeout", None)
    assert lines("INFO").extension("agent", ["INVOKE"]) == ""
    assert record(lines("DEBUG").extension("agent", ["INVOKE"]), "platform.extension")["name"] == "agent"


@pytest.mark.parametrize(
    ("level", "line", "expected"),
    [
        ("INFO", '{"level": "DEBUG"}', False),
        ("INFO", '{"level": "info", "message": "x"}', True),
        ("WARN", '{"level": "INFO"}', False),
        ("WARN", '{"level": "WARNING"}', True),
        ("FATAL", '{"level": "CRITICAL"}', True),
        ("ERROR", '{"level": "odd"}', False),
        ("FATAL", '{"message": "no level"}', True),
        ("FATAL", '{"level": 30}', True),
        ("FATAL", "plain text", True),
        ("FATAL", "{ not JSON", True),
        ("FATAL", '{"level": "\ud800"}', True),
        ("FATAL", '{"a":' * 40_000 + "1" + "}" * 40_000, True),
    ],
)
def test_levels_of_the_function(level: str, line: str, expected: bool) -> None:
    assert wanted(level)(line) is expected

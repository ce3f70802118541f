"""What `eventfn run` says, in both forms, and what a log record of ours becomes."""

from __future__ import annotations

import inspect
import json
import logging
import subprocess
import sys

import pytest

from eventfn.cli.report import JsonReporter, LogHandler, TextReporter
from eventfn.errors import Problem
from eventfn.observe.report import Loaded, Reporter
from eventfn.observe.status import Wall


def tell(reporter: Reporter) -> None:
    """A life with everything in it."""
    reporter.preparing("thumb", "installing pillow")
    reporter.loaded("/p", "/p/.eventfn", [Loaded("thumb", "thumb.handler", "python3.11", (("files", "path=[b]in"),))])
    reporter.enforcement([Wall("limits", True, "stops"), Wall("network", False, "all can be reached")])
    reporter.listening("http", "127.0.0.1:8080")
    reporter.ready(93.4)
    reporter.reloaded(["new"], [], ["old"])
    reporter.problems([Problem("eventfn.toml", 3, "functions.x", "expected\x1b[2J", "did you mean 'y'?")])
    reporter.draining(2)
    reporter.drained(1)


def test_people_read_lines(capsys: pytest.CaptureFixture[str]) -> None:
    tell(TextReporter())
    out, err = capsys.readouterr()
    for line in (
        "thumb: installing pillow",
        "other commands find this node with --data /p/.eventfn",
        "enforced: limits",
        "NOT ENFORCED: network: all can be reached",
        "http     http://127.0.0.1:8080",
        "ready in 93 ms. Ctrl-C stops when what runs is finished, a second one at once.",
        "stopping: finishing 2 invocations. Ctrl-C again stops at once.",
        "1 invocation not finished in time; their events come again",
        "stopped",
    ):
        assert line in out.splitlines()
    assert "files path=[b]in" in out, "what looks like markup is text"
    assert "reloaded: added new; removed old" in out
    assert "eventfn.toml:3: functions.x: expected\\x1b[2J\n    did you mean 'y'?\n" in err


def test_programs_read_an_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    tell(JsonReporter())
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == [
        "preparing", "loaded", "enforcement", "listening", "ready", "reloaded", "problems", "draining", "drained"
    ]  # fmt: skip
    assert events[3] == {"event": "listening", "name": "http", "address": "127.0.0.1:8080"}
    assert events[1]["functions"][0]["triggers"] == [["files", "path=[b]in"]]
    assert events[6]["problems"][0]["line"] == 3


def test_both_say_all_that_there_is_to_say() -> None:
    said = [name for name, _ in inspect.getmembers(Reporter, inspect.isfunction) if not name.startswith("_")]
    for reporter in (TextReporter, JsonReporter):
        assert all(hasattr(reporter, name) for name in said)


def test_log_records_go_to_standard_error_in_the_form_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("eventfn.files", logging.WARNING, "", 0, "cannot read %s", ("in\x1b[2J",), None)
    LogHandler(as_json=False).emit(record)
    LogHandler(as_json=True).emit(record)
    out, err = capsys.readouterr()
    text, machine = err.splitlines()
    assert (out, text) == ("", "warning: eventfn.files: cannot read in\\x1b[2J")
    assert json.loads(machine)["message"] == "cannot read in\x1b[2J"


def test_a_log_record_says_its_level_and_its_logger_once() -> None:
    code = (
        "import logging; from eventfn.cli.report import LogHandler\n"
        "logging.basicConfig(level=logging.WARNING, handlers=[LogHandler(as_json=False)])\n"
        "logging.getLogger('eventfn.files').warning('cannot read %s', 'in')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == "warning: eventfn.files: cannot read in\n"

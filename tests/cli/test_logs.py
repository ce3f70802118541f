from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eventfn.observe.logs import Line, append, encode
from tests.cli.conftest import Eventfn


def log(folder: Path, function: str, message: str, timestamp: int = 1_700_000_000_000) -> None:
    logs = folder / ".eventfn" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    append(logs / f"{function}.log", encode([Line(timestamp, "s", message)]), 1_000_000, 5)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_the_log_of_one_function(run: Eventfn, folder: Path) -> None:
    log(folder, "hello", "START")
    log(folder, "hello", "two\nlines", 1_700_000_000_001)
    log(folder, "other", "not this")
    result = run("logs", "hello")
    assert result.stdout == "2023-11-14 22:13:20.000 START\n2023-11-14 22:13:20.001 two\nlines\n"


def test_all_functions_by_time_with_their_names(run: Eventfn, folder: Path) -> None:
    log(folder, "b", "second", 1_700_000_000_002)
    log(folder, "a", "first", 1_700_000_000_001)
    log(folder, "a", "third", 1_700_000_000_003)
    shown = [line.split(" ", 2)[2] for line in run("logs").stdout.splitlines()]
    assert shown == ["a first", "b second", "a third"]


def test_json_lines_are_whole(run: Eventfn, folder: Path) -> None:
    log(folder, "a", "é \x1b[2J")
    (line,) = run("logs", "--json").stdout.splitlines()
    assert line.isascii()
    assert json.loads(line) == {"timestamp": 1_700_000_000_000, "stream": "s", "message": "é \x1b[2J", "function": "a"}


def test_what_a_function_prints_cannot_drive_the_terminal(run: Eventfn, folder: Path) -> None:
    log(folder, "a", "\x1b]52;c;ZXZpbA==\x07 \x9b31m a\rb \u202ec\ttab\x00")
    shown = run("logs", "a").stdout
    assert shown.endswith(" \\x1b]52;c;ZXZpbA==\\x07 \\x9b31m a\\x0db \\u202ec\ttab\\x00\n")


def test_since_leaves_out_what_is_older(run: Eventfn, folder: Path) -> None:
    now = time.time_ns() // 1_000_000
    log(folder, "a", "old", now - 700_000)
    log(folder, "a", "new", now - 500_000)
    assert [line.split()[-1] for line in run("logs", "--since", "10m").stdout.splitlines()] == ["new"]
    assert [line.split()[-1] for line in run("logs", "--since", "800").stdout.splitlines()] == ["old", "new"]


def test_mistakes_are_told(run: Eventfn, folder: Path) -> None:
    log(folder, "hello", "x")
    unknown = run("logs", "helo")
    assert unknown.exit_code == 1
    assert unknown.stderr == f"error: no log of 'helo' in {folder}/.eventfn/logs (did you mean 'hello'?)\n"
    since = run("logs", "--since", "yesterday")
    assert since.exit_code == 2
    assert "expected a duration such as" in since.stderr


def test_following_shows_new_lines_until_it_is_stopped(folder: Path) -> None:
    now = time.time_ns() // 1_000_000
    log(folder, "hello", "long ago", now - 3_600_000)
    log(folder, "hello", "first", now)
    following = subprocess.Popen(
        [sys.executable, "-m", "eventfn", "logs", "-f"],
        stdout=subprocess.PIPE,
        text=True,
        # A shell starts what is in the background with SIGINT ignored, and that is inherited.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert following.stdout is not None
    with following:
        assert following.stdout.readline().endswith(" hello first\n")
        log(folder, "later", "second", now + 1)
        assert following.stdout.readline().endswith(" later second\n")
        following.send_signal(signal.SIGINT)
        assert following.wait(20) == 130


def test_a_reader_that_has_seen_enough_is_no_error(folder: Path) -> None:
    for _ in range(3000):
        log(folder, "hello", "x" * 100)
    done = subprocess.run(
        f"{sys.executable} -m eventfn logs | head -1", shell=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""

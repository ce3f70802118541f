from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Eventfn

GOOD = """
[functions.hello]
handler = "hello.handler"

[[functions.hello.triggers]]
type = "http"
path = "/hello"
"""


@pytest.fixture(autouse=True)
def code(folder: Path) -> None:
    (folder / "hello.py").write_text("def handler(event, context): ...")


def test_a_project_without_mistakes_is_counted(run: Eventfn, folder: Path) -> None:
    (folder / "eventfn.toml").write_text(GOOD)
    assert run("check").stdout == "ok: 1 function, 1 trigger\n"
    assert run("check", "--json").stdout == "[]\n"


def test_every_mistake_is_told_with_its_place_and_the_nearest_key(run: Eventfn, folder: Path) -> None:
    (folder / "eventfn.toml").write_text(GOOD.replace("path =", "pth =") + "[limits]\nconcurency = 3\n")
    result = run("check")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "eventfn.toml:7: functions.hello.triggers" in result.stderr
    assert "eventfn.toml:9: limits.concurency:" in result.stderr
    assert "did you mean 'concurrency'?" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")
    problems = json.loads(run("check", "--json").stdout)
    assert {"file", "line", "key", "message", "hint"} == set(problems[0])
    assert run("check", "--json").exit_code == 1


def test_nothing_to_check_is_told(run: Eventfn, folder: Path) -> None:
    (folder / "empty").mkdir()
    result = run("check", "empty")
    assert result.exit_code == 1
    assert "no eventfn.toml here" in result.stderr
    assert run("check", "absent").exit_code == 1

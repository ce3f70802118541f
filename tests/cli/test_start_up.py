"""What a command imports is what its start costs: these are the libraries that would be felt."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Computing to import them, in milliseconds on a machine where Python itself starts in 14; each takes memory for as long
# as the process lives, too.
HEAVY = {
    "aiohttp": 180,
    "asyncio": 35,
    "importlib.metadata": 20,
    "rich": 30,
    "sqlite3": 3,
    "uvloop": 40,
    "watchfiles": 8,
}
NODE = {"asyncio", "importlib.metadata", "sqlite3", "uvloop"}  # what a node cannot do without


def imported_by(code: str, folder: Path) -> set[str]:
    """Those of HEAVY that are imported once `code` has run, also when it ends with SystemExit."""
    program = (
        f"import json, sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\n"
        f"print('\\n' + json.dumps([name for name in {list(HEAVY)} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=folder)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments", [["--help"], ["status"], ["queue", "list"], ["invoke", "f"]], ids=lambda given: given[0]
)
def test_a_command_imports_nothing_of_a_node(arguments: list[str], tmp_path: Path) -> None:
    data = [] if "--help" in arguments else ["--data", str(tmp_path)]
    command = f"sys.argv = {['eventfn', *arguments, *data]}; from eventfn.cli import main; main()"
    assert imported_by(command, tmp_path) == set()


def test_check_starts_nothing_and_imports_nothing_that_would(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("def handler(event, context): ...\n")
    (tmp_path / "eventfn.toml").write_text('[functions.f]\nhandler = "main.handler"\n')
    command = "sys.argv = ['eventfn', 'check']; from eventfn.cli import main; main()"
    assert imported_by(command, tmp_path) <= NODE - {"uvloop", "sqlite3"}


def test_a_node_is_ready_before_it_imports_what_serves_its_admin_listener(tmp_path: Path) -> None:
    """The http connector with it, as most projects have a route."""
    assert imported_by("import eventfn.cli.run, uvloop, eventfn.supervisor, eventfn_http", tmp_path) == NODE


def test_the_walls_are_tried_before_a_node_is_imported(tmp_path: Path) -> None:
    """The trial is a process that takes as long as half of these imports."""
    assert imported_by("import eventfn.cli.run", tmp_path) <= {"importlib.metadata"}


@pytest.mark.parametrize("connector", ["cron", "file", "files", "fn", "queue", "webhook"])
def test_a_connector_is_imported_without_what_it_sends_with(connector: str, tmp_path: Path) -> None:
    needed = {"watchfiles"} if connector == "files" else set()
    assert imported_by(f"import eventfn_{connector}", tmp_path) <= NODE | needed


def test_what_is_named_here_is_installed_or_was_dropped_on_purpose() -> None:
    for name in HEAVY.keys() - {"rich"}:
        __import__(name)

"""examples/plugin is what it says: a package of its own, installed beside eventfn, found by its entry points."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"


def run(*command: str | Path, beside: Path | None = None) -> str:
    environ = os.environ | ({"PYTHONPATH": str(beside)} if beside else {})
    done = subprocess.run([sys.executable, *command], cwd=PLUGIN, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests_pass() -> None:
    assert " passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that it was installed into, as any index's package would be."""
    beside = tmp_path_factory.mktemp("installed")
    pip = ("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--target")
    run(*pip, beside, PLUGIN)
    return beside


DECLARED = """
import json
from pathlib import Path
from eventfn.config import load
from eventfn.plugins import Plugins
function = load(Path("project"), Plugins.installed()).functions["alarm"]
print(json.dumps([function.on_success, function.triggers[0].type, function.triggers[0].settings.poll]))
"""


def test_a_project_that_uses_it_is_valid_once_it_is_installed(installed: Path) -> None:
    assert json.loads(run("-c", DECLARED, beside=installed)) == ["stdout:json", "tail", 0.2]


def test_without_it_the_project_says_what_is_missing(installed: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DECLARED], cwd=PLUGIN, capture_output=True, text=True)
    assert "no trigger is called 'tail'" in done.stderr
    assert "no destination is called 'stdout'" in done.stderr

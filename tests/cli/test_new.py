"""What is started works as it is: it is checked, its tests pass, the connector conforms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Eventfn


def pytest_in(folder: Path) -> str:
    """The outcome of the tests of a folder, run as its author would."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["hello", "thumbnail-small", "7up"])
def test_a_new_function_is_declared_and_its_test_passes(run: Eventfn, folder: Path, name: str) -> None:
    told = run("new", "function", name)
    assert told.exit_code == 0
    assert told.stdout.endswith("wrote eventfn.toml\nnext: eventfn run\n")
    assert run("check").stdout == "ok: 1 function, 1 trigger\n"
    assert "1 passed" in pytest_in(folder)


def test_a_second_function_is_added_to_what_is_there(run: Eventfn, folder: Path) -> None:
    (folder / "eventfn.toml").write_text('# mine\n[http]\nlisten = "127.0.0.1:0"')
    run("new", "function", "one")
    told = json.loads(run("new", "function", "two", "--json").stdout)
    assert told["files"] == ["functions/two/two.py", "tests/test_two.py", "eventfn.toml"]
    assert (folder / "eventfn.toml").read_text().startswith('# mine\n[http]\nlisten = "127.0.0.1:0"\n\n[functions.one]')
    assert run("check").stdout == "ok: 2 functions, 2 triggers\n"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ('[functions.hello]\nhandler = "x.y"\n', "[functions.hello] is there already"),
        ("[functions", "cannot add [functions.hello]"),
        ('functions = { other = { handler = "x.y" } }\n', "cannot add [functions.hello]"),
    ],
)
def test_settings_that_cannot_be_added_to_are_left_as_they_are(
    run: Eventfn, folder: Path, settings: str, told: str
) -> None:
    (folder / "eventfn.toml").write_text(settings)
    result = run("new", "function", "hello")
    assert result.exit_code == 1
    assert told in result.stderr
    assert [path.name for path in folder.iterdir()] == ["eventfn.toml"]
    assert (folder / "eventfn.toml").read_text() == settings


def test_a_file_that_is_there_is_not_overwritten(run: Eventfn, folder: Path) -> None:
    (folder / "tests").mkdir()
    (folder / "tests" / "test_hello.py").write_text("mine")
    result = run("new", "function", "hello")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: tests/test_hello.py is there already: nothing was written\n",
    )
    assert [path.name for path in folder.rglob("*")] == ["tests", "test_hello.py"]


@pytest.mark.parametrize(
    "arguments", [("function", "a b"), ("function", "x" * 65), ("connector", "Upper"), ("connector", "a-b")]
)
def test_names_are_checked(run: Eventfn, folder: Path, arguments: tuple[str, str]) -> None:
    result = run("new", *arguments)
    assert result.exit_code == 2
    assert "is no name for a" in result.stderr
    assert list(folder.iterdir()) == []


def test_a_new_connector_conforms_out_of_the_box(run: Eventfn, folder: Path) -> None:
    assert run("new", "connector", "spool_dir").exit_code == 0
    package = folder / "eventfn-spool-dir"
    assert (package / "eventfn_spool_dir" / "py.typed").exists()
    assert pytest_in(package).splitlines()[-1].startswith("60 passed, 5 skipped")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", folder / "cache", "."],
        cwd=package,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert checked.returncode == 0, checked.stdout
    assert run("new", "connector", "spool_dir").exit_code == 1, "a second time nothing is overwritten"


INSTALLED = """
import importlib.metadata, sys
from pathlib import Path
from eventfn.config import load
from eventfn.plugins import Plugins
plugins = Plugins.installed()
print(plugins.trigger("spool_dir").__name__, plugins.destination("spool_dir").__name__)
sys.path.insert(0, str(Path.cwd()))
project = load(Path("eventfn.toml"), plugins)
print(project.functions["work"].on_failure, project.shared["spool_dir"].server)
print("py.typed" in {file.name for file in importlib.metadata.files("eventfn-spool-dir")})
"""


def test_a_new_connector_is_a_package_whose_sample_is_a_project(run: Eventfn, folder: Path) -> None:
    assert run("new", "connector", "spool_dir").exit_code == 0
    package, beside = folder / "eventfn-spool-dir", folder / "installed"
    pip = ("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--target", beside)
    subprocess.run([sys.executable, *pip, package], check=True, timeout=100)
    (folder / "eventfn.toml").write_text((package / "eventfn_spool_dir" / "sample.toml").read_text())
    (folder / "work.py").write_text("def handler(event, context):\n    return None\n")
    told = subprocess.run(
        [sys.executable, "-c", INSTALLED],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(beside)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert told.stdout.splitlines() == [
        "SpoolDirTrigger SpoolDirDestination",
        "spool_dir:failed 127.0.0.1:7070",
        "True",
    ], told.stderr

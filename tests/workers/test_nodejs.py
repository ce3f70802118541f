"""Which node of the machine runs a function."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventfn.errors import ConfigError
from eventfn.functions import runs
from eventfn.functions.model import Function, Where
from eventfn.units import Duration
from eventfn.workers.runtimes import family, finding, nodejs, python


def install(folder: Path, version: str) -> str:
    """Something that says that it is this version of node. Its path."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "node"
    program.write_text(f"#!/bin/sh\necho v{version}\n")
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no node at all."""
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{tmp_path}/more")
    monkeypatch.setenv("NVM_DIR", str(tmp_path / "nvm"))
    return tmp_path


def fn(runtime: str | None, **settings: object) -> Function:
    return Function(name="fn", handler="a.b", code="/", runtime=runtime, where=Where("eventfn.toml", 3), **settings)  # type: ignore[arg-type]


def test_the_node_of_that_version_is_found_wherever_it_is(machine: Path) -> None:
    install(machine / "bin", "18.1.0")
    second = install(machine / "more", "20.2.0")
    third = install(machine / "nvm/versions/node/v22.3.0/bin", "22.3.0")
    assert nodejs.find("nodejs20.x") == nodejs.Node(second, "20.2.0")
    assert nodejs.find("nodejs22.x") == nodejs.Node(third, "22.3.0")


def test_another_version_is_none_and_named(machine: Path) -> None:
    there = install(machine / "bin", "18.1.0")
    with pytest.raises(ConfigError) as raised:
        finding.find(fn("nodejs20.x"))
    (problem,) = raised.value.problems
    assert (problem.file, problem.line, problem.key) == ("eventfn.toml", 3, "functions.fn.runtime")
    assert problem.message == (
        f"no node of version 20 is on PATH (there is 18.1.0 at {there}): install it, or say the version you have"
    )


def test_no_node_at_all_is_seen_without_asking_anybody(machine: Path) -> None:
    why = finding.why_not_installed("nodejs20.x")
    assert why is not None
    assert "there is none at all" in why
    install(machine / "bin", "18.1.0")
    assert finding.why_not_installed("nodejs20.x") is None


def test_what_says_no_version_is_no_node(machine: Path) -> None:
    install(machine / "bin", "is for volcano")
    with pytest.raises(nodejs.NotInstalled):
        nodejs.find("nodejs20.x")


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        (None, "python"), ("python3.12", "python"), ("nodejs22.x", "nodejs"), ("provided.al2023", "provided"),
        ("provided", "provided"), ("java21", "bootstrap"), ("java8.al2", "bootstrap"), ("ruby3.3", "bootstrap"),
        ("dotnet8", "bootstrap"), ("python2.7", None), ("nodejs", None), ("cobol", None), ("", None),
    ],
)  # fmt: skip
def test_runtimes_have_families(runtime: str | None, expected: str | None) -> None:
    assert family(runtime) == expected


def test_what_has_no_program_of_the_machine_needs_none(machine: Path) -> None:
    assert finding.find(fn("java21")) == finding.Found(python.own(), "java21")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"requirements": "/requirements.txt"}, "requirements"),
        ({"snap_start": True}, "snap_start"),
        ({"concurrency_per_environment": 5}, "concurrency_per_environment"),
    ],
)
def test_what_only_python_has_is_refused_elsewhere(settings: dict[str, object], key: str) -> None:
    assert [found for found, _ in runs.mistakes(fn("nodejs20.x", timeout=Duration(1), **settings))] == [key]
    assert not list(runs.mistakes(fn("python3.12", **settings)))


def test_a_wrapped_python_is_not_copied() -> None:
    environment = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrap"}
    assert [key for key, _ in runs.mistakes(fn(None, environment=environment, snap_start=True))] == ["snap_start"]
    assert not list(runs.mistakes(fn(None, environment=environment)))


def test_a_runtime_that_aws_has_and_eventfn_has_not_needs_a_bootstrap(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="put an executable file `bootstrap`"):
        runs.check(fn("java21"), "java21", str(tmp_path), None)
    (tmp_path / "bootstrap").touch(mode=0o755)
    assert runs.check(fn("java21"), "java21", str(tmp_path), None) == ()
    assert runs.check(fn("java21"), "java21", "/nowhere", str(tmp_path)) == ()


def test_executable_files_in_a_layer_are_extensions(tmp_path: Path) -> None:
    folder = tmp_path / "extensions"
    folder.mkdir()
    for name, mode in (("b", 0o755), ("a", 0o755), ("notes.txt", 0o644)):
        (folder / name).touch(mode=mode)
    (folder / "nested").mkdir()
    assert runs.check(fn(None), "python3.11", "/", str(tmp_path)) == ("a", "b")
    with pytest.raises(ConfigError, match=r"snap_start: a copy is a fork, .*: leave it out, or a, b in /opt"):
        runs.check(fn(None, snap_start=True), "python3.11", "/", str(tmp_path))
    for number in range(9):
        (folder / f"more-{number}").touch(mode=0o755)
    with pytest.raises(ConfigError, match="at most 10 extensions"):
        runs.check(fn(None), "python3.11", "/", str(tmp_path))

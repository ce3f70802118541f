"""Python: `runtime = "python3.12"` is the real interpreter of that version, never a shim and never a venv's link."""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import msgspec

from eventfn.errors import ConfigError, Problem
from eventfn.functions.model import Function

# A shim (pyenv) costs 94 ms at every start, and a venv's link shows the venv's packages: both say where they lead.
_ASK = """
import json, platform, sys
found = getattr(sys, "_base_executable", sys.executable), platform.python_version(), " ".join(platform.python_build())
print(json.dumps(found))
"""


class Interpreter(msgspec.Struct, frozen=True):
    path: str
    version: str  # "3.12.4"
    build: str = ""  # which of that version: "main Jun  6 2024 18:26:44"

    @property
    def runtime(self) -> str:
        return "python" + self.version.rpartition(".")[0]


def find(function: Function) -> Interpreter:
    """The interpreter for the function's runtime. Raises ConfigError. Blocks for tens of milliseconds per candidate,
    when it is another one than runs eventfn."""
    if function.runtime is None:
        return own()
    if not re.fullmatch(r"python3\.\d+", function.runtime):
        return _missing(function, f'expected "python3.N", got {function.runtime!r}')
    for candidate in _candidates(function.runtime):
        found = _ask(candidate)
        if found is not None and found.runtime == function.runtime:
            return found
    return _missing(function, not_installed(function.runtime))


def own() -> Interpreter:
    """The one that runs eventfn."""
    executable: str = getattr(sys, "_base_executable", sys.executable)  # as in _ASK, of ourselves
    return Interpreter(os.path.realpath(executable), platform.python_version(), " ".join(platform.python_build()))


def seems_installed(runtime: str) -> bool:
    """Whether `find` has a candidate to ask. Starts nothing."""
    return next(_candidates(runtime), None) is not None


def not_installed(runtime: str) -> str:
    return f"no {runtime} is on PATH: install it, or say {own().runtime}, which is here"


def _candidates(runtime: str) -> Iterator[str]:
    for folder in [os.path.dirname(sys.executable), *os.get_exec_path()]:  # noqa: PTH120 - entries of PATH are strings
        if (candidate := shutil.which(runtime, path=folder)) is not None:
            yield candidate


def _ask(executable: str) -> Interpreter | None:
    try:
        return _answer(executable, os.stat(executable).st_mtime_ns)  # noqa: PTH116 - entries of PATH are strings
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError):
        return None  # a shim of a version that is not installed, most often: the next folder may have it


@functools.cache
def _answer(executable: str, _changed_ns: int) -> Interpreter:
    """Asked once for all functions, until the file is another one; a failure is no answer, and is not kept."""
    asked = subprocess.run([executable, "-I", "-c", _ASK], capture_output=True, timeout=10, check=True)
    path, version, build = msgspec.json.decode(asked.stdout, type=tuple[str, str, str])
    return Interpreter(os.path.realpath(path), version, build)


def _missing(function: Function, message: str) -> Interpreter:
    where = function.where
    raise ConfigError([Problem(where.file, where.line, f"functions.{function.name}.runtime", message)])

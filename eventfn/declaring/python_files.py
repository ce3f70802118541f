"""Declarations in a Python file: an `eventfn.App`, or nothing but a handler.

Belongs here: what can be seen of such a file from outside. Importing it, which runs the user's code, is done by a
child process (importing.py), so that it can neither harm nor outlive the node's own state.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from eventfn.declaring.documents import Document, read_text
from eventfn.declaring.settings import KeyPath
from eventfn.errors import ConfigError, Problem
from eventfn.functions.model import Where

_IMPORT_TIMEOUT = 30  # seconds; a module that only declares takes far less than one
# -I keeps the folder that eventfn was started in off the path; the node's own path makes it the same eventfn.
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from eventfn.declaring.importing import main; main(sys.argv[2])"
)
_HANDLER = "handler"
_READ_BY_IMPORT = "eventfn imports this file to read what it declares"

# A file without a word about triggers answers on every path, as a function URL does.
_EVERY_REQUEST = [
    {"type": "http", "method": "ANY", "path": "/"},
    {"type": "http", "method": "ANY", "path": "/{path+}"},
]


class _Declared(msgspec.Struct):
    """A function or queue, as the importing child tells it."""

    name: str
    table: dict[str, Any]
    file: str
    line: int


class _App(msgspec.Struct):
    tables: dict[str, Any]
    functions: list[_Declared]
    queues: list[_Declared]
    file: str
    line: int


class _Failure(msgspec.Struct):
    error: str
    file: str | None
    line: int | None
    missing: list[str]


class _Answer(msgspec.Struct):
    apps: list[_App] = []
    failed: _Failure | None = None


def declares(file: Path) -> bool:
    """Whether a file in a project's folder looks like its declaration: it makes an App, or has a `handler`."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    return _imports_eventfn(tree) or any(function.name == _HANDLER for function in _functions(tree))


def from_python(file: Path) -> Document:
    """Raises ConfigError."""
    try:
        tree = ast.parse(read_text(file))
    except (SyntaxError, ValueError) as error:  # ValueError: NUL characters
        line, what = (error.lineno, error.msg) if isinstance(error, SyntaxError) else (None, str(error))
        raise ConfigError([Problem(str(file), line, "", f"is not valid Python: {what}")]) from None
    if _imports_eventfn(tree):
        apps = _apps(file)
        if apps:
            return _from_app(file, apps)
    return _from_bare_file(file, tree)


# --- a bare handler ---


def _from_bare_file(file: Path, tree: ast.Module) -> Document:
    public = [function for function in _functions(tree) if not function.name.startswith("_")]
    named = [function for function in public if function.name == _HANDLER]
    if len(chosen := named or public) != 1:
        found = ", ".join(function.name for function in public) or "none"
        message = f"expected an eventfn.App, or a function called 'handler', or exactly one function; found {found}"
        raise ConfigError([Problem(str(file), None, "", message)])
    function = chosen[0]
    table = {"handler": f"{file.stem}.{function.name}", "triggers": _EVERY_REQUEST}
    return Document(
        folder=file.resolve().parent,
        file=file.resolve(),
        tables={"functions": {file.stem: table}},
        where=lambda path: Where(str(file), function.lineno),
    )


def _functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def _imports_eventfn(tree: ast.Module) -> bool:
    for node in tree.body:
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "eventfn" for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and node.level == 0 and str(node.module).split(".")[0] == "eventfn":
            return True
    return False


# --- an App ---


def _from_app(file: Path, apps: list[_App]) -> Document:
    first, *others = apps
    problems = [
        Problem(str(_as_spelled(other.file, file)), other.line, "", "is a second App; a project has one")
        for other in others
    ]
    places: dict[KeyPath, Where] = {(): Where(str(_as_spelled(first.file, file)), first.line)}
    tables = dict(first.tables)
    for kind, declared in (("functions", first.functions), ("queues", first.queues)):
        if kind in tables:
            problems.append(Problem(places[()].file, first.line, kind, f"are declared with app.{kind[:-1]}(...)"))
        tables[kind] = {}
        for one in declared:
            where = Where(str(_as_spelled(one.file, file)), one.line)
            if (before := places.get((kind, one.name))) is not None:
                message = f"is declared already, at {before.file}:{before.line}"
                problems.append(Problem(where.file, where.line, f"{kind}.{one.name}", message))
            tables[kind][one.name] = one.table
            places[kind, one.name] = where
    if problems:
        raise ConfigError(problems)
    return Document(
        folder=file.resolve().parent,
        file=file.resolve(),
        tables=tables,
        where=lambda path: places.get(path[:2], places[()]),
    )


def _apps(file: Path) -> list[_App]:
    """The Apps that the module has once it is imported. Raises ConfigError."""
    path = json.dumps([entry for entry in sys.path if entry])
    # In a group of its own, so that what the module started can be ended with it. It has the operator's environment:
    # declarations may read it, as the values of eventfn.toml may.
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", _CHILD, path, str(file.resolve())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,
    )
    try:
        output, errors = child.communicate(timeout=_IMPORT_TIMEOUT)
    except BaseException as interrupted:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        if not isinstance(interrupted, subprocess.TimeoutExpired):
            raise
        message = f"took more than {_IMPORT_TIMEOUT} s to import"
        raise ConfigError([Problem(str(file), None, "", message, _READ_BY_IMPORT)]) from None
    if not output:
        last = errors.strip().rpartition("\n")[2] or f"exit code {child.returncode}"
        message = f"ended the process that imports it: {last}"
        raise ConfigError([Problem(str(file), None, "", message, _READ_BY_IMPORT)])
    answer = msgspec.convert(json.loads(output), _Answer)
    if answer.failed is not None:
        raise ConfigError([_failure(file, answer.failed)])
    return answer.apps


def _failure(file: Path, failed: _Failure) -> Problem:
    hint = _READ_BY_IMPORT
    if failed.missing:
        hint += f"; {', '.join(failed.missing)} is not installed beside eventfn and was replaced by a stand-in"
    shown = _as_spelled(failed.file, file) if failed.file else file
    return Problem(str(shown), failed.line, "", f"cannot be imported: {failed.error}", hint)


def _as_spelled(path: str, file: Path) -> Path:
    """A path beside the file, spelled as the user spelled that one."""
    folder = file.resolve().parent
    return file.parent / Path(path).relative_to(folder) if Path(path).is_relative_to(folder) else Path(path)

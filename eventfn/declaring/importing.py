"""Imports a user's Python file in a process of its own, and prints what it declares as JSON on standard output.

Runs in the child that python_files.py starts, never in the node: whatever the module does, it does it here, and a
reload starts from nothing. What the module itself prints goes to standard error.
"""

from __future__ import annotations

import builtins
import datetime
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

from eventfn.app import App, Declaration
from eventfn.declaring.settings import NO_PLAIN_VALUE


def main(path: str) -> None:
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    file = Path(path)
    # Only now, when all that eventfn needs is loaded: a module of the project may have the name of anything.
    sys.path.insert(0, str(file.parent))
    missing = _stand_in_for_missing_modules(file.parent)
    try:
        module = _imported(file)
    except BaseException as error:  # SystemExit too: to the node it is one more way to fail
        json.dump({"failed": _failure(error, file.parent, missing)}, answer)
        return

    def told(declaration: Declaration) -> dict[str, Any]:
        name, settings, handler, at_file, line = declaration
        if handler is not None:
            settings = {**settings, "handler": _handler_string(handler, module)}
        return {"name": name, "table": settings, "file": at_file, "line": line}

    apps = {id(value): value for value in vars(module).values() if isinstance(value, App)}
    told_apps = [
        {
            "tables": app.tables,
            "functions": [told(declaration) for declaration in app.functions],
            "queues": [told(declaration) for declaration in app.queues],
            "file": app.file,
            "line": app.line,
        }
        for app in apps.values()
    ]
    json.dump({"apps": told_apps}, answer, default=_plain)


def _imported(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def _handler_string(handler: Any, imported: ModuleType) -> str:
    """Where the handler can be found by name. A decorator without functools.wraps hides it under its own."""
    for module in (sys.modules.get(handler.__module__), imported):
        for name, value in vars(module).items() if module else ():
            if value is handler and module:
                return f"{module.__name__}.{name}"
    return f"{handler.__module__}.{handler.__qualname__}"


def _stand_in_for_missing_modules(project: Path) -> list[str]:
    """A function's requirements are installed for it, and not beside eventfn: a module of the project that imports
    one gets a mock while it declares. Only then: what installed packages try to import and may not find is theirs."""
    really_import = builtins.__import__
    missing: list[str] = []

    def import_or_mock(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the signature of __import__
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        try:
            return really_import(name, globals, locals, fromlist or (), level)
        except ModuleNotFoundError as error:
            importer = str((globals or {}).get("__file__") or "")
            its_own = f"{name}.".startswith(f"{error.name}.")
            if level or not its_own or not Path(importer).is_relative_to(project):
                raise
            missing.append(name)
            return MagicMock(name=name, __all__=[])

    builtins.__import__ = import_or_mock
    return missing


def _failure(error: BaseException, project: Path, missing: list[str]) -> dict[str, Any]:
    """Where in the project it went wrong, and what."""
    file, line = None, None
    if isinstance(error, SyntaxError):
        file, line = error.filename, error.lineno
    else:
        for frame in traceback.extract_tb(error.__traceback__):
            if Path(frame.filename).is_relative_to(project):
                file, line = frame.filename, frame.lineno
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return {"file": file, "line": line, "error": f"{type(error).__name__}: {message}", "missing": missing}


def _plain(value: object) -> object:
    """The value as eventfn.toml would have it. For what has no such form its type: the key will refuse it by name."""
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, PurePath):
        return str(value)
    return {NO_PLAIN_VALUE: type(value).__name__}

"""What of a function's code and layers is executed: its bootstrap and its extensions, and what a runtime asks for.

Belongs here: what can be seen of the files. Does not: what a program says once it runs (workers/).
"""

from __future__ import annotations

import stat
from pathlib import Path

from eventfn.errors import ConfigError, Problem
from eventfn.functions.model import Function
from eventfn.workers.runtimes import family

MOST_EXTENSIONS = 10  # Lambda's
_BOOTSTRAP = "bootstrap"


def check(function: Function, runtime: str, task_root: str, opt_root: str | None) -> tuple[str, ...]:
    """The names of its extensions. Raises ConfigError for what can never run. Blocks."""
    kind = family(runtime)
    if kind == "bootstrap" and not any(
        root is not None and _is_executable(Path(root, _BOOTSTRAP)) for root in (task_root, opt_root)
    ):
        message = (
            f"eventfn has no {runtime} of its own: put an executable file `bootstrap` that speaks the Runtime API "
            "into the code or a layer"
        )
        raise _problem(function, "runtime", message)
    if kind != "python":
        for key, wanted in (("requirements", None), ("snap_start", False), ("concurrency_per_environment", 1)):
            if getattr(function, key) != wanted:
                raise _problem(function, key, f"is of Python functions, and the runtime is {runtime}")
    extensions = _extensions(opt_root)
    if len(extensions) > MOST_EXTENSIONS:
        message = f"expected at most {MOST_EXTENSIONS} extensions in /opt/extensions, got {len(extensions)}"
        raise _problem(function, "layers", message)
    return extensions


def _extensions(opt_root: str | None) -> tuple[str, ...]:
    try:
        found = sorted(Path(opt_root or "", "extensions").iterdir()) if opt_root is not None else []
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(path.name for path in found if _is_executable(path))


def _is_executable(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def _problem(function: Function, key: str, message: str) -> ConfigError:
    where = function.where
    return ConfigError([Problem(where.file, where.line, f"functions.{function.name}.{key}", message)])

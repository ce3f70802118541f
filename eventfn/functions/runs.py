"""What of a function's code and layers is executed: its bootstrap and its extensions, and what a runtime asks for.

Belongs here: what can be seen of the files. Does not: what a program says once it runs (workers/).
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from eventfn.errors import ConfigError, Problem
from eventfn.functions.model import Function
from eventfn.workers.runtimes import family

MOST_EXTENSIONS = 10  # Lambda's
_WRAPPER = "AWS_LAMBDA_EXEC_WRAPPER"
BOOTSTRAP = "bootstrap"


def check(function: Function, runtime: str, task_root: str, opt_root: str | None) -> tuple[str, ...]:
    """The names of its extensions. Raises ConfigError for what can never run. Blocks."""
    if needs_bootstrap(runtime) and not any(has_bootstrap(root) for root in (task_root, opt_root) if root is not None):
        raise _problem(function, "runtime", no_bootstrap(runtime))
    if (mistake := next(mistakes(function), None)) is not None:
        raise _problem(function, *mistake)
    extensions = _extensions(opt_root)
    if extensions and function.snap_start:
        # Lambda copies a whole machine, with all that runs in it; a fork is of one process.
        message = f"a copy is a fork, which takes no extensions along: leave it out, or {', '.join(extensions)} in /opt"
        raise _problem(function, "snap_start", message)
    if len(extensions) > MOST_EXTENSIONS:
        message = f"expected at most {MOST_EXTENSIONS} extensions in /opt/extensions, got {len(extensions)}"
        raise _problem(function, "layers", message)
    return extensions


def needs_bootstrap(runtime: str | None) -> bool:
    """Whether it comes with the code alone. So does `provided`, of which Lambda says so at the first start only."""
    return family(runtime) == "bootstrap"


def has_bootstrap(folder: str) -> bool:
    """Blocks."""
    return _is_executable(Path(folder, BOOTSTRAP))


def no_bootstrap(runtime: str | None) -> str:
    return (
        f"eventfn has no {runtime} of its own: put an executable file `{BOOTSTRAP}` that speaks the Runtime API "
        "into the code or a layer"
    )


def mistakes(function: Function) -> Iterator[tuple[str, str]]:
    """Keys that its runtime has no use for, and why: seen without a look at its files."""
    if family(function.runtime) != "python":
        for key, unset in (("requirements", None), ("snap_start", False), ("concurrency_per_environment", 1)):
            if getattr(function, key) != unset:
                yield key, f"is for Python functions, and the runtime is {function.runtime}"
    elif function.environment.get(_WRAPPER) and function.snap_start:
        yield "snap_start", f"copies are made by fork, and {_WRAPPER} starts a program: leave out one of them"


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

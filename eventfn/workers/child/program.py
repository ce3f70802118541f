"""A runtime that is a program of its own: this process becomes it, behind the walls that stand around it already.

It speaks the Runtime API, so the channel ends here: the supervisor reads the end of it once the program runs. But for
a Python handler behind a wrapper (wrapped.py): that one inherits the channel, and says itself when it is ready.
"""

from __future__ import annotations

import json
import os
import stat
from typing import Any, NoReturn

from eventfn.workers.child import frames, keeper

_INVALID_ENTRYPOINT = "Runtime.InvalidEntrypoint"
_FACTS = "_EVENTFN_RUNTIME"  # variable, read by importable/bootstrap.py


def become(settings: dict[str, Any]) -> NoReturn:
    command = settings["program"]
    candidates: list[str] = command["candidates"]
    found = next((path for path in candidates if _can_be_executed(path)), None)
    if found is None:
        _fail(f"Couldn't find valid bootstrap(s): [{' '.join(candidates)}]")
    argv = [found, *command["arguments"]]
    if command["wrapper"]:
        argv.insert(0, command["wrapper"])
    variables: dict[str, str] = settings["variables"]
    if command["modules"] is not None:
        facts = {name: settings[name] for name in ("function", "concurrency", "path", "bytecode")}
        variables = variables | {_FACTS: json.dumps(facts | {"modules": command["modules"]})}
    try:
        os.chdir(settings["task_root"])
        keeper.restore_signals()
        if command["modules"] is not None:
            os.set_inheritable(frames.CHANNEL, True)
        elif not settings["extensions"]:  # else it has been said
            frames.write(frames.CHANNEL, frames.join(frames.READY))
        os.execve(argv[0], argv, variables)  # noqa: S606 - there is nothing for a shell to do
    except (OSError, ValueError) as error:  # ValueError: a NUL in a variable
        _fail(f"fork/exec {argv[0]}: {(getattr(error, 'strerror', None) or str(error)).lower()}")


def _can_be_executed(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.X_OK)  # noqa: PTH116 - strings, as in the settings
    except OSError:
        return False


def _fail(why: str) -> NoReturn:
    frames.write(frames.CHANNEL, frames.join(frames.INIT_ERROR, f"{_INVALID_ENTRYPOINT}\n{why}".encode()))
    os._exit(1)

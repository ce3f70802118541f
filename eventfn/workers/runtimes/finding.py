"""What a function's runtime is on this machine: the one look-up for all families."""

from __future__ import annotations

import msgspec

from eventfn.errors import ConfigError, Problem
from eventfn.functions.model import Function
from eventfn.workers.runtimes import family, nodejs, python, versions
from eventfn.workers.runtimes.python import Interpreter

EXPECTED = '"python3.12", "nodejs20.x" or "provided.al2023"'


class Found(msgspec.Struct, frozen=True):
    interpreter: Interpreter  # the Python that makes the sandbox; of a Python function, the one that runs it
    runtime: str  # "python3.12", "nodejs20.x"
    executable: str | None = None  # of the runtime, where that is a program of the machine's
    version: str = ""  # what was found: "3.12.4", "20.11.0"; empty for what comes with the code
    build: str = ""  # where one version may be built twice

    def version_arn(self, region: str) -> str:
        return versions.arn(region, self.runtime, self.version, self.build)


def find(function: Function) -> Found:
    """Raises ConfigError that says what to install. Blocks for tens of milliseconds when a program is asked."""
    runtime = function.runtime
    kind = family(runtime)
    if runtime is None or kind == "python":
        interpreter = python.find(function)
        return Found(interpreter, interpreter.runtime, None, interpreter.version, interpreter.build)
    if kind == "nodejs":
        try:
            node = nodejs.find(runtime)
        except nodejs.NotInstalled as error:
            raise _problem(function, str(error)) from None
        return Found(python.own(), runtime, node.path, node.version)
    if kind is None:
        raise _problem(function, f'expected a runtime such as {EXPECTED}, got "{runtime}"')
    return Found(python.own(), runtime)


def why_not_installed(runtime: str) -> str | None:
    """What is plain without starting anything: None if it seems to be there."""
    match family(runtime):
        case "python" if not python.seems_installed(runtime):
            return python.not_installed(runtime)
        case "nodejs" if not nodejs.seems_installed():
            return nodejs.not_installed(runtime, [])
        case _:
            return None


def _problem(function: Function, message: str) -> ConfigError:
    where = function.where
    return ConfigError([Problem(where.file, where.line, f"functions.{function.name}.runtime", message)])

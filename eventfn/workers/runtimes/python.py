"""Python: `runtime = "python3.12"` is the real interpreter of that version, never a shim and never a venv's link."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from eventfn.errors import ConfigError, Problem
from eventfn.functions.model import Function
from eventfn.sandbox import allow_list, mounts
from eventfn.workers.contract import Prepared
from eventfn.workers.wire import NetworkPlan, Settings

# A shim (pyenv) costs 94 ms at every start, and a venv's link shows the venv's packages: both say where they lead.
_ASK = """
import json, platform, sys
print(json.dumps([getattr(sys, "_base_executable", sys.executable), platform.python_version()]))
"""

# Last on a function's path: a file that declares itself with `import eventfn` is a handler module too, and finds a
# stand-in there whose decorators do nothing, since eventfn itself is not in an environment.
_STAND_INS = str(Path(__file__).parents[1] / "child" / "importable")


class Interpreter(msgspec.Struct, frozen=True):
    path: str
    version: str  # "3.12.4"

    @property
    def runtime(self) -> str:
        return "python" + self.version.rpartition(".")[0]


def find(function: Function) -> Interpreter:
    """The interpreter for the function's runtime. Raises ConfigError. Blocks for tens of milliseconds per candidate,
    when it is another one than runs eventfn."""
    if function.runtime is None:
        executable: str = getattr(sys, "_base_executable", sys.executable)  # as in _ASK, of ourselves
        return Interpreter(os.path.realpath(executable), platform.python_version())
    if not re.fullmatch(r"python3\.\d+", function.runtime):
        return _missing(function, f'expected "python3.N", got {function.runtime!r}')
    for candidate in _candidates(function.runtime):
        found = _ask(candidate)
        if found is not None and found.runtime == function.runtime:
            return found
    return _missing(function, not_installed(function.runtime))


def seems_installed(runtime: str) -> bool:
    """Whether `find` has a candidate to ask. Starts nothing."""
    return next(_candidates(runtime), None) is not None


def not_installed(runtime: str) -> str:
    return f"no {runtime} is on PATH: install it, or leave `runtime` out"


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
    path, version = msgspec.json.decode(asked.stdout, type=tuple[str, str])
    return Interpreter(os.path.realpath(path), version)


def _missing(function: Function, message: str) -> Interpreter:
    where = function.where
    raise ConfigError([Problem(where.file, where.line, f"functions.{function.name}.runtime", message)])


class Place(NamedTuple):
    """A folder of the machine that is a function's, and where the function finds it."""

    path: str
    target: str
    read_only: bool = True
    shared: bool = False  # the machine's rather than the function's


def places(prepared: Prepared, tier: str) -> list[Place]:
    """In a tree of its own a function's files are where Lambda has them; without one, where they are."""
    own = [
        (prepared.task_root, mounts.TASK),
        (prepared.opt_root, mounts.OPT),
        (prepared.bytecode_root, mounts.BYTECODE),
    ]
    in_tree = tier == "full"
    code = [Place(path, target if in_tree else path) for path, target in own if path is not None]
    shared = prepared.function.file_system_configs
    return code + [Place(each.path, each.local_mount_path or each.path, each.read_only, shared=True) for each in shared]


def settings(
    prepared: Prepared,
    stream: str,
    tier: str,
    network: allow_list.Plan | None,
    *,
    provisioned: bool = False,
    snapshot: bool = False,
) -> Settings:
    """What a Python environment is told about itself."""
    function, found = prepared.function, places(prepared, tier)
    at = {place.path: place.target for place in reversed(found)}  # its own places before those it is given
    root, opt = at[prepared.task_root], at.get(prepared.opt_root or "")
    libraries = [] if opt is None else [f"{opt}/python/lib/{prepared.runtime}/site-packages", f"{opt}/python"]
    return Settings(
        supervisor=os.getpid(),
        function=function.name,
        handler=function.handler,
        concurrency=function.concurrency_per_environment,
        memory_mb=int(function.memory_size),  # the plain number: a Megabytes has no JSON
        tmp_mb=int(function.ephemeral_storage),
        mounts=[place.target for place in found] if tier == "full" else [],
        readable=[place.target for place in found],
        writable=[place.target for place in found if not place.read_only],
        hidden=[path for place in found for path in _hidden(prepared, place)],
        network=None if network is None else NetworkPlan(network.addresses, network.listen, network.hosts),
        task_root=root,
        path=[root, *libraries, mounts.RUNTIME if tier == "full" else _STAND_INS],
        bytecode=_bytecode(prepared, at),
        snapshot=snapshot,
        variables=_variables(prepared, root, opt, stream, _initialization(provisioned=provisioned, snapshot=snapshot)),
    )


def _hidden(prepared: Prepared, place: Place) -> Iterator[str]:
    root = os.path.realpath(place.path)
    for path in map(os.path.realpath, prepared.hidden):
        if path.startswith(f"{root}/"):
            yield place.target + path.removeprefix(root)


def _bytecode(prepared: Prepared, at: Mapping[str, str]) -> dict[str, str]:
    if prepared.bytecode_root is None:
        return {}
    compiled = at[prepared.bytecode_root]
    opt = {} if prepared.opt_root is None else {at[prepared.opt_root]: f"{compiled}/opt"}
    return {at[prepared.task_root]: f"{compiled}/task"} | opt


def _variables(prepared: Prepared, root: str, opt: str | None, stream: str, initialization: str) -> dict[str, str]:
    function = prepared.function
    folders = [os.path.dirname(prepared.interpreter), "/usr/local/bin", "/usr/bin", "/bin"]  # noqa: PTH120
    libraries = [root, f"{root}/lib", *([] if opt is None else [f"{opt}/lib"])]
    settable = {
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PATH": ":".join(folders if opt is None else [*folders, f"{opt}/bin"]),
        "LD_LIBRARY_PATH": ":".join(libraries),  # for programs that the function starts
        "PWD": root,
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
    }
    reserved = {
        "_HANDLER": function.handler,
        "AWS_REGION": prepared.region,
        "AWS_DEFAULT_REGION": prepared.region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{prepared.runtime}",
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(int(function.memory_size)),
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": initialization,
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": stream,
        "LAMBDA_TASK_ROOT": root,
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
    }
    return settable | function.environment | reserved


def _initialization(*, provisioned: bool, snapshot: bool) -> str:
    if snapshot:
        return "snap-start"
    return "provisioned-concurrency" if provisioned else "on-demand"


def variables_of_a_copy(stream: str) -> dict[str, str]:
    """What differs in an environment that was copied from another one."""
    return {"AWS_LAMBDA_LOG_STREAM_NAME": stream}


def version_and_arn(prepared: Prepared) -> tuple[str, str]:
    """What INIT_START says of the runtime."""
    digest = hashlib.sha256(f"{prepared.interpreter} {prepared.runtime}".encode()).hexdigest()
    version = prepared.runtime.replace("python", "python:")
    return version, f"arn:aws:lambda:{prepared.region}::runtime:{digest}"

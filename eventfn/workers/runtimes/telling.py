"""What an environment is told about itself: its folders, its variables, what runs in it.

Belongs here: what is the same for all runtimes, and the few differences between them. Does not: how a runtime is found
on the machine (python.py, nodejs.py, provided.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from eventfn.sandbox import allow_list, mounts
from eventfn.workers import gate
from eventfn.workers.contract import Prepared
from eventfn.workers.runtimes import family, nodejs, versions
from eventfn.workers.wire import NetworkPlan, Program, Settings

# Last on a function's path: a file that declares itself with `import eventfn` is a handler module too, and finds a
# stand-in there whose decorators do nothing, since eventfn itself is not in an environment.
_STAND_INS = str(Path(__file__).parents[1] / "child" / "importable")

_API = ("127.0.0.1", 9001)  # in a network of its own; elsewhere any port that is free
_LANGUAGE = "/var/lang"  # where Lambda has the runtime's own programs
# What a Python handler speaks frames with, which a fork has in its memory and an interpreter of its own imports.
_CHILD = str(Path(__file__).parents[1] / "child")
_SYSTEM = ("/usr/", "/lib", "/bin/", "/sbin/")  # which every environment has
# MB of data memory for each process beyond memory_size. V8, Go and the JVM reserve by the hundred what they never
# touch, and each of their threads has a stack. With cgroups memory_size is held all the same.
_HEAD_ROOM, _HEAD_ROOM_OF_A_PROGRAM = 128, 1024


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
    if prepared.executable is not None:
        own.append((nodejs.BOOTSTRAP, mounts.RUNTIME))
        if not prepared.executable.startswith(_SYSTEM):
            own.append((_prefix(prepared.executable), _LANGUAGE))
    if _is_wrapped_python(prepared):
        own.append((_CHILD, f"{_LANGUAGE}/eventfn"))
    in_tree = tier == "full"
    code = [Place(path, target if in_tree else path) for path, target in own if path is not None]
    shared = prepared.function.file_system_configs
    return code + [Place(each.path, each.local_mount_path or each.path, each.read_only, shared=True) for each in shared]


def _is_wrapped_python(prepared: Prepared) -> bool:
    return family(prepared.runtime) == "python" and prepared.wrapper is not None


def _prefix(executable: str) -> str:
    return str(Path(executable).parents[1])


def settings(
    prepared: Prepared,
    tier: str,
    network: allow_list.Plan | None,
    *,
    provisioned: bool = False,
    snapshot: bool = False,
) -> Settings:
    function, found = prepared.function, places(prepared, tier)
    at = {place.path: place.target for place in reversed(found)}  # its own places before those it is given
    root, opt = at[prepared.task_root], at.get(prepared.opt_root or "")
    libraries = [] if opt is None else [f"{opt}/python/lib/{prepared.runtime}/site-packages", f"{opt}/python"]
    runtime_folder = mounts.RUNTIME if tier == "full" else _STAND_INS
    program = _program(prepared, at, root, opt or mounts.OPT, runtime_folder)
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
        path=[root, *libraries, runtime_folder],
        bytecode=_bytecode(prepared, at),
        program=program,
        api=_api(prepared, tier),
        extensions=tuple(f"{opt}/extensions/{name}" for name in prepared.extensions),
        head_room_mb=_HEAD_ROOM_OF_A_PROGRAM if prepared.is_program else _HEAD_ROOM,
        snapshot=snapshot,
        gate=program is None
        and not snapshot
        and not prepared.speaks_runtime_api
        and function.concurrency_per_environment == 1
        and gate.is_possible(),
        variables=_variables(prepared, at, root, opt, initialization(provisioned=provisioned, snapshot=snapshot)),
    )


def _program(prepared: Prepared, at: Mapping[str, str], root: str, opt: str, runtime_folder: str) -> Program | None:
    """None: a Python handler, which needs none."""
    wrapper = prepared.wrapper
    match family(prepared.runtime):
        case "nodejs":
            return Program((_executable(prepared, at),), (f"{at[nodejs.BOOTSTRAP]}/bootstrap.cjs",), wrapper)
        case "provided" | "bootstrap":
            return Program((f"{root}/bootstrap", f"{opt}/bootstrap"), (), wrapper)
        case _ if wrapper is not None:
            # One argument, the last one: wrappers put options of the interpreter before it.
            return Program((prepared.interpreter,), (f"{runtime_folder}/bootstrap.py",), wrapper, at[_CHILD])
        case _:
            return None


def _executable(prepared: Prepared, at: Mapping[str, str]) -> str:
    """Where the environment finds the runtime's own program."""
    assert prepared.executable is not None
    prefix = _prefix(prepared.executable)
    return at.get(prefix, prefix) + prepared.executable.removeprefix(prefix)


def _api(prepared: Prepared, tier: str) -> tuple[str, int] | None:
    if not prepared.speaks_runtime_api:
        return None
    host, port = _API
    network = prepared.function.network
    taken = not isinstance(network, str) and any(f"{name}:{port}" in network for name in (host, "localhost"))
    return host, port if tier == "full" and network != "egress" and not taken else 0


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


def _variables(
    prepared: Prepared, at: Mapping[str, str], root: str, opt: str | None, initialized: str
) -> dict[str, str]:
    function, kind = prepared.function, family(prepared.runtime)
    folders = ["/usr/local/bin", "/usr/bin", "/bin"]
    if kind in ("python", "nodejs"):
        program = prepared.interpreter if kind == "python" else _executable(prepared, at)
        folders.insert(0, os.path.dirname(program))  # noqa: PTH120
    libraries = [root, f"{root}/lib", *([] if opt is None else [f"{opt}/lib"])]
    runtime_folder = at.get(nodejs.BOOTSTRAP, mounts.RUNTIME)
    settable = {
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PATH": ":".join(dict.fromkeys(folders if opt is None else [*folders, f"{opt}/bin"])),
        "LD_LIBRARY_PATH": ":".join(libraries),  # for programs that the function starts
        "PWD": root,
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
    }
    if kind == "nodejs":
        settable["NODE_PATH"] = ":".join(_node_path(prepared.runtime, root, opt or mounts.OPT, runtime_folder))
    reserved = {
        "_HANDLER": function.handler,
        "AWS_REGION": prepared.region,
        "AWS_DEFAULT_REGION": prepared.region,
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(int(function.memory_size)),
        "AWS_LAMBDA_FUNCTION_VERSION": prepared.number,
        "AWS_LAMBDA_INITIALIZATION_TYPE": initialized,
        "AWS_LAMBDA_LOG_GROUP_NAME": function.logging_config.log_group or f"/aws/lambda/{function.name}",
        "LAMBDA_TASK_ROOT": root,
        "LAMBDA_RUNTIME_DIR": runtime_folder,
    }
    if function.logging_config.log_format == "JSON":
        reserved["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        reserved["AWS_LAMBDA_LOG_LEVEL"] = function.logging_config.application_log_level
    if kind != "provided":
        reserved["AWS_EXECUTION_ENV"] = f"AWS_Lambda_{prepared.runtime}"
    return settable | function.environment | reserved


def _node_path(runtime: str, root: str, opt: str, runtime_folder: str) -> tuple[str, ...]:
    modules = f"{opt}/nodejs/node{nodejs.major(runtime)}/node_modules", f"{opt}/nodejs/node_modules"
    return *modules, f"{runtime_folder}/node_modules", runtime_folder, root


def initialization(*, provisioned: bool, snapshot: bool) -> str:
    if snapshot:
        return "snap-start"
    return "provisioned-concurrency" if provisioned else "on-demand"


def own_variables(prepared: Prepared, stream: str) -> dict[str, str]:
    """What is known when it is started: no variable of the function's takes their place, but those of endpoints."""
    own = prepared.function.environment
    endpoints = {name: value for name, value in prepared.told.endpoints.items() if name not in own}
    return {"AWS_LAMBDA_LOG_STREAM_NAME": stream} | endpoints | prepared.told.credentials


def version_and_arn(prepared: Prepared) -> tuple[str, str]:
    """What INIT_START says of the runtime."""
    return versions.shown(prepared.runtime, prepared.runtime_version), prepared.runtime_version_arn

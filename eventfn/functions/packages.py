"""A declared function -> code on disk, ready to run: zips unpacked, requirements installed, one version number.

Belongs here: what a function's code and layers are, and when they are others. Does not: how a zip is unpacked
(archives.py), how pip is run (requirements.py), environments (workers/).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from eventfn.errors import ConfigError, Problem
from eventfn.functions import archives, requirements
from eventfn.functions.layers import merge
from eventfn.functions.model import Function, Project, Where
from eventfn.workers.contract import Prepared
from eventfn.workers.runtimes import python

_NO_CODE = {"__pycache__", "node_modules"}  # and hidden folders, virtual environments, the data folder
_PYTHON_CODE = (".py", ".so")


async def prepare(function: Function, project: Project, progress: Callable[[str], None]) -> Prepared:
    """Everything that an environment of the function needs, in place or in the data folder.

    `progress` gets lines while something takes its time. A second call with nothing changed installs nothing and
    gives the same version. Raises ConfigError.
    """
    interpreter = await asyncio.to_thread(python.find, function)
    await asyncio.to_thread(_make_file_systems, function)
    data = Path(project.data)
    task_root, layers = await asyncio.to_thread(_unpacked, function, data)
    if function.requirements is not None:
        installed = await _installed(function, interpreter, data / "layers", progress)
        # First, so that a layer may replace a module of it: in /opt a later layer overwrites an earlier one.
        layers = (str(installed), *layers)
    opt_root = await asyncio.to_thread(_merged, function, layers, data) if layers else None
    return Prepared(
        function=function,
        arn=project.function_arn(function.name),
        version=await asyncio.to_thread(_version, function, project, interpreter, task_root, opt_root),
        task_root=task_root,
        opt_root=opt_root,
        interpreter=interpreter.path,
        runtime=interpreter.runtime,
        region=project.aws.region,
    )


def _make_file_systems(function: Function) -> None:
    for each in function.file_system_configs:
        try:
            Path(each.path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _problem(function, "file_system_configs", f"{each.path} cannot be made: {error.strerror}") from error


def _unpacked(function: Function, data: Path) -> tuple[str, tuple[str, ...]]:
    """Task root and layer roots. Folders are used where they are."""
    room = archives.MAX_UNPACKED
    roots: list[str] = []
    declared = [("code", function.code), *(("layers", layer) for layer in function.layers)]
    for key, path in declared:
        if Path(path).is_dir():
            roots.append(path)
            continue
        try:
            room -= archives.unpacked_size(Path(path))
            if room < 0:
                limit = archives.MAX_UNPACKED // 1024**2
                raise archives.BadArchive(f"with it, code and layers unpack to more than {limit} MB")
            roots.append(str(archives.unpack(Path(path), data / key)))
        except archives.BadArchive as error:
            raise _problem(function, key, f"{path} cannot be used: {error}") from error
        except OSError as error:
            raise _problem(function, key, f"{path} cannot be unpacked: {error}") from error
    return roots[0], tuple(roots[1:])


def _merged(function: Function, layers: tuple[str, ...], data: Path) -> str:
    """/opt: the one layer as it is, or all of them in one folder of the data folder, named by what they hold."""
    if len(layers) == 1:
        return layers[0]
    found = hashlib.sha256()
    for layer in layers:
        for line in [layer, *sorted(_files(layer, (), str(data)))]:
            found.update(line.encode(errors="surrogateescape"))
    kept = data / "layers" / found.hexdigest()
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", suffix=".partial", dir=kept.parent) as partial:
            try:
                merge([Path(layer) for layer in layers], data, Path(partial, "opt"))
                archives.keep(Path(partial, "opt"), kept)
            except OSError as error:
                raise _problem(function, "layers", f"they cannot be put together: {error}") from error
    return str(kept)


async def _installed(
    function: Function, interpreter: python.Interpreter, layers: Path, progress: Callable[[str], None]
) -> Path:
    assert function.requirements is not None
    file = Path(function.requirements)
    try:
        return await requirements.install(file, interpreter, layers, progress)
    except requirements.InstallFailed as error:
        raise _problem(function, "requirements", f"{file}: {error}") from error
    except OSError as error:
        raise _problem(function, "requirements", f"{file} cannot be installed: {error}") from error


def _problem(function: Function, key: str, message: str) -> ConfigError:
    where = function.where
    return ConfigError([Problem(where.file, where.line, f"functions.{function.name}.{key}", message)])


def _version(
    function: Function,
    project: Project,
    interpreter: python.Interpreter,
    task_root: str,
    opt_root: str | None,
) -> str:
    """16 hex digits. Where it is declared and what triggers it make no other version."""
    configuration = msgspec.structs.replace(function, triggers=(), where=Where(""), description="")
    found = hashlib.sha256(repr((configuration, interpreter, task_root, opt_root)).encode())
    # A folder of its own is code altogether. The project's folder is also where events and results lie, and a file
    # that a function writes there must not make a new version of it.
    everything = task_root != project.folder
    for root, suffixes in ((task_root, () if everything else _PYTHON_CODE), (opt_root, ())):
        for line in sorted(_files(root, suffixes, project.data)) if root is not None else ():
            found.update(line.encode(errors="surrogateescape"))
    return found.hexdigest()[:16]


def _files(folder: str, suffixes: tuple[str, ...], data: str) -> Iterator[str]:
    """Path, size and time of every file in a folder that is code."""
    waiting = [folder]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except FileNotFoundError:
            continue  # removed while we look; what removed it is about to be seen as well
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                hidden = entry.name.startswith(".") or entry.name in _NO_CODE or entry.path == data
                if not hidden and not os.path.exists(f"{entry.path}/pyvenv.cfg"):  # noqa: PTH110 - thousands of them
                    waiting.append(entry.path)
            elif entry.name.endswith(suffixes) if suffixes else True:
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue  # a link that leads nowhere, or gone
                yield f"{entry.path}\0{status.st_size}\0{status.st_mtime_ns}\n"

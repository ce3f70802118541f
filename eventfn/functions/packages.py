"""A declared function -> code on disk, ready to run: zips unpacked, requirements installed, all of it compiled, one
version number.

Belongs here: what a function's code and layers are, and when they are others. Does not: how a zip is unpacked
(archives.py), how pip is run (requirements.py), how long a folder is kept (kept.py), environments (workers/).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec

from eventfn.errors import ConfigError, Problem
from eventfn.functions import archives, bytecode, contents, kept, layers, requirements, runs
from eventfn.functions.contents import Contents
from eventfn.functions.model import Function, Project, Where
from eventfn.workers.contract import Prepared
from eventfn.workers.runtimes import finding
from eventfn.workers.runtimes.finding import Found

# Seconds, two of a kernel's: a file that was written in the very tick in which we look may be written once more
# without looking any different.
_TICK = 0.02


async def prepare(
    function: Function, project: Project, progress: Callable[[str], None], *, for_others: bool = False
) -> Prepared:
    """Everything that an environment of the function needs, in place or in the data folder.

    `progress` gets lines while something takes its time. A second call with nothing changed installs and compiles
    nothing and gives the same version. `for_others`: the function runs as another user than this process, so files
    that are its owner's alone are refused. Raises ConfigError.
    """
    found = await asyncio.to_thread(finding.find, function)
    await asyncio.to_thread(_make_file_systems, function)
    return await _Preparing(function, project, found, progress, for_others).prepared()


def _make_file_systems(function: Function) -> None:
    for each in function.file_system_configs:
        with _said_of(function, "file_system_configs", f"{each.path} cannot be made"):
            Path(each.path).mkdir(parents=True, exist_ok=True)


class _Preparing:
    """One call of `prepare`."""

    def __init__(
        self,
        function: Function,
        project: Project,
        found: Found,
        progress: Callable[[str], None],
        for_others: bool,
    ) -> None:
        self._function = function
        self._project = project
        self._found = found
        self._interpreter = found.interpreter
        self._progress = progress
        self._for_others = for_others
        self._data = Path(project.data)
        self._room = archives.MAX_UNPACKED

    async def prepared(self) -> Prepared:
        function, project, interpreter = self._function, self._project, self._interpreter
        task_root = await self._folder("code", function.code)
        opt_root = await self._opt()
        extensions = await asyncio.to_thread(runs.check, function, self._found.runtime, task_root, opt_root)
        in_place = await self._in_place(task_root, opt_root)
        try:
            beside = await bytecode.beside(in_place, interpreter, self._data / "bytecode")
        except OSError as error:  # a full disk, mostly, and no reason not to run
            self._progress(f"not compiled ahead, so that each environment does it: {error}")
            beside = None
        return Prepared(
            function=function,
            arn=project.function_arn(function.name),
            version=_version(function, self._found, task_root, opt_root, in_place),
            task_root=task_root,
            opt_root=opt_root,
            bytecode_root=None if beside is None else str(beside),
            hidden=(project.data,),
            interpreter=interpreter.path,
            runtime=self._found.runtime,
            executable=self._found.executable,
            runtime_version=self._found.version,
            runtime_build=self._found.build,
            extensions=extensions,
            region=project.aws.region,
        )

    # --- folders -----------------------------------------------------------------------------------------------------

    async def _folder(self, key: str, path: str) -> str:
        """A folder is used where it is, a zip unpacked."""
        if await asyncio.to_thread(os.path.isdir, path):
            return path
        with _said_of(self._function, key, f"{path} cannot be unpacked"):
            try:
                self._room -= await asyncio.to_thread(archives.unpacked_size, Path(path))
                if self._room < 0:
                    limit = archives.MAX_UNPACKED // 1024**2
                    raise archives.BadArchive(f"with it, code and layers unpack to more than {limit} MB")
                name = f"{await asyncio.to_thread(archives.digest, Path(path))}-{self._interpreter.runtime}"

                async def build(partial: Path) -> None:
                    await asyncio.to_thread(archives.unpack, Path(path), partial)
                    await bytecode.add(partial, self._interpreter)

                return str(await kept.make(self._data / key, name, build))
            except archives.BadArchive as error:
                raise _problem(self._function, key, f"{path} cannot be used: {error}") from error

    async def _opt(self) -> str | None:
        """/opt: the one layer as it is, or all of them in one folder of the data folder."""
        found = [await self._folder("layers", layer) for layer in self._function.layers]
        if self._function.requirements is not None:
            # First, so that a layer may replace a module of it.
            found.insert(0, await self._installed(Path(self._function.requirements)))
        if len(found) < 2:
            return found[0] if found else None
        states = [await self._look(layer, "layers") for layer in found if not self._is_kept(layer)]
        name = hashlib.sha256(repr((found, self._interpreter, states)).encode(errors="surrogateescape")).hexdigest()

        async def build(partial: Path) -> None:
            await asyncio.to_thread(layers.merge, [Path(layer) for layer in found], self._data, partial)
            await bytecode.add(partial, self._interpreter)

        with _said_of(self._function, "layers", "they cannot be put together"):
            return str(await kept.make(self._data / "layers", name, build))

    async def _installed(self, file: Path) -> str:
        async def build(partial: Path) -> None:
            await requirements.install(file, self._interpreter, partial, self._progress)
            await bytecode.add(partial, self._interpreter)

        with _said_of(self._function, "requirements", f"{file} cannot be installed"):
            try:
                name = await asyncio.to_thread(requirements.name, file, self._interpreter)
                return str(await kept.make(self._data / "layers", name, build))
            except requirements.InstallFailed as error:
                raise _problem(self._function, "requirements", f"{file}: {error}") from error

    # --- what is in them ---------------------------------------------------------------------------------------------

    async def _in_place(self, task_root: str, opt_root: str | None) -> dict[str, Contents]:
        """Those that may change at any time; the name of a folder that is kept says what is in it."""
        roots = {"task": (task_root, "code"), "opt": (opt_root, "layers")}
        return {
            name: await self._look(root, key)
            for name, (root, key) in roots.items()
            if root is not None and not self._is_kept(root)
        }

    def _is_kept(self, folder: str) -> bool:
        return Path(folder).parent in (self._data / "code", self._data / "layers")

    async def _look(self, folder: str, key: str) -> Contents:
        def look() -> Contents:
            if key == "code":
                project = self._project
                return contents.of_code(folder, project.folder, project.data, for_others=self._for_others)
            return contents.of_layer(folder, for_others=self._for_others)

        try:
            found = await asyncio.to_thread(look)
            if time.time_ns() - found.newest_ns() < _TICK * 1e9:
                await asyncio.sleep(_TICK)
                found = await asyncio.to_thread(look)
        except contents.NotForOthers as error:
            # The data folder, which is mostly in the project's, stays its owner's.
            mend = f"chmod o+rX {error.path}" if self._data.is_relative_to(folder) else f"chmod -R o+rX {folder}"
            message = (
                f"{error.path} can be read by its owner alone, and where eventfn runs as root, functions run as "
                f"somebody else: {mend}"
            )
            raise _problem(self._function, key, message) from None
        return found


def _version(
    function: Function, found: Found, task_root: str, opt_root: str | None, in_place: dict[str, Contents]
) -> str:
    """16 hex digits. Where it is declared and what triggers it make no other version."""
    configuration = msgspec.structs.replace(function, triggers=(), where=Where(""), description="")
    of = repr((configuration, found, task_root, opt_root, in_place))
    return hashlib.sha256(of.encode(errors="surrogateescape")).hexdigest()[:16]


@contextlib.contextmanager
def _said_of(function: Function, key: str, what: str) -> Generator[None]:
    """A disk that refuses is told by the function and the key it was for."""
    try:
        yield
    except OSError as error:
        raise _problem(function, key, f"{what}: {error}") from error


def _problem(function: Function, key: str, message: str) -> ConfigError:
    where = function.where
    return ConfigError([Problem(where.file, where.line, f"functions.{function.name}.{key}", message)])

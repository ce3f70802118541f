"""Compiles code and layers before their functions start: a start then reads bytecode instead of making it.

A folder that eventfn keeps holds its own, in __pycache__. One that is used in place gets a folder beside it, which is
another as soon as a source is: its bytecode is never held against the source again (PEP 552, unchecked).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import msgspec

from eventfn.functions import compiling, kept
from eventfn.functions.contents import Contents
from eventfn.workers.runtimes.python import Interpreter

# Bytes of source that are compiled right here, in 20 ms; another process would take that long to start. More of it
# would hold up the node, and what is not our own Python's only its own interpreter can compile.
_FEW = 128 * 1024
_SOURCES = "sources.json"  # what a folder was compiled from

States = dict[str, dict[str, tuple[int, int]]]  # root -> path -> size and time


async def add(folder: Path, interpreter: Interpreter) -> None:
    """Into a folder that is ours. What has its bytecode already is left alone. Raises OSError."""
    await _compile(await asyncio.to_thread(_not_compiled, folder, interpreter), interpreter)


async def beside(roots: Mapping[str, Contents], interpreter: Interpreter, store: Path) -> Path | None:
    """A folder in the store with a folder for each of the roots, laid out as its sources are; None without a source.
    Raises OSError."""
    states: States = {
        name: {source.path: (source.size, source.mtime_ns) for source in root.sources()} for name, root in roots.items()
    }
    if not any(states.values()):
        return None
    place = _digest((interpreter, [(name, root.folder) for name, root in roots.items()]))

    async def build(partial: Path) -> None:
        changed = await asyncio.to_thread(_link_unchanged, store, place, partial, states, interpreter)
        pairs = [
            (f"{roots[name].folder}/{path}", _target(f"{partial}/{name}", path, interpreter)) for name, path in changed
        ]
        await _compile(pairs, interpreter)
        (partial / _SOURCES).write_bytes(msgspec.json.encode(states))

    return await kept.make(store, f"{place}-{_digest(states)}", build)


def _not_compiled(folder: Path, interpreter: Interpreter) -> list[tuple[str, str]]:
    sources = [f"{place}/{name}" for place, _, names in os.walk(folder) for name in names if name.endswith(".py")]
    pairs = [(source, _target("", source, interpreter)) for source in sources]
    return [(source, target) for source, target in pairs if not os.path.exists(target)]  # noqa: PTH110 - thousands


def _link_unchanged(
    store: Path, place: str, into: Path, states: States, interpreter: Interpreter
) -> list[tuple[str, str]]:
    """Takes over what was compiled for the version before, and returns what is left to compile."""
    before = max(store.glob(f"{place}-*"), key=lambda folder: folder.stat().st_mtime_ns, default=None)
    known = {} if before is None else msgspec.json.decode((before / _SOURCES).read_bytes(), type=States)
    changed: list[tuple[str, str]] = []
    for name, sources in states.items():
        for path, state in sources.items():
            if before is None or known.get(name, {}).get(path) != state:
                changed.append((name, path))
                continue
            target = Path(_target(f"{into}/{name}", path, interpreter))
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.hardlink_to(_target(f"{before}/{name}", path, interpreter))
            except FileNotFoundError:
                continue  # it did not compile
    return changed


async def _compile(pairs: list[tuple[str, str]], interpreter: Interpreter) -> None:
    ours = interpreter.version == platform.python_version()
    if not pairs or (ours and await asyncio.to_thread(_few, pairs)):
        await asyncio.to_thread(compiling.compile_all, pairs)
        return
    child = await asyncio.create_subprocess_exec(
        *(interpreter.path, "-I", "-S", compiling.__file__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await child.communicate(os.fsencode("\0".join(name for pair in pairs for name in pair)))
    except BaseException:
        if child.returncode is None:
            child.kill()
            await child.wait()
        raise
    # Ended by a signal: there are sources that bring a compiler down. They, and what would have followed, are left out.
    if child.returncode is not None and child.returncode > 0:
        reason = said.decode(errors="replace").strip().rpartition("\n")[2] or f"exit code {child.returncode}"
        raise OSError(f"{interpreter.path} could not compile: {reason}")


def _few(pairs: list[tuple[str, str]]) -> bool:
    size = 0
    for source, _ in pairs:
        try:
            size += os.stat(source).st_size  # noqa: PTH116 - thousands of them
        except FileNotFoundError:
            continue
        if size > _FEW:
            return False
    return True


def _target(root: str, path: str, interpreter: Interpreter) -> str:
    folder, _, name = path.rpartition("/")
    tag = interpreter.runtime.replace("python", "cpython-").replace(".", "")
    inside = "/".join(filter(None, (folder, "__pycache__", f"{name.removesuffix('.py')}.{tag}.pyc")))
    return f"{root}/{inside}" if root else inside


def _digest(of: object) -> str:
    return hashlib.sha256(repr(of).encode(errors="surrogateescape")).hexdigest()[:24]

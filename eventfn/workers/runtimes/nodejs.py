"""Node.js: `runtime = "nodejs20.x"` is the machine's node of that major version.

Of that one and no other, as with Python: a handler that was written for 20 may use what 18 has not, and what 22 has
dropped, and would say so at its first request only.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

_VERSION = re.compile(r"v(\d+\.\d+\.\d+)\s*")
BOOTSTRAP = str(Path(__file__).parent / "node")  # the folder that becomes /var/runtime


class NotInstalled(Exception):
    """The text says what to do."""


class Node(msgspec.Struct, frozen=True):
    path: str  # of the real file
    version: str  # "20.11.0"

    @property
    def major(self) -> str:
        return self.version.partition(".")[0]


def find(runtime: str) -> Node:
    """The first of that major version on PATH, or among nvm's. Raises NotInstalled. Blocks for tens of milliseconds."""
    wanted = major(runtime)
    others: list[Node] = []
    for candidate in _candidates(wanted):
        if (found := _ask(candidate)) is not None:
            if found.major == wanted:
                return found
            others.append(found)
    raise NotInstalled(not_installed(runtime, others))


def major(runtime: str) -> str:
    return runtime.removeprefix("nodejs").removesuffix(".x")


def seems_installed() -> bool:
    """Whether any node is there to ask. Starts nothing."""
    return next(_candidates("*"), None) is not None


def not_installed(runtime: str, others: list[Node]) -> str:
    there = ", ".join(f"{node.version} at {node.path}" for node in others) or "none at all"
    return f"no node of version {major(runtime)} is on PATH (there is {there}): install it, or say the version you have"


def _candidates(wanted: str) -> Iterator[str]:
    seen: set[str] = set()
    for folder in [*os.get_exec_path(), *_of_nvm(wanted)]:
        found = shutil.which("node", path=folder)
        if found is not None and (real := os.path.realpath(found)) not in seen:
            seen.add(real)
            yield real


def _of_nvm(wanted: str) -> list[str]:
    """The newest first."""
    root = Path(os.environ.get("NVM_DIR", Path.home() / ".nvm")) / "versions" / "node"
    return [str(path) for path in sorted(root.glob(f"v{wanted}.*/bin"), reverse=True)]


def _ask(executable: str) -> Node | None:
    try:
        return _answer(executable, os.stat(executable).st_mtime_ns)  # noqa: PTH116 - entries of PATH are strings
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


@functools.cache
def _answer(executable: str, _changed_ns: int) -> Node:
    """Asked once for all functions, until the file is another one; a failure is no answer, and is not kept."""
    asked = subprocess.run([executable, "--version"], capture_output=True, timeout=10, check=True, text=True)
    found = _VERSION.fullmatch(asked.stdout)
    if found is None:
        raise ValueError(f"{executable} --version says {asked.stdout!r}")
    return Node(executable, found[1])

"""A requirements.txt -> a layer, installed with pip.

Belongs here: running pip, and when its answer would be another. Does not: what a requirements.txt means.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import re
import signal
import sys
import sysconfig
from collections import deque
from collections.abc import Callable
from pathlib import Path

from eventfn.workers.runtimes.python import Interpreter

_LINES_SHOWN = 12  # of a failed pip: its reason stands in the last few
_INCLUDE = re.compile(r"^\s*(?:-r|--requirement|-c|--constraint)[\s=]+(\S+)", re.MULTILINE)


class InstallFailed(Exception):
    """pip refused; the message ends with its last lines."""


async def install(file: Path, interpreter: Interpreter, into: Path, progress: Callable[[str], None]) -> None:
    """The layer with these requirements, into an empty folder. Raises InstallFailed, OSError."""
    (into / "python").mkdir()
    await _pip(file, interpreter, into / "python", progress)


def name(file: Path, interpreter: Interpreter) -> str:
    """Hash of all that decides what is installed: the files' content, the Python, the machine. Blocks."""
    found = hashlib.sha256(f"{interpreter.runtime} {sysconfig.get_platform()}".encode())
    seen: set[Path] = set()
    waiting = [file]
    while waiting:
        if (each := waiting.pop().resolve()) in seen or not each.is_file():
            continue  # a URL, or a file that pip will miss by itself
        seen.add(each)
        text = each.read_text(encoding="utf-8", errors="replace")
        found.update(text.encode())
        waiting += [each.parent / included for included in _INCLUDE.findall(text)]
    return found.hexdigest()


async def _pip(file: Path, interpreter: Interpreter, target: Path, progress: Callable[[str], None]) -> None:
    # The pip beside eventfn installs for any interpreter; the real one of a version often has none of its own.
    if importlib.util.find_spec("pip") is not None:
        pip = [sys.executable, "-I", "-m", "pip", "--python", interpreter.path]
    else:
        pip = [interpreter.path, "-I", "-m", "pip"]
    quiet = ["--no-input", "--disable-pip-version-check", "--no-warn-script-location", "--progress-bar=off"]
    quiet.append("--root-user-action=ignore")  # a folder of our own is not the system's packages
    child = await asyncio.create_subprocess_exec(
        *pip,
        "install",
        *quiet,
        "--no-compile",  # what we compile is not held against its sources again
        f"--target={target}",
        f"--requirement={file}",
        cwd=file.parent,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # builds of packages are its children, and end with it
    )
    assert child.stdout is not None
    last: deque[str] = deque(maxlen=_LINES_SHOWN)
    try:
        async for line in child.stdout:
            last.append(line.decode(errors="replace").rstrip())
            progress(last[-1])
        code = await child.wait()
    except BaseException:
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
        raise
    if code != 0:
        raise InstallFailed(f"pip cannot install them, exit code {code}:\n" + "\n".join(last))

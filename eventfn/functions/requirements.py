"""A requirements.txt -> a layer: installed once with pip, and kept by the hash of what was asked for.

Belongs here: running pip so that a layer is there whole or not at all. Does not: what a requirements.txt means.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import sys
import sysconfig
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from eventfn.functions.archives import keep
from eventfn.workers.runtimes.python import Interpreter

_LINES_SHOWN = 12  # of a failed pip: its reason stands in the last few
_LOCK_POLL = 0.1  # seconds; flock cannot be awaited, and a blocked thread could not be cancelled
_INCLUDE = re.compile(r"^\s*(?:-r|--requirement|-c|--constraint)[\s=]+(\S+)", re.MULTILINE)


class InstallFailed(Exception):
    """pip refused; the message ends with its last lines."""


async def install(file: Path, interpreter: Interpreter, layers: Path, progress: Callable[[str], None]) -> Path:
    """The layer with these requirements, in `layers`; pip runs only when it is not there yet.

    Safe to run twice at once, in one process or in two: the second waits for the first. Raises InstallFailed, OSError.
    """
    name = _name(file, interpreter)
    kept = layers / name
    if kept.exists():
        return kept
    async with _locked(layers / f".{name}.lock"):
        if kept.exists():
            return kept
        partial = await asyncio.to_thread(_empty_partial, layers, name)
        try:
            await _pip(file, interpreter, partial / "python", progress)
            await asyncio.to_thread(keep, partial, kept)
        finally:
            await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
    return kept


def _empty_partial(layers: Path, name: str) -> Path:
    """Where a layer is built. A run that was killed may have left its own, and a pip that still writes there: so each
    run has another folder, and clears away those before it."""
    for left in layers.glob(f".{name}.*.partial"):
        shutil.rmtree(left, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".partial", dir=layers))
    (partial / "python").mkdir()
    return partial


def _name(file: Path, interpreter: Interpreter) -> str:
    """Hash of all that decides what is installed: the files' content, the Python, the machine."""
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


@asynccontextmanager
async def _locked(file: Path) -> AsyncGenerator[None, None]:
    descriptor = _opened(file)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_POLL)
        yield
    finally:
        os.close(descriptor)


def _opened(file: Path) -> int:
    file.parent.mkdir(parents=True, exist_ok=True)
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

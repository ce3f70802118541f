"""What tests need that is built or fetched once: whole folders in ~/.cache/eventfn-tests, named by version and sources.

Nothing here needs more than the standard library: CI builds before it installs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

CACHE = Path.home() / ".cache" / "eventfn-tests"
SOURCES = Path(__file__).parent / "sources"
# Where the makers of Go and Rust install them, and their installers leave it to the shell to look.
_TOOLS = os.pathsep.join([os.environ["PATH"], "/usr/local/go/bin", str(Path.home() / ".cargo" / "bin")])


class Build(NamedTuple):
    """`make(folder)` fills an empty folder; `tools` are the commands that it needs and how each is installed."""

    name: str
    version: str
    make: Callable[[Path], None]
    tools: Mapping[str, str]
    sources: Sequence[Path] = ()
    runs_on: Mapping[str, str] = {}  # commands that are needed to run what was built

    @property
    def folder(self) -> Path:
        digest = hashlib.sha256(self.version.encode())
        for path in sorted(file for source in self.sources for file in [source, *source.rglob("*")] if file.is_file()):
            digest.update(path.name.encode() + path.read_bytes())
        return CACHE / f"{self.name}-{self.version.partition(' ')[0]}-{digest.hexdigest()[:8]}"

    def missing(self) -> str | None:
        """What to do first, or None."""
        if (tool := _missing(self.runs_on)) is not None:
            return tool
        return None if self.folder.is_dir() else f"python -m tests.clients {self.name}"

    def fetch(self) -> str:
        """Into the cache, whole or not at all. Says what it did."""
        if self.folder.is_dir():
            return f"{self.folder} is there"
        if (tool := _missing({**self.tools, **self.runs_on})) is not None:
            sys.exit(f"{self.name}: {tool}")
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            made = Path(work) / "made"
            made.mkdir()
            self.make(made)
            made.rename(self.folder)
        return f"{self.folder} is new"


def _missing(tools: Mapping[str, str]) -> str | None:
    return next((how for tool, how in tools.items() if shutil.which(tool, path=_TOOLS) is None), None)


def run(command: Sequence[str], folder: Path, **environment: str) -> None:
    """Its output is shown only if it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": _TOOLS, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")


def pip(folder: Path, *packages: str, python: str) -> None:
    """Wheels for that version of Python, whichever runs this."""
    # The Python that runs this may have no pip: CI builds before it installs.
    with tempfile.TemporaryDirectory(dir=CACHE) as venv:
        run([sys.executable, "-m", "venv", venv], CACHE)
        install = [f"{venv}/bin/pip", "install", "-q", "--disable-pip-version-check", "--only-binary=:all:"]
        run([*install, "--python-version", python, "--target", str(folder), *packages], CACHE)


def bootstrap(folder: Path, command: str) -> None:
    """A `provided` function's entry."""
    (folder / "bootstrap").write_text(f"#!/bin/sh\nexec {command}\n")
    (folder / "bootstrap").chmod(0o755)

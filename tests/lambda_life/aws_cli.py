"""The AWS CLI, in an environment of its own: it wants one botocore exactly, and so do others here."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.clients.build import Build, run

VERSION = "1.45.11"


def _make(folder: Path) -> None:
    # Moved as a whole afterwards, which breaks a venv's scripts; its packages are run as a module.
    run([sys.executable, "-m", "venv", "work"], folder.parent)
    install = [str(folder.parent / "work/bin/pip"), "install", "-q", "--disable-pip-version-check"]
    run([*install, "--target", str(folder), f"awscli=={VERSION}"], folder)


BUILD = Build("aws-cli", VERSION, _make, {}, [Path(__file__)])
COMMAND = [sys.executable, "-m", "awscli"]  # with PYTHONPATH=BUILD.folder

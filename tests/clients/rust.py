"""lambda_runtime: the function is one program that cargo builds."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.clients.build import SOURCES, Build, run

VERSION = "1.5.0"


def _make(folder: Path) -> None:
    work = folder.parent / "work"
    shutil.copytree(SOURCES / "rust", work)
    run(["cargo", "add", "--quiet", f"lambda_runtime@={VERSION}"], work)
    run(["cargo", "build", "--quiet"], work)
    shutil.copy(work / "target" / "debug" / "bootstrap", folder / "bootstrap")


BUILD = Build("lambda_runtime", VERSION, _make, {"cargo": "install Rust: https://rustup.rs"}, [SOURCES / "rust"])

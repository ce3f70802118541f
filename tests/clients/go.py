"""aws-lambda-go: the function is one program that Go builds."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.clients.build import SOURCES, Build, run

VERSION = "1.54.0"


def _make(folder: Path) -> None:
    work = folder.parent / "work"
    shutil.copytree(SOURCES / "go", work)
    run(["go", "mod", "init", "function"], work)
    run(["go", "get", f"github.com/aws/aws-lambda-go@v{VERSION}"], work)
    # lambda.norpc: without the client for the retired go1.x runtime, as AWS says to build for provided.
    run(["go", "build", "-tags", "lambda.norpc", "-o", str(folder / "bootstrap")], work, CGO_ENABLED="0")


BUILD = Build("aws-lambda-go", VERSION, _make, {"go": "apt-get install golang-go"}, [SOURCES / "go"])

"""aws-lambda-go: the function is one program that Go builds. An extension is another."""

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


def _extension(folder: Path) -> None:
    """A layer with one extension, without a library of anybody's."""
    run(
        ["go", "build", "-o", str(folder / "extensions" / "listener"), "main.go"],
        SOURCES / "extension",
        CGO_ENABLED="0",
    )


_GO = {"go": "apt-get install golang-go"}
BUILD = Build("aws-lambda-go", VERSION, _make, _GO, [SOURCES / "go"])
EXTENSION = Build("go-extension", "1", _extension, _GO, [SOURCES / "extension"])

"""Runtime versions: what Lambda calls a runtime together with the very build of it that runs a function.

On this machine that is the program that was found, wherever it lies: two machines with one build have one ARN. What
comes with the code (provided, java ...) is one version for all times.

PURE.
"""

from __future__ import annotations

import hashlib
import re

from eventfn.workers.runtimes import family


def arn(region: str, runtime: str, version: str, build: str) -> str:
    """In Lambda's shape, and the same on every day and machine."""
    digest = hashlib.sha256(f"{runtime} {version} {build}".encode()).hexdigest()
    return f"arn:aws:lambda:{region}::runtime:{digest}"


def shown(runtime: str, version: str) -> str:
    """Such as python:3.12.v4, as INIT_START has it, nodejs:20.11.0 and provided:al2023."""
    match family(runtime):
        case "nodejs":
            return f"nodejs:{version}"
        case "provided":
            return runtime.replace(".", ":", 1)
        case "python" if version:
            return f"python:{runtime.removeprefix('python')}.v{version.rpartition('.')[2]}"
        case _:
            return re.sub(r"^([a-z]+)", r"\1:", runtime)

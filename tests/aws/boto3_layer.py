"""A layer with boto3, as a team would upload one: the installed one, with the service models that the tests use."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

_PACKAGES = ("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "urllib3")


def write(folder: Path, services: Sequence[str]) -> Path:
    """`folder` becomes the layer: python/boto3 and what it needs."""
    folder.chmod(0o755)  # functions run as somebody else
    for name in (*_PACKAGES, "six"):
        spec = find_spec(name)
        assert spec is not None, f"pip install {name}"
        assert spec.origin is not None
        if name == "six":
            shutil.copy(spec.origin, folder / "python")
            continue
        source = Path(spec.origin).parent

        def unwanted(where: str, names: list[str], source: Path = source) -> set[str]:
            if Path(where) == source / "data":
                return {each for each in names if (source / "data" / each).is_dir() and each not in services}
            return {"__pycache__"} & set(names)

        shutil.copytree(source, folder / "python" / name, ignore=unwanted)
    return folder

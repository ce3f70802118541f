"""What the handlers depend on, from PyPI and npm: fetched once, as Amazon's clients are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.clients.build import Build, pip, run

PYTHON = f"3.{sys.version_info.minor}"
_PYTHON_LAYER = ("aws-lambda-powertools==3.37.0", "aws-xray-sdk==2.15.0", "boto3==1.43.11")
_NODE = {
    "authorizer": ("jsonwebtoken@9.0.2",),
    "notifier": ("@aws-sdk/client-sqs@3.901.0",),
    "shop": ("express@4.21.2", "serverless-http@3.2.0"),
    "layer": ("@aws-lambda-powertools/batch@2.35.0", "@aws-lambda-powertools/logger@2.35.0"),
}


def _python(folder: Path) -> None:
    pip(folder / "layer" / "python", *_PYTHON_LAYER, python=PYTHON)
    # Of 25 MB of descriptions of services three are used.
    for service in (folder / "layer/python/botocore/data").iterdir():
        if service.is_dir() and service.name not in ("dynamodb", "s3", "sqs"):
            run(["rm", "-r", str(service)], folder)
    pip(folder / "thumbnails", "pillow==11.3.0", python=PYTHON)


def _node(folder: Path) -> None:
    for name, packages in _NODE.items():
        target = folder / name / "nodejs" if name == "layer" else folder / name
        target.mkdir(parents=True)
        (target / "package.json").write_text(json.dumps({"private": True}))
        run(["npm", "install", "--loglevel=error", "--no-audit", "--no-fund", "--ignore-scripts", *packages], target)


PYTHON_PACKAGES = Build("python-packages", f"{PYTHON} {_PYTHON_LAYER}", _python, {}, [Path(__file__)])
NODE_PACKAGES = Build(
    "node-packages",
    f"1 {_NODE}",
    _node,
    {"npm": "apt-get install npm"},
    [Path(__file__)],
    {"node": "apt-get install nodejs"},
)

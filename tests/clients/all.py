"""Everything that `python -m tests.clients` builds."""

from __future__ import annotations

from tests.clients import go, java, node, python, rust
from tests.clients.build import Build
from tests.lambda_life import aws_cli, packages

CLIENTS = {"python": python.BUILD, "node": node.BUILD, "go": go.BUILD, "rust": rust.BUILD, "java": java.BUILD}
_ALL = (*CLIENTS.values(), go.EXTENSION, packages.PYTHON_PACKAGES, packages.NODE_PACKAGES, aws_cli.BUILD)
BUILDS: dict[str, Build] = {build.name: build for build in _ALL}

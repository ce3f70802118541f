"""Everything that `python -m tests.clients` builds."""

from __future__ import annotations

from tests.clients import go, java, node, python, rust
from tests.clients.build import Build

CLIENTS = {"python": python.BUILD, "node": node.BUILD, "go": go.BUILD, "rust": rust.BUILD, "java": java.BUILD}
BUILDS: dict[str, Build] = {build.name: build for build in CLIENTS.values()}

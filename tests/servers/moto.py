"""moto's server: all services, in memory, forgotten when it ends.

with moto.server(folder) as aws:
    aws.url
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from tests.servers.process import HttpServer, free_port

ACCOUNT = "123456789012"


def missing() -> str | None:
    """What to install, or None."""
    return None if find_spec("moto") and find_spec("flask") else "pip install 'moto[server]'"


def server(folder: Path) -> HttpServer:
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    return HttpServer(command, port, folder / "moto.log")

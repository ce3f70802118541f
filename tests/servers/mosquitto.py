"""A Mosquitto of the tests' own, on loopback, with its data in one folder.

with Mosquitto(folder) as server:
    server.host, server.port
    server.stop(); server.start()   # SIGTERM, and the same data again on the same port
    server.save(); server.kill()    # kill -9: what it had not saved is gone, as it is with any broker that does so
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

_BINARY = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
_UP = 30.0  # seconds that a start may take on a busy machine


def missing() -> str | None:
    """What must be installed to start one, or None."""
    return None if _BINARY else "Mosquitto is not on this machine: apt-get install mosquitto"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Mosquitto:
    def __init__(self, folder: Path, *settings: str) -> None:
        """`settings` are more lines for its configuration."""
        self.folder = folder
        self.host = "127.0.0.1"
        self.port = 0
        self.log = folder / "mosquitto.log"
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Mosquitto:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        lines = [
            f"listener {self.port} {self.host}",
            "persistence true",
            f"persistence_location {self.folder}/",
            "max_queued_messages 0",  # no limit
            "sys_interval 0",
            "user root",  # it would change to one that cannot write here
            *(self._settings or ["allow_anonymous true"]),
        ]
        (self.folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.kill()

    def start(self) -> None:
        """Returns once it takes connections."""
        assert _BINARY is not None, missing()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [_BINARY, "-v", "-c", str(self.folder / "mosquitto.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + _UP
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"Mosquitto did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.01)

    def save(self) -> None:
        """Writes what it holds to disk, and returns once it has."""
        assert self._process is not None
        database = self.folder / "mosquitto.db"
        before = database.stat().st_mtime_ns if database.exists() else 0
        deadline = time.monotonic() + _UP
        self._process.send_signal(signal.SIGUSR1)
        while not database.exists() or database.stat().st_mtime_ns == before:
            assert time.monotonic() < deadline, "Mosquitto did not save"
            time.sleep(0.01)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
            return True
        return False

"""A PostgreSQL of the tests' own: one cluster in a folder of its own, on loopback, without a Unix socket.

    with Postgres(folder) as server:
        server.dsn                      # postgresql://eventfn@127.0.0.1:PORT/postgres
        server.stop(); server.start()   # connections are closed, and the same data again on the same port
        server.kill(); server.start()   # kill -9 of all its processes
        server.freeze(); server.thaw()  # it is there and answers nothing

The system's own service is neither used nor started. The server refuses to run as root and is then nobody's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
_NOBODY = 65534
_UP = 60.0  # seconds that a start may take on a busy machine
USER = "eventfn"
PASSWORD = "an open secret"

# The machine does not lose its power in a test: what a killed server has committed is there without fsync.
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "max_wal_senders": "0",
    "wal_level": "minimal",
}


def missing() -> str | None:
    """What must be installed to start one, or None."""
    return None if _PROGRAMS else "PostgreSQL is not on this machine: apt-get install postgresql"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Postgres:
    def __init__(self, folder: Path) -> None:
        """`folder` is for the log; the data must be where nobody may go, which pytest's folders are not."""
        self.host = "127.0.0.1"
        self.port = free_port()
        self.log = folder / "postgres.log"
        self._home = Path(tempfile.mkdtemp(prefix="eventfn-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None

    def dsn(self, port: int | None = None) -> str:
        """Of the server, or of a proxy before it on another port."""
        return f"postgresql://{USER}:{PASSWORD.replace(' ', '%20')}@{self.host}:{port or self.port}/postgres"

    def __enter__(self) -> Postgres:
        try:
            if os.geteuid() == 0:
                os.chown(self._home, _NOBODY, _NOBODY)
            secret = self._home / "password"
            secret.write_text(PASSWORD)
            secret.chmod(0o644)
            self._run("initdb", "-D", self._data, "-U", USER, "--auth=scram-sha-256", "--no-sync", "--encoding=UTF8",
                      "--no-instructions", "--locale=C", f"--pwfile={secret}").wait()  # fmt: skip
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        self.thaw()
        try:
            self.stop()  # one that is killed leaves shared memory behind, for its next start to remove
        except subprocess.TimeoutExpired:
            self.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    @property
    def _data(self) -> str:
        return str(self._home / "data")

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        as_nobody: dict[str, Any] = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [str(_PROGRAMS[-1] / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
                **as_nobody,
            )

    def start(self) -> None:
        options = [f"-c{key}={value}" for key, value in _OPTIONS.items()]
        deadline = time.monotonic() + _UP
        while True:
            if self._process is None or self._process.poll() is not None:
                # One that was killed leaves its shared memory to its last process, which may still be on its way out.
                self._process = self._run("postgres", "-D", self._data, f"-p{self.port}", *options)
            try:
                psycopg.connect(self.dsn(), connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"PostgreSQL is not up: {error}\n{self.log.read_text()}") from error
                time.sleep(0.05)

    def stop(self) -> None:
        """As an operator restarts it: every connection is told and closed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # "fast"
            self._process.wait(_UP)
            self._process = None

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(_UP)
            self._process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """To the server and each of its sessions, which are processes of their own."""
        if self._process is None:
            return
        pid = self._process.pid
        with contextlib.suppress(FileNotFoundError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            for process in (pid, *map(int, children)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, number)

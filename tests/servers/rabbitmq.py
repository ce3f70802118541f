"""A RabbitMQ of the tests' own: one node on loopback, with its data, its cookie and its port mapper in one folder.

    with RabbitMQ(folder) as server:
        server.url                      # amqp://guest:guest@127.0.0.1:PORT/
        server.kill(); server.start()   # kill -9, and the same data again on the same port
        server.freeze(); server.thaw()  # it is there and answers nothing

The system's own service is neither used nor started.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

_SCRIPTS = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
_UP = 90.0  # seconds that a start may take on a busy machine


def missing() -> str | None:
    """What must be installed to start one, or None."""
    if _SCRIPTS and shutil.which("epmd"):
        return None
    return "RabbitMQ is not on this machine: apt-get install rabbitmq-server"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RabbitMQ:
    def __init__(self, folder: Path, *settings: str) -> None:
        """`settings` are more lines for its configuration."""
        self.folder = folder
        self._settings = settings
        self.host = "127.0.0.1"
        self.port = free_port()
        self.log = folder / "rabbitmq.log"
        self._mapper_port = free_port()
        self._distribution_port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{self.host}:{self.port}/"

    def __enter__(self) -> RabbitMQ:
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [f"listeners.tcp.local = 127.0.0.1:{self.port}", "log.console = true", "log.file = false"]
        (self.folder / "rabbitmq.conf").write_text("\n".join([*lines, *self._settings]) + "\n")
        (self.folder / "enabled_plugins").write_text("[].\n")
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.kill()

    def start(self) -> None:
        """Returns once it takes connections, and its queues are at work."""
        # The port mapper would be started as a daemon, and outlive us: ours is a child in the foreground.
        self._spawn("epmd", "-address", "127.0.0.1", "-port", str(self._mapper_port))
        said_before = self.log.stat().st_size
        server = self._spawn(str(_SCRIPTS[-1]))
        deadline = time.monotonic() + _UP
        while not self._answers():
            if server.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"RabbitMQ did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)
        # A quorum queue that is asked for something before it has elected its only member may never elect it. One that
        # was deleted just before a kill is waited for in vain, so not for long.
        deadline = time.monotonic() + 10
        while not self._has_leaders(said_before) and time.monotonic() < deadline:
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9, of its node and all that it started. What it had confirmed is there after `start`; see
        `remembers`."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()

    def remembers(self, queue: str) -> bool:
        """Whether a quorum queue outlives a kill: RabbitMQ writes the names of new ones to disk a little later, and
        what it had confirmed for one whose name it has lost is out of reach."""
        names = self.folder.glob("data/*/quorum/*/names.dets")
        wanted = re.compile(re.escape(f"%2F_{queue}".encode()) + rb"(?![0-9])")
        return any(wanted.search(each.read_bytes()) for each in names)

    def freeze(self) -> None:
        os.killpg(self._processes[-1].pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self._processes[-1].pid, signal.SIGCONT)

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),  # of the cookie
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "RABBITMQ_NODENAME": "eventfn-tests@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # Two threads: one for each core of the machine costs seconds of start for nothing.
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            "ERL_FLAGS": "+S 2:2 +sbwt none",
        }
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def _has_leaders(self, said_before: int) -> bool:
        said = self.log.read_bytes()[said_before:].decode(errors="replace")
        queues = re.search(r"ra system 'quorum_queues' running pre init for (\d+) registered", said)
        return queues is not None and said.count("candidate -> leader") >= int(queues[1])

    def _answers(self) -> bool:
        # It listens before it is up; only one that is up answers to the protocol's first bytes.
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1) as probe:
            probe.settimeout(1)
            probe.sendall(b"AMQP\x00\x00\x09\x01")
            return probe.recv(1) == b"\x01"
        return False

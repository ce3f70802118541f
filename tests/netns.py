"""A process in a network namespace of its own, as an environment is, in which tests run Python."""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.support import PATIENCE

ROOT = Path(__file__).parents[1]
WHO = ("root", "ordinary user")

PROGRAM = """
import array, ctypes, errno, hashlib, json, os, random, select, socket, struct, sys, threading, time
import encodings.idna  # which getaddrinfo would look for later, when an ordinary user may not read it any more
sys.path.insert(0, sys.argv[1])
from eventfn.sandbox import network
channel = socket.socket(fileno=int(sys.argv[2]))
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(1, 9, 0, 0, 0)

def checked(result, call):
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")

def enter():
    if sys.argv[3] == "root":
        checked(libc.unshare(0x4000_0000), "unshare(NEWNET)")
        return
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        libc.prctl(4, 1, 0, 0, 0)  # dumpable again: its own /proc is its own
    uid, gid = os.getuid(), os.getgid()
    checked(libc.unshare(0x5000_0000), "unshare(NEWUSER|NEWNET)")
    for name, line in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)

names = dict(globals())
code = "enter()"
while code:
    sent, answer = [], None
    names["answer"], names["sent"] = None, sent
    try:
        exec(code, names)
        answer = {"answer": names["answer"]}
    except BaseException as error:
        answer = {"error": f"{type(error).__name__}: {error}", "errno": getattr(error, "errno", None)}
    descriptors = array.array("i", [item.fileno() for item in sent])
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)] if sent else []
    channel.sendmsg([json.dumps(answer).encode()], rights)
    for item in sent:
        item.close()
    code = channel.recv(200_000).decode()
"""


class Failed(AssertionError):
    """The code inside raised. `errno` is that of an OSError."""

    def __init__(self, text: str, errno: int | None) -> None:
        self.errno = errno
        super().__init__(text)


class Inside:
    """`run` blocks: from a test with a loop in which somebody must answer, call it by asyncio.to_thread."""

    def __init__(self, who: str) -> None:
        if who == "root" and os.getuid() != 0:
            pytest.skip("the tests do not run as root")
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.settimeout(PATIENCE)
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(ROOT), str(theirs.fileno()), who], pass_fds=[theirs.fileno()]
        )
        theirs.close()
        try:
            self._receive()
        except Failed as failed:
            self.end()
            if "unshare(NEWUSER" in str(failed):
                pytest.skip(f"no user namespaces for {who}: {failed}")
            raise

    def run(self, code: str, **names: Any) -> Any:
        """What the code leaves in `answer`. It finds `names` as variables, and its own from one run to the next."""
        answer, _ = self._ask(code, names)
        return answer

    def sockets(self, code: str, **names: Any) -> list[socket.socket]:
        """The sockets that the code puts into the list `sent`; inside they are closed."""
        _, descriptors = self._ask(code, names)
        return [socket.socket(fileno=descriptor) for descriptor in descriptors]

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE)

    def end(self) -> None:
        self._channel.close()
        self.kill()

    def _ask(self, code: str, names: dict[str, Any]) -> tuple[Any, list[int]]:
        given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        self._channel.send((given + dedent(code)).encode())
        return self._receive()

    def _receive(self) -> tuple[Any, list[int]]:
        data, ancillary, _, _ = self._channel.recvmsg(1_000_000, socket.CMSG_SPACE(4 * 253))
        descriptors = array.array("i")
        for _, _, rights in ancillary:
            descriptors.frombytes(rights)
        assert data, f"the process inside ended with {self._process.wait(PATIENCE)}"
        answer = json.loads(data)
        if "error" in answer:
            raise Failed(answer["error"], answer["errno"])
        return answer["answer"], list(descriptors)

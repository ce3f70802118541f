"""What stands between init and the processes of an environment that has extensions: starts them, says when one ended.

With extensions an environment is several programs: the extensions are started at once, the runtime when the supervisor
says so, and each may end before the others. What is said here is about processes; what they are told they hear from the
Runtime and the Extensions API.

Control socket (SEQPACKET), both ways; number 0 is the runtime, 1 and up are the extensions in their order:

    b"log" with a descriptor: what the extensions print      !IiI number, exit status, most KB ever held (at its end)
    !BI START, 0                                              !BI a signal, number
    !BI DIAL, port                                            !IiI DIALED, port, 0 with a descriptor: a connection to it
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from typing import Any, NoReturn

from eventfn.sandbox import descriptors, privileges
from eventfn.workers.child import frames

START, DIAL = 0, 255  # no signals
DIALED = 0xFFFF_FFFF  # nobody's number
RUNTIME = 0  # its number
REQUEST = struct.Struct("!BI")
ENDED = struct.Struct("!IiI")
LOG = b"log"
LONGEST = 64  # bytes of a message
CANNOT_START = 126  # exit status of an extension that is no program, a shell's

# What extensions are not told: it is the runtime's.
_NOT_THEIRS = ("AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_XRAY_", "_")
_NOR_THESE = ("LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT")


def keep(settings: dict[str, Any], tier: str) -> None:
    """Returns in the process that becomes the runtime, and nowhere else."""
    keeper = os.getpid()
    control = socket.socket(fileno=descriptors.CONTROL)
    ours, log = os.pipe()
    socket.send_fds(control, [LOG], [ours])
    os.close(ours)
    running: dict[int, tuple[int, int]] = {}  # pidfd -> pid, number

    def fork(number: int) -> bool:
        """True in the new process."""
        pid = os.fork()
        if pid == 0:
            control.close()
            for descriptor in running:
                os.close(descriptor)
            if tier == "full":
                os.setsid()  # what one tells its process group is none of the others' business
            else:
                privileges.die_with(keeper)
            return True
        pidfd = os.pidfd_open(pid)
        running[pidfd] = pid, number
        watched.register(pidfd, select.POLLIN)
        return False

    watched = select.poll()
    watched.register(control, select.POLLIN)
    frames.write(frames.CHANNEL, frames.join(frames.READY))
    for number, path in enumerate(settings["extensions"], 1):
        if fork(number):
            _become_extension(path, settings["variables"], log)
    os.close(log)
    while True:
        for descriptor, _ in watched.poll():
            if descriptor != control.fileno():
                watched.unregister(descriptor)
                pid, number = running.pop(descriptor)
                os.close(descriptor)
                _, status, usage = os.wait4(pid, 0)
                _tell(control, ENDED.pack(number, os.waitstatus_to_exitcode(status), usage.ru_maxrss))
                continue
            message = control.recv(LONGEST)
            if not message:
                os._exit(0)
            kind, number = REQUEST.unpack(message)
            if kind == DIAL:
                _dial(control, number)
            elif kind != START:
                for pid, each in running.values():
                    if each == number:
                        os.kill(pid, kind)
            elif fork(RUNTIME):
                return
            else:
                os.close(frames.CHANNEL)  # its end is the runtime's


def _tell(control: socket.socket, message: bytes) -> None:
    try:
        control.send(message)
    except OSError:
        os._exit(0)  # the supervisor is gone


def _dial(control: socket.socket, port: int) -> None:
    """The supervisor waits until it is connected, or hears why not."""
    with socket.socket() as connection:
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", port))
        try:
            socket.send_fds(control, [ENDED.pack(DIALED, port, 0)], [connection.fileno()])
        except OSError:
            os._exit(0)


def _become_extension(path: str, variables: dict[str, str], log: int) -> NoReturn:
    own = {
        name: value for name, value in variables.items() if not name.startswith(_NOT_THEIRS) and name not in _NOR_THESE
    }
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir("/")
        restore_signals()
        os.execve(path, [path], own)  # noqa: S606 - there is nothing for a shell to do
    except (OSError, ValueError) as error:  # ValueError: a NUL in a variable
        os.write(2, f"fork/exec {path}: {(getattr(error, 'strerror', None) or str(error)).lower()}\n".encode())
        os._exit(CANNOT_START)


def restore_signals() -> None:
    """Python ignores them, and what is ignored stays so in a program."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)

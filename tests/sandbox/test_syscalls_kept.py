"""The filter, put up in forks that then try: what the kernel answers."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventfn.sandbox import bpf, privileges, syscalls
from eventfn.sandbox.syscall_numbers import numbers
from tests.sandbox.forked import Died, behind_filter, errno_of, errno_of_syscall, in_fork

HERE = os.uname().machine
NUMBERS = numbers(HERE)
STREAM, RAW, SEQPACKET = 1, 3, 5
INET, NETLINK, ALG, VSOCK = 2, 16, 38, 40

CLONE_NEWUSER = 0x10000000

REAL: list[tuple[str, tuple[int, ...], int]] = [
    ("unshare", (CLONE_NEWUSER,), errno.EPERM),
    ("clone", (CLONE_NEWUSER | signal.SIGCHLD,), errno.EPERM),
    ("clone3", (0, 0), errno.ENOSYS),
    ("openat2", (0, 0, 0, 0), errno.ENOSYS),
    ("keyctl", (0, 0), errno.EPERM),
    ("add_key", (0, 0, 0, 0, 0), errno.EPERM),
    ("bpf", (0, 0, 0), errno.EPERM),
    ("io_uring_setup", (1, 0), errno.EPERM),
    ("userfaultfd", (0,), errno.EPERM),
    ("perf_event_open", (0, 0, 0, 0, 0), errno.EPERM),
    ("ptrace", (0, 0, 0, 0), errno.EPERM),
    ("process_vm_readv", (1, 0, 0, 0, 0, 0), errno.EPERM),
    ("pidfd_getfd", (0, 0, 0), errno.EPERM),
    ("mount", (0, 0, 0, 0, 0), errno.EPERM),
    ("open_tree", (0, 0, 0), errno.EPERM),
    ("fsopen", (0, 0), errno.EPERM),
    ("name_to_handle_at", (0, 0, 0, 0, 0), errno.EPERM),
    ("open_by_handle_at", (0, 0, 0), errno.EPERM),
    ("socket", (VSOCK, STREAM, 0), errno.EAFNOSUPPORT),
    ("socket", (NETLINK, RAW, 0), errno.EAFNOSUPPORT),
    ("socket", (ALG, SEQPACKET, 0), errno.EAFNOSUPPORT),
    ("ioctl", (0, 0x5412, 0), errno.EPERM),
    ("ioctl", (0, 1 << 32 | 0x5412, 0), errno.EPERM),
    ("prctl", (1, 0), errno.EPERM),
    ("personality", (0x0040000,), errno.EPERM),
    ("personality", (0xFFFFFFFF,), 0),
    ("getpid", (), 0),
]


@pytest.mark.parametrize(("call", "arguments", "expected"), REAL)
def test_the_kernel_keeps_it(call: str, arguments: tuple[int, ...], expected: int) -> None:
    assert behind_filter(lambda: errno_of_syscall(NUMBERS[call], *arguments)) == expected


@pytest.mark.parametrize("number", [0x40000000 + 39, 1000, 0xFFFFFFFF])
def test_an_unknown_number_fails_as_on_an_older_kernel(number: int) -> None:
    assert behind_filter(lambda: errno_of_syscall(number)) == errno.ENOSYS


@pytest.mark.skipif(HERE != "x86_64", reason="its machine code is for x86_64")
def test_a_call_of_the_32_bit_kernel_kills() -> None:
    """int 0x80 with 20, getpid there and writev here: machine code in memory that may be executed."""

    def call() -> int:
        code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20; int 0x80; ret
        address = ctypes.addressof(ctypes.c_char.from_buffer(code))
        return int(ctypes.CFUNCTYPE(ctypes.c_int)(address)())

    with pytest.raises(Died) as died:
        behind_filter(call)
    assert died.value.signal is signal.SIGSYS


def test_children_and_programs_stand_behind_it_too() -> None:
    def in_a_child() -> list[int]:
        program = "import os, ctypes; ctypes.CDLL(None).unshare(0x10000000) == 0 and os._exit(7)"
        exec_code = subprocess.run([sys.executable, "-c", program], check=False).returncode
        child = os.fork()
        if child == 0:
            os._exit(errno_of_syscall(NUMBERS["unshare"], CLONE_NEWUSER))
        return [exec_code, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]

    assert behind_filter(in_a_child) == [0, errno.EPERM]


def test_it_can_be_made_tighter_and_not_wider() -> None:
    def again() -> list[int]:
        syscalls.install(syscalls.compile_program(inet=False, unix=False, namespaces=False))
        syscalls.install(bpf.pack(bpf.decide((), bpf.ALLOW)))
        return [
            errno_of_syscall(NUMBERS[call], *arguments) for call, arguments in (("socket", (INET, 1, 0)), ("bpf", ()))
        ]

    assert behind_filter(again) == [errno.EAFNOSUPPORT, errno.EPERM]


def test_what_the_kernel_refuses_names_the_call() -> None:
    def install_nonsense() -> str:
        privileges.no_new_privileges()
        with pytest.raises(OSError, match="SECCOMP") as raised:
            syscalls.install(struct.pack("=HBBI", 0xFFFF, 0, 0, 0))
        return str(raised.value)

    assert "prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 1 instructions): Invalid argument" in in_fork(install_nonsense)


@pytest.mark.parametrize("bit", [0o4000, 0o2000])
def test_no_file_becomes_setuid(tmp_path: Path, bit: int) -> None:
    """A writable folder of the machine may be among its file systems: such a file would be this user's, for anybody."""
    there = tmp_path / "there"
    there.touch()

    def attempts() -> list[int]:
        with open(there) as file:
            return [
                errno_of(os.chmod, there, 0o755 | bit),
                errno_of(os.fchmod, file.fileno(), 0o755 | bit),
                errno_of(os.open, tmp_path / "new", os.O_CREAT | os.O_WRONLY, 0o755 | bit),
                errno_of(os.mknod, tmp_path / "node", 0o100755 | bit),
                errno_of(os.chmod, there, 0o755),
            ]

    assert behind_filter(attempts) == [errno.EPERM] * 4 + [0]
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Paths at which services of the machine take connections, and datagrams as syslog does."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
        listener.bind(str(tmp_path / "server"))
        listener.listen()
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as log:
            log.bind(str(tmp_path / "log"))
            yield str(tmp_path / "server"), str(tmp_path / "log")


def test_without_namespaces_no_unix_socket_of_the_machine_is_reached(services: tuple[str, str]) -> None:
    server, log = services

    def attempts() -> list[int]:
        one, other = socket.socketpair()
        with one, other:
            one.sendall(b"pairs work")
            assert other.recv(64) == b"pairs work"
            other.close()
            return [
                errno_of(socket.socket, socket.AF_UNIX, socket.SOCK_STREAM),
                errno_of(socket.socketpair, socket.AF_UNIX, socket.SOCK_DGRAM),
                errno_of(one.connect, server),
                errno_of(one.sendto, b"out", server),
            ]

    assert behind_filter(attempts, strict=True) == [errno.EAFNOSUPPORT] * 2 + [errno.EISCONN] * 2

    def a_pair_of_datagram_sockets() -> int:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with one, other:
            return errno_of(one.sendto, b"out", log)

    # Which is why there are none: with one the machine's log would be written.
    assert behind_filter(a_pair_of_datagram_sockets) == 0

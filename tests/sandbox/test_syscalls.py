"""The filter, run by an interpreter: every number of both machines, and the rules for arguments as a table."""

from __future__ import annotations

import errno
import fcntl
import itertools
import mmap
import os
import re
import signal
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfn.sandbox import bpf, syscalls
from eventfn.sandbox.syscall_numbers import MACHINES, numbers

ALLOW = "allow"
KILL = "kill"
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "i386": 0x40000003, "arm": 0x40000028}
VARIANTS = tuple(itertools.product((False, True), repeat=3))  # inet, unix, namespaces
PROGRAMS = {
    (machine, *variant): syscalls.compile_program(
        inet=variant[0], unix=variant[1], namespaces=variant[2], machine=machine
    )
    for machine in MACHINES
    for variant in VARIANTS
}
HERE = os.uname().machine


def run(program: bytes, machine: str, number: int, arguments: tuple[int, ...] = ()) -> str | int:
    """ALLOW, KILL or an errno: what the kernel would do, by the definitions of seccomp(2) and classic BPF."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, AUDIT_ARCH[machine], 0, *padded)
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator, at = 0, 0
    while True:
        operation, yes, no, operand = code[at]  # IndexError: the program ran out of itself
        at += 1
        match operation:
            case bpf.LOAD:
                (accumulator,) = struct.unpack_from("<I", data, operand)
            case bpf.AND:
                accumulator &= operand
            case bpf.JUMP:
                at += operand
            case bpf.JUMP_EQUAL:
                at += yes if accumulator == operand else no
            case bpf.JUMP_AT_LEAST:
                at += yes if accumulator >= operand else no
            case bpf.JUMP_ANY_BIT:
                at += yes if accumulator & operand else no
            case bpf.RETURN:
                known: dict[int, str | int] = {0x7FFF0000: ALLOW, 0x80000000: KILL}
                return known[operand] if operand in known else errno_in(operand)
            case _:
                raise AssertionError(f"not an instruction: {operation:#x}")


def errno_in(verdict: int) -> int:
    assert verdict >> 16 == 5, f"not SECCOMP_RET_ERRNO: {verdict:#x}"
    return verdict & 0xFFFF


def names(text: str) -> set[str]:
    return set(text.split())


ALLOWED = names(syscalls._ALLOWED)
DENIED = names(syscalls._DENIED)
# Calls whose answer depends on their arguments or on the variant: tables below.
RULED = {
    *names("socket socketpair setsockopt clone ioctl fcntl madvise personality prctl open openat creat"),
    *names("chmod fchmod fchmodat fchmodat2 mknod mknodat kill setpriority ioprio_set"),
    *names(syscalls._TAKES_A_PID),
    *names(syscalls._NEEDS_NAMESPACES),
}


def test_a_name_is_known_and_stands_in_one_list() -> None:
    everywhere = {name for machine in MACHINES for name in numbers(machine)}
    assert everywhere >= ALLOWED | DENIED | RULED
    assert not ALLOWED & DENIED
    assert not (ALLOWED | DENIED) & RULED


@pytest.mark.parametrize(("machine", "inet", "unix", "namespaces"), PROGRAMS)
def test_every_number_has_the_answer_of_its_name(machine: str, inet: bool, unix: bool, namespaces: bool) -> None:
    program = PROGRAMS[machine, inet, unix, namespaces]
    by_number = {number: name for name, number in numbers(machine).items()}
    for number in range(601):
        name = by_number.get(number, "unknown")
        if name in RULED:
            continue
        expected = ALLOW if name in ALLOWED else errno.EPERM if name in DENIED else errno.ENOSYS
        assert run(program, machine, number) == expected, name


@given(
    st.sampled_from(sorted(PROGRAMS)),
    st.integers(0, 600) | st.integers(0, 2**32 - 1),
    st.tuples(*[st.integers(0, 2**32 - 1) | st.integers(0, 64)] * 6),
    st.tuples(*[st.integers(0, 2**32 - 1)] * 6),
)
@settings(deadline=None)
def test_there_is_an_answer_to_everything_and_high_bits_do_not_change_it(
    variant: tuple[str, bool, bool, bool], number: int, low: tuple[int, ...], high: tuple[int, ...]
) -> None:
    """The kernel reads 32 bits of those arguments: a filter that compared 64 would be passed with a high bit."""
    machine = variant[0]
    answer = run(PROGRAMS[variant], machine, number, low)
    assert answer != KILL
    wide = tuple(upper << 32 | lower for upper, lower in zip(high, low, strict=True))
    assert run(PROGRAMS[variant], machine, number, wide) == answer


@pytest.mark.parametrize("machine", MACHINES)
@given(number=st.integers(0, 2**32 - 1))
def test_a_call_of_another_architecture_kills(machine: str, number: int) -> None:
    for other in set(AUDIT_ARCH) - {machine}:
        assert run(PROGRAMS[machine, True, True, True], other, number) == KILL


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("number", [0x40000000, 0x40000000 + 59, 0x40000000 + 520, 0xFFFFFFFF])
def test_an_x32_number_is_unknown(machine: str, number: int) -> None:
    assert run(PROGRAMS[machine, True, True, True], machine, number) == errno.ENOSYS


@pytest.mark.parametrize("program", PROGRAMS.values())
def test_the_kernel_would_take_the_program(program: bytes) -> None:
    code = list(struct.iter_unpack("=HBBI", program))
    assert len(code) <= bpf.MOST_INSTRUCTIONS
    for at, (operation, yes, no, operand) in enumerate(code):
        farthest = operand if operation == bpf.JUMP else max(yes, no)
        assert at + 1 + farthest < len(code) or operation == bpf.RETURN
    assert code[-1][0] == bpf.RETURN


NEW_NAMESPACES = [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]
PTHREAD = 0x3D0F00  # what glibc starts a thread with
STREAM, DGRAM, RAW, SEQPACKET = 1, 2, 3, 5
UNIX, INET, NETLINK, INET6, PACKET, ALG, VSOCK = 1, 2, 16, 10, 17, 38, 40
NO, FAMILY, PROTOCOL = errno.EPERM, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT
MINUS_ONE = 0xFFFFFFFF

# Call, arguments, and the answer whatever else is allowed, with inet.
RULES: list[tuple[str, tuple[int, ...], str | int]] = [
    ("clone", (PTHREAD,), ALLOW),
    ("clone", (signal.SIGCHLD,), ALLOW),
    ("clone", (0x1200011,), ALLOW),  # fork, as glibc does it
    ("clone", (0x4111,), ALLOW),  # vfork
    *[("clone", (flag | signal.SIGCHLD,), NO) for flag in NEW_NAMESPACES],
    ("clone", (0x8000 | signal.SIGCHLD,), NO),
    ("ioctl", (0, 0x5401), ALLOW),  # TCGETS
    ("ioctl", (0, 0x5412), NO),
    ("ioctl", (0, 0x541C), NO),
    ("ioctl", (0, 0x5423), NO),
    ("fcntl", (0, fcntl.F_SETFL, 0), ALLOW),
    ("fcntl", (0, fcntl.F_DUPFD_CLOEXEC, 0), ALLOW),
    ("fcntl", (0, fcntl.F_SETLEASE, 0), NO),
    ("fcntl", (0, 1040, 0), NO),
    ("madvise", (0, 4096, mmap.MADV_DONTNEED), ALLOW),
    ("madvise", (0, 4096, 12), errno.EINVAL),
    ("personality", (0,), ALLOW),
    ("personality", (MINUS_ONE,), ALLOW),
    ("personality", (0x0040000,), NO),  # ADDR_NO_RANDOMIZE
    ("personality", (0x0400000,), NO),  # READ_IMPLIES_EXEC
    ("prctl", (15,), ALLOW),  # PR_SET_NAME
    ("prctl", (38, 1), ALLOW),
    ("prctl", (2,), ALLOW),  # PR_GET_PDEATHSIG
    ("prctl", (1, signal.SIGKILL), ALLOW),
    ("prctl", (1, 0), NO),
    ("prctl", (1, signal.SIGTERM), NO),
    ("prctl", (35, 1), NO),
    ("prctl", (62, 1), NO),
    ("open", (0, os.O_RDONLY, 0o6777), ALLOW),  # without O_CREAT that argument is whatever was there
    ("open", (0, os.O_CREAT | os.O_WRONLY, 0o777), ALLOW),
    ("open", (0, os.O_CREAT | os.O_WRONLY, 0o4755), NO),
    ("openat", (0, 0, os.O_RDONLY, 0o6777), ALLOW),
    ("openat", (0, 0, os.O_CREAT, 0o666), ALLOW),
    ("openat", (0, 0, os.O_CREAT, 0o2755), NO),
    ("openat", (0, 0, 0o20000000, 0o4755), NO),  # O_TMPFILE
    ("creat", (0, 0o644), ALLOW),
    ("creat", (0, 0o4755), NO),
    *[(call, (0, 0o1777), ALLOW) for call in ("chmod", "fchmod")],
    *[(call, (0, bit), NO) for call in ("chmod", "fchmod") for bit in (0o4755, 0o2755)],
    *[(call, (0, 0, 0o755), ALLOW) for call in ("fchmodat", "fchmodat2")],
    *[(call, (0, 0, bit), NO) for call in ("fchmodat", "fchmodat2") for bit in (0o4755, 0o2755)],
    *[("mknod", (0, kind | 0o644), ALLOW) for kind in (0o010000, 0o100000, 0o140000)],
    *[("mknod", (0, kind | 0o644), NO) for kind in (0o020000, 0o060000)],
    ("mknod", (0, 0o104755), NO),
    ("mknodat", (0, 0, 0o010644), ALLOW),
    ("mknodat", (0, 0, 0o020644), NO),
    ("socket", (INET, STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0), ALLOW),
    ("socket", (INET6, STREAM, 6), ALLOW),
    ("socket", (INET, DGRAM, 17), ALLOW),
    ("socket", (INET, STREAM, 17), PROTOCOL),
    ("socket", (INET, STREAM, 132), PROTOCOL),  # SCTP
    ("socket", (INET, STREAM, 262), PROTOCOL),  # MPTCP
    ("socket", (INET, DGRAM, 1), PROTOCOL),  # ICMP
    ("socket", (INET, RAW, 1), PROTOCOL),
    ("socket", (INET6, SEQPACKET, 0), PROTOCOL),
    *[("socket", (family, DGRAM, 0), FAMILY) for family in (0, NETLINK, ALG, VSOCK, 15, 21, 29, 30, 43, 44, 45)],
    ("socket", (VSOCK, STREAM, 0), FAMILY),
    ("socket", (PACKET, RAW, 0), FAMILY),
    ("socketpair", (UNIX, STREAM, 0), ALLOW),
    ("socketpair", (UNIX, SEQPACKET | socket.SOCK_CLOEXEC, 0), ALLOW),
    ("socketpair", (30, STREAM, 0), FAMILY),  # TIPC
    ("setsockopt", (0, socket.SOL_SOCKET, socket.SO_REUSEADDR), ALLOW),
    ("setsockopt", (0, socket.IPPROTO_TCP, socket.TCP_NODELAY), ALLOW),
    ("setsockopt", (0, socket.IPPROTO_TCP, 26), ALLOW),  # 26 means a filter only at SOL_SOCKET
    *[("setsockopt", (0, socket.SOL_SOCKET, option), errno.ENOPROTOOPT) for option in (26, 50, 51, 52)],
    ("setsockopt", (0, socket.IPPROTO_TCP, 31), errno.ENOPROTOOPT),
    ("kill", (0, 15), ALLOW),
    ("kill", (1234, 15), ALLOW),
    *[(call, (0,), ALLOW) for call in names(syscalls._TAKES_A_PID)],
    ("setpriority", (os.PRIO_PROCESS, 0, 5), ALLOW),
    ("ioprio_set", (1, 0, 5), ALLOW),
]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("unix", [False, True])
@pytest.mark.parametrize("namespaces", [False, True])
def test_arguments_decide(machine: str, unix: bool, namespaces: bool) -> None:
    program, known = PROGRAMS[machine, True, unix, namespaces], numbers(machine)
    tried = set()
    for call, arguments, expected in RULES:
        if call in known:  # aarch64 has no open, chmod ...
            assert run(program, machine, known[call], arguments) == expected, (call, arguments)
            tried.add(call)
    assert tried | names(syscalls._NEEDS_NAMESPACES) >= RULED & set(known)


# What is refused without namespaces, and allowed with them.
OUTSIDE: list[tuple[str, tuple[int, ...]]] = [
    ("kill", (MINUS_ONE, 9)),
    *[(call, (1234,)) for call in names(syscalls._TAKES_A_PID)],
    ("setpriority", (os.PRIO_PROCESS, 1234, 5)),
    ("setpriority", (os.PRIO_USER, 0, 5)),  # all that this user runs
    ("ioprio_set", (1, 1234, 5)),
    ("ioprio_set", (3, 0, 5)),
    *[(call, ()) for call in names(syscalls._NEEDS_NAMESPACES)],
]


@pytest.mark.parametrize("machine", MACHINES)
def test_without_namespaces_other_processes_are_out_of_reach(machine: str) -> None:
    known = numbers(machine)
    for call, arguments in OUTSIDE:
        for inet, unix, namespaces in VARIANTS:
            answer = run(PROGRAMS[machine, inet, unix, namespaces], machine, known[call], arguments)
            assert answer == (ALLOW if namespaces else NO), (call, arguments)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("call", ["socket", "socketpair"])
def test_unix_sockets_are_to_be_had_or_only_connected_pairs(machine: str, call: str) -> None:
    for inet, unix, namespaces in VARIANTS:
        for kind in (STREAM, SEQPACKET, DGRAM):
            answer = run(PROGRAMS[machine, inet, unix, namespaces], machine, numbers(machine)[call], (UNIX, kind, 0))
            # A datagram socket of a pair could be connected to somebody else's afterwards.
            assert answer == (ALLOW if unix or (call == "socketpair" and kind != DGRAM) else FAMILY)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("family", [INET, INET6])
@pytest.mark.parametrize("kind", [STREAM, DGRAM, RAW])
def test_without_a_network_there_is_no_inet(machine: str, family: int, kind: int) -> None:
    for unix, namespaces in itertools.product((False, True), repeat=2):
        program = PROGRAMS[machine, False, unix, namespaces]
        assert run(program, machine, numbers(machine)["socket"], (family, kind, 0)) == FAMILY


def test_another_machine_is_refused_by_name() -> None:
    with pytest.raises(OSError, match="no table of the system calls of riscv64, only of x86_64 and aarch64") as raised:
        syscalls.compile_program(inet=True, unix=True, namespaces=True, machine="riscv64")
    assert raised.value.errno == errno.ENOSYS


HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    header = Path(HEADERS[machine])
    if not header.exists():
        pytest.skip(f"{header} is not installed (linux-libc-dev)")
    ours = numbers(machine)
    theirs = {
        name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text())
    }
    for not_a_call in ("syscalls", "arch_specific_syscall"):
        theirs.pop(not_a_call, None)
    if machine == "aarch64":
        theirs = {name: number for name, number in theirs.items() if not 403 <= number <= 423}  # 32-bit machines'
        theirs["newfstatat"] = theirs.pop("fstatat")
        del theirs["sync_file_range2"]  # for other architectures, with the same number
    assert theirs.items() <= ours.items()

"""Attacks on the kernel: system calls that lead out of a sandbox, or into what few have looked at."""

from __future__ import annotations

import os

import pytest

from tests.sandbox.attacks.attack import Attack, OneOf
from tests.sandbox.attacks.stage import Stage

ON_X86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="of that architecture")


def _refused(name: str, calls: str, *answers: str) -> Attack:
    """None of these calls says anything else."""
    code = f"return sorted({{call(*each) for each in {calls}}})"
    return Attack(name, "system calls", code, list(answers or ("EPERM",)))


ATTACKS = [
    _refused(
        "mounting",
        "(('mount', b'none', b'/tmp', b'tmpfs', 0, 0), ('mount', b'none', b'/', 0, 32 | 4096, 0), "
        "('umount2', b'/tmp', 2))",
    ),
    _refused(
        "mounting by the newer calls",
        "(('open_tree', -100, b'/', 1), ('move_mount', 0, b'', -100, b'/tmp', 4), ('fsopen', b'tmpfs', 0), "
        "('fsconfig', 0, 0, 0, 0, 0), ('fsmount', 0, 0, 0), ('fspick', -100, b'/', 0), "
        "('mount_setattr', -100, b'/', 0, bytes(32), 32))",
    ),
    _refused("another root", "(('pivot_root', b'/tmp', b'/tmp'), ('chroot', b'/tmp'))"),
    _refused(
        "files by handle",
        "(('name_to_handle_at', -100, b'/', bytes(128), bytes(4), 0), ('open_by_handle_at', 0, bytes(128), 0))",
    ),
    _refused(
        "namespaces of its own",
        "[('unshare', flag) for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)]"
        " + [('clone', flag | 17, 0, 0, 0, 0) for flag in (0x10000000, 0x20000, 0x40000000, 0x8000)]",
    ),
    _refused("namespaces by the call that hides its flags", "[('clone3', bytes(88), 88)]", "ENOSYS"),
    _refused(
        "keys of the machine",
        "(('keyctl', 0, -4, 0), ('keyctl', 1, b'x'), ('add_key', b'user', b'x', b'y', 1, -4), "
        "('request_key', b'user', b'x', 0, -4))",
    ),
    _refused(
        "programs and rings in the kernel",
        "(('bpf', 0, bytes(64), 64), ('perf_event_open', bytes(128), 0, -1, -1, 0), ('userfaultfd', 1), "
        "('io_uring_setup', 1, bytes(128)), ('io_uring_enter', 0, 0, 0, 0, 0), ('io_uring_register', 0, 0, 0, 0))",
    ),
    _refused(
        "the machine itself",
        "(('reboot', 0xfee1dead, 672274793, 0, 0), ('kexec_load', 0, 0, 0, 0), ('init_module', 0, 0, b''), "
        "('finit_module', 0, b'', 0), ('delete_module', b'x', 0), ('swapon', b'/tmp', 0), ('acct', b'/tmp/x'), "
        "('syslog', 3, bytes(8), 8), ('quotactl', 0, 0, 0, 0), ('sethostname', b'x', 1))",
    ),
    _refused(
        "the machine's clocks",
        "(('settimeofday', bytes(16), 0), ('clock_settime', 0, bytes(16)), ('adjtimex', bytes(256)))",
    ),
    _refused("watching all files", "(('fanotify_init', 0, 0), ('fanotify_mark', 0, 0, 0, 0, 0))"),
    _refused(
        "what is not on the list",
        "((462 + 1000,), ('inotify_init1', 0), ('io_setup', 65536, bytes(8)), ('vmsplice', 1, 0, 0, 0), "
        "('openat2', -100, b'/', bytes(24), 24), "
        "('move_pages', 0, 0, 0, 0, 0, 0), ('mbind', 0, 0, 0, 0, 0, 0))",
        "ENOSYS",
    ),
    Attack(
        "forging what /proc says of it",
        "system calls",
        "return [libc.prctl(35, 1, 0, 0, 0), ctypes.get_errno(), libc.prctl(62, 1, 0, 0, 0)]",
        [-1, 1, -1],
    ),
    Attack(
        "memory that tells what others hold",
        "system calls",
        "return [attempt(mmap.mmap(-1, 4096).madvise, 12), attempt(read, '/proc/self/pagemap')[:0]]",
        ["EINVAL", ""],
    ),
    Attack(
        "memory where it can be foretold",
        "system calls",
        "return [call('personality', each) for each in (0x0040000, 0x0400000, 0x8, 0x0200000)]",
        ["EPERM"] * 4,
    ),
    Attack(
        "what other users of shared memory have",
        "system calls",
        """
        calls = [('shmget', 0x5eed, 4096, 0o600), ('semget', 0x5eed, 1, 0o600), ('msgget', 0x5eed, 0o600)]
        return sorted({call(*each) for each in calls})
        """,
        ["ENOENT"],
        ["EPERM"],
    ),
    Attack(
        "who sees its memory, and what becomes of it when it dies",
        "memory access",
        """
        told = [attempt(write, f'/proc/self/{name}', '0') for name in ('oom_score_adj', 'coredump_filter', 'loginuid')]
        machines = [attempt(write, '/proc/sys/kernel/core_pattern', '|/tmp/x'), attempt(write, '/proc/sysrq-trigger')]
        return [all(answer != 'done' for answer in told), set(machines) <= {'ENOENT', 'EACCES'}]
        """,
        [True, True],
    ),
    Attack(
        "being killed after everybody else",
        "system calls",
        """
        libc.prctl(4, 1, 0, 0, 0)  # else it may not even open it
        lowered = attempt(write, '/proc/self/oom_score_adj', '-1000')
        score = attempt(read, '/proc/self/oom_score_adj')
        return [lowered in ('EACCES', 'EPERM'), score in ('EACCES', 'EPERM') or int(score) >= 0]
        """,
        [True, True],
    ),
    Attack(
        "a timer, a slack, a name and a keeper of orphans of its own",
        "system calls",
        """
        # All of it is its own affair: nothing of it is seen outside, or lasts.
        slack = libc.prctl(29, 1 << 40, 0, 0, 0)
        adopted = libc.prctl(36, 1, 0, 0, 0)
        named = libc.prctl(15, b'fn:neighbour', 0, 0, 0)
        return [libc.prctl(15, b'fn:' + b'mine', 0, 0, 0), slack, adopted, named]
        """,
        [0, 0, 0, 0],
    ),
    Attack(
        "taking back what it has promised",
        "privileges",
        """
        found = [libc.prctl(38, 0, 0, 0, 0), libc.prctl(28, 0, 0, 0, 0)]
        found += [libc.prctl(47, 2, number, 0, 0) for number in (0, 1, 6, 7, 21)]
        return sorted(set(found))
        """,
        [-1],
    ),
    Attack(
        "other users' files by a file system that asks nobody",
        "system calls",
        """
        files = ('/dev/fuse', '/dev/loop-control', '/dev/net/tun', '/dev/vsock', '/dev/userfaultfd', '/dev/ptmx')
        return sorted({attempt(os.open, path, os.O_RDWR) for path in files} - {'ENOENT'})
        """,
        [],
        OneOf([], ["EACCES"]),
    ),
    Attack(
        "watching what others change",
        "system calls",
        """
        folder = os.open('/tmp', os.O_RDONLY)
        told = attempt(fcntl.fcntl, folder, 1026, 1 << 31 | 2)  # by a signal, of its own folder alone
        return [call('inotify_init1', 0), call('fanotify_init', 0, 0), told == 0 or isinstance(told, str)]
        """,
        ["ENOSYS", "EPERM", True],
    ),
    Attack(
        "taking its filter off",
        "system calls",
        """
        allow_all = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
        class Program(ctypes.Structure):
            _fields_ = [('length', ctypes.c_ushort), ('code', ctypes.c_void_p)]
        program = Program(1, ctypes.addressof(allow_all))
        added = libc.prctl(22, 2, ctypes.byref(program), 0, 0)
        return [added, call('keyctl', 0, -4, 0), libc.prctl(38, 0, 0, 0, 0)]
        """,
        [0, "EPERM", -1],
    ),
]

# mov eax, 20 (getpid of the other table); int 0x80; ret
_INT_80 = """
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')
    call_it = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    return in_child(call_it)
"""
_MAPPED_32 = "return call(0x40000000 + 39), call(0x40000000 + 520)"
ON_ONE_ARCHITECTURE = [
    Attack("calls of another architecture", "system calls", _INT_80, "SIGSYS"),
    Attack("calls with short pointers", "system calls", _MAPPED_32, ["ENOSYS"] * 2),
    _refused("ports and segments", "(('iopl', 3), ('ioperm', 0, 1, 1), ('modify_ldt', 0, 0, 0))"),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_kernel_is_out_of_reach(stage: Stage, attack: Attack) -> None:
    stage.stands_up_to(attack)


@ON_X86
@pytest.mark.parametrize("attack", ON_ONE_ARCHITECTURE, ids=lambda attack: attack.name)
def test_so_is_what_this_architecture_adds(stage: Stage, attack: Attack) -> None:
    stage.stands_up_to(attack)

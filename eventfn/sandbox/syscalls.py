"""The system calls that a function may make: an allow-list of names, and rules for arguments, as a seccomp filter.

Three answers besides yes. ENOSYS: not on the list, as if the kernel were older; programs have a fallback for that, so
what Linux adds next is shut until somebody looks at it. EPERM: the calls out of which escapes are made; said plainly.
Death: a system call of another architecture (int 0x80), whose numbers mean something else.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
from typing import Final

from eventfn.sandbox import bpf
from eventfn.sandbox.bpf import ALLOW, Has, Is, When, fail_with
from eventfn.sandbox.syscall_numbers import MACHINES, numbers

# What glibc, musl, CPython, node, Go, the JVM, shells and their tools use. Left out on purpose, so ENOSYS:
# clone3 (its flags are behind a pointer, where no filter sees them; everybody falls back to clone), openat2 (its mode
# is too), io_setup and inotify (their limits are the whole machine's, and that of the user who runs eventfn: what is in
# a user namespace counts for whoever made it), NUMA placement, vmsplice, statmount and listmount.
_ALLOWED: Final = """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range
    dup dup2 dup3 pipe pipe2 sendfile splice tee copy_file_range fallocate fadvise64 readahead
    stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink readlinkat
    getdents getdents64 getcwd chdir fchdir umask truncate ftruncate flock fsync fdatasync sync syncfs sync_file_range
    rename renameat renameat2 mkdir mkdirat rmdir link linkat unlink unlinkat symlink symlinkat
    chown fchown lchown fchownat utime utimes futimesat utimensat
    getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr llistxattr flistxattr
    removexattr lremovexattr fremovexattr

    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
    eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime memfd_create

    connect bind listen accept accept4 getsockname getpeername getsockopt shutdown
    sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg

    mmap mprotect munmap mremap msync mincore brk mlock mlock2 munlock mlockall munlockall mseal
    pkey_alloc pkey_free pkey_mprotect map_shadow_stack membarrier

    fork vfork execve execveat exit exit_group wait4 waitid pidfd_open pidfd_send_signal
    set_tid_address set_robust_list get_robust_list rseq arch_prctl restart_syscall
    futex futex_waitv futex_wake futex_wait futex_requeue
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend rt_sigqueueinfo
    rt_tgsigqueueinfo sigaltstack tkill tgkill pause alarm

    getpid getppid gettid getpgid getpgrp setpgid getsid setsid getrlimit setrlimit getrusage times
    getuid geteuid getgid getegid getresuid getresgid getgroups capget
    setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capset
    sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_getattr sched_rr_get_interval
    sched_get_priority_max sched_get_priority_min getpriority ioprio_get getcpu

    time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep getitimer setitimer
    timer_create timer_settime timer_gettime timer_getoverrun timer_delete
    getrandom uname sysinfo

    seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
"""

# Nothing that a function needs, and each the first step of some known escape, or of harm to the whole machine.
_DENIED: Final = """
    mount umount2 pivot_root chroot open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr
    unshare setns name_to_handle_at open_by_handle_at quotactl quotactl_fd fanotify_init fanotify_mark
    ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd process_madvise
    keyctl add_key request_key bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register
    init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct syslog lookup_dcookie
    settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname vhangup iopl ioperm modify_ldt
"""

# Harmless among processes of its own; without namespaces they reach every process of the same user, or leave behind
# what outlives them. Threads may then only be placed and ranked by themselves, by the 0 that means the caller.
_NEEDS_NAMESPACES: Final = """
    shmget shmat shmdt shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl
    mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
"""
_TAKES_A_PID: Final = "prlimit64 sched_setaffinity sched_setparam sched_setscheduler sched_setattr"

_NO: Final = fail_with(errno.EPERM)
_UNKNOWN: Final = fail_with(errno.ENOSYS)

# mount, cgroup, uts, ipc, user, pid and net namespaces, and CLONE_PARENT: a child for somebody else to wait for.
_CLONE_FLAGS: Final = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000 | 0x8000

_TYPE_OF_SOCKET: Final = 0xF  # the rest of that argument is SOCK_NONBLOCK and SOCK_CLOEXEC
_MPTCP_AND_OTHERS: Final = fail_with(errno.EPROTONOSUPPORT)
_NO_FAMILY: Final = fail_with(errno.EAFNOSUPPORT)

# Writing into a terminal's input, or into a console's, and line disciplines, which load modules.
_TIOCSTI, _TIOCLINUX, _TIOCSETD = 0x5412, 0x541C, 0x5423

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_MM, _PR_SCHED_CORE = 1, 22, 35, 62
_SECCOMP_MODE_FILTER: Final = 2

# A lease lets its holder stall everybody else's open of that file, which may be one of the machine's.
_F_SETLEASE, _F_SETDELEG = 1024, 1040

# Programs for the kernel to run, by the socket, and TCP_ULP, which loads TLS into it.
_SO_ATTACH_FILTERS: Final = (26, 50, 51, 52)
_TCP_ULP: Final = 31

_MADV_MERGEABLE: Final = 12  # same pages of several tenants become one, and its timing tells who has them

# A file with these bits in a writable folder of the machine would make this user of whoever runs it outside.
_SET_ID_BITS: Final = 0o6000
_DEVICE_BIT: Final = 0o020000  # in the modes of character and block devices, of no other file that mknod makes
_CREATES: Final = os.O_CREAT | 0o20000000  # __O_TMPFILE: os.O_TMPFILE has O_DIRECTORY in it too

_LINUX, _ASK = 0, 0xFFFFFFFF  # of personality(2); the others change where memory is and what may be executed

_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_libc = ctypes.CDLL(None, use_errno=True)


class _Filter(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def compile_program(*, inet: bool, unix: bool, namespaces: bool, machine: str | None = None) -> bytes:
    """The filter, as an array of struct sock_filter. Computed once; `install` takes it in each environment.

    `inet`: whether TCP and UDP sockets are to be had. `unix`: whether AF_UNIX ones are, besides pairs: only where they
    reach no service of the machine, so with a mount namespace for those at a path, and with a net namespace or
    Landlock 6 for the abstract ones. `namespaces`: whether the processes have a pid and an ipc namespace of their own.
    `machine` as uname(2) has it, this one by default. OSError if its system calls are not known here.
    """
    machine = machine or os.uname().machine
    if machine not in MACHINES:
        known = " and ".join(MACHINES)
        raise OSError(errno.ENOSYS, f"seccomp: no table of the system calls of {machine}, only of {known}")
    answers = {
        **dict.fromkeys(_ALLOWED.split(), bpf.decide((), ALLOW)),
        **dict.fromkeys(_DENIED.split(), bpf.decide((), _NO)),
        **_sockets(inet=inet, unix=unix),
        **_rules_for_arguments(),
        **_other_processes(namespaces=namespaces),
    }
    answer_to = {number: answers[name] for name, number in numbers(machine).items() if name in answers}
    unknown = bpf.decide((), _UNKNOWN)
    ranges: list[tuple[int, bpf.Code]] = []  # neighbours with the same answer are one
    for number in range(max(answer_to) + 2):
        answer = answer_to.get(number, unknown)
        if not ranges or answer != ranges[-1][1]:
            ranges.append((number, answer))
    # The last range is unknown: numbers to come, and those of x32, which have bit 30.
    return bpf.pack(
        [
            (bpf.LOAD, 0, 0, bpf.ARCHITECTURE),
            (bpf.JUMP_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
            (bpf.RETURN, 0, 0, bpf.KILL_PROCESS),
            (bpf.LOAD, 0, 0, bpf.NUMBER),
            *bpf.search(ranges),
        ]
    )


def install(program: bytes) -> None:
    """From here on, for this thread and all that it starts; nothing takes it away again. no_new_privs is set before.

    OSError if the kernel does not take it.
    """
    what = _Filter(len(program) // 8, program)
    # The same as seccomp(SECCOMP_SET_MODE_FILTER, 0, ...), whose number depends on the machine.
    if _libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.byref(what)) != 0:
        error = ctypes.get_errno()
        text = f"prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, {what.length} instructions): {os.strerror(error)}"
        raise OSError(error, text)


def _sockets(*, inet: bool, unix: bool) -> dict[str, bpf.Code]:
    """Families by the list: vsock, netlink, AF_ALG, packets and the rest are reached through no namespace's wall."""
    dgram, stream, seqpacket = socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_SEQPACKET
    families: list[When] = []
    if unix:
        families += [_socket_rule((socket.AF_UNIX,), (stream, dgram, seqpacket))]
    if inet:
        both = (socket.AF_INET, socket.AF_INET6)
        families += [
            _socket_rule(both, (stream,), (0, socket.IPPROTO_TCP)),
            _socket_rule(both, (dgram,), (0, socket.IPPROTO_UDP)),
            When(_MPTCP_AND_OTHERS, (Is(0, both),)),  # and SCTP, DCCP, ICMP, raw: more kernel than a function needs
        ]
    # A datagram socket of a pair can be connected to any address afterwards; the others are connected for good.
    pairs = (stream, seqpacket, dgram) if unix else (stream, seqpacket)
    return {
        "socket": bpf.decide(families, _NO_FAMILY),
        "socketpair": bpf.decide([_socket_rule((socket.AF_UNIX,), pairs)], _NO_FAMILY),
        "setsockopt": bpf.decide(
            [
                When(fail_with(errno.ENOPROTOOPT), (Is(1, (socket.SOL_SOCKET,)), Is(2, _SO_ATTACH_FILTERS))),
                When(fail_with(errno.ENOPROTOOPT), (Is(1, (socket.IPPROTO_TCP,)), Is(2, (_TCP_ULP,)))),
            ],
            ALLOW,
        ),
    }


def _socket_rule(families: tuple[int, ...], types: tuple[int, ...], protocols: tuple[int, ...] | None = None) -> When:
    protocol = () if protocols is None else (Is(2, protocols),)
    return When(ALLOW, (Is(0, families), Is(1, types, _TYPE_OF_SOCKET), *protocol))


def _rules_for_arguments() -> dict[str, bpf.Code]:
    return {
        "clone": _all_but(Has(0, _CLONE_FLAGS)),
        "ioctl": _all_but(Is(1, (_TIOCSTI, _TIOCLINUX, _TIOCSETD))),
        "fcntl": _all_but(Is(1, (_F_SETLEASE, _F_SETDELEG))),
        "madvise": bpf.decide([When(fail_with(errno.EINVAL), (Is(2, (_MADV_MERGEABLE,)),))], ALLOW),
        "personality": _only(Is(0, (_LINUX, _ASK))),
        "prctl": bpf.decide(
            [
                # It may make itself die with its parent, and not take that back.
                When(ALLOW, (Is(0, (_PR_SET_PDEATHSIG,)), Is(1, (signal.SIGKILL,)))),
                # PR_SET_MM forges what /proc says of it; PR_SCHED_CORE takes whole cores from others.
                When(_NO, (Is(0, (_PR_SET_PDEATHSIG, _PR_SET_MM, _PR_SCHED_CORE)),)),
            ],
            ALLOW,
        ),
        "open": _all_but(Has(1, _CREATES), Has(2, _SET_ID_BITS)),
        "openat": _all_but(Has(2, _CREATES), Has(3, _SET_ID_BITS)),
        "creat": _all_but(Has(1, _SET_ID_BITS)),
        "chmod": _all_but(Has(1, _SET_ID_BITS)),
        "fchmod": _all_but(Has(1, _SET_ID_BITS)),
        "fchmodat": _all_but(Has(2, _SET_ID_BITS)),
        "fchmodat2": _all_but(Has(2, _SET_ID_BITS)),
        "mknod": _all_but(Has(1, _SET_ID_BITS | _DEVICE_BIT)),
        "mknodat": _all_but(Has(2, _SET_ID_BITS | _DEVICE_BIT)),
    }


def _other_processes(*, namespaces: bool) -> dict[str, bpf.Code]:
    if namespaces:
        names = f"kill setpriority ioprio_set {_TAKES_A_PID} {_NEEDS_NAMESPACES}".split()
        return dict.fromkeys(names, bpf.decide((), ALLOW))
    return {
        **dict.fromkeys(_NEEDS_NAMESPACES.split(), bpf.decide((), _NO)),
        **dict.fromkeys(_TAKES_A_PID.split(), _only(Is(0, (0,)))),
        "kill": _all_but(Is(0, (0xFFFFFFFF,))),  # -1: everything that this user runs
        "setpriority": _only(Is(0, (os.PRIO_PROCESS, os.PRIO_PGRP)), Is(1, (0,))),
        "ioprio_set": _only(Is(0, (1, 2)), Is(1, (0,))),  # IOPRIO_WHO_PROCESS and _PGRP
    }


def _all_but(*conditions: Is | Has) -> bpf.Code:
    return bpf.decide([When(_NO, conditions)], ALLOW)


def _only(*conditions: Is | Has) -> bpf.Code:
    return bpf.decide([When(ALLOW, conditions)], _NO)

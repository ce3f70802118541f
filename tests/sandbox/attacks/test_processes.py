"""Attacks on other processes: the supervisor, the zygote, those of other functions and of the machine."""

from __future__ import annotations

import pytest

from tests.sandbox.attacks.attack import Attack, OneOf
from tests.sandbox.attacks.stage import Stage

# Each of them by the number that it has on the machine.
_OTHERS = "others = [machine.pid, machine.victim, machine.processes['zygote'], machine.processes['neighbour']]\n"

ATTACKS = [
    Attack(
        "looking who is there",
        "process list",
        _OTHERS + "return [os.path.exists(f'/proc/{pid}') for pid in others]",
        [False] * 4,
        open=[True] * 4,
    ),
    Attack(
        "listing processes",
        "files",
        "found = attempt(os.listdir, '/proc')\n"
        "return found if found == 'EACCES' else {int(name) for name in found if name.isdigit()} == {1, os.getpid()}",
        True,
        "EACCES",
    ),
    Attack(
        "killing them",
        "signals",
        _OTHERS + "return [attempt(os.kill, pid, signal.SIGKILL) for pid in others]",
        ["ESRCH"] * 4,
        ["EPERM"] * 4,
    ),
    Attack(
        "stopping them through descriptors",
        "signals",
        _OTHERS
        + """
def stop(pid):
    signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGSTOP)
return [attempt(stop, pid) for pid in others]
""",
        ["ESRCH"] * 4,
        ["EPERM"] * 4,
    ),
    Attack(
        "killing groups and threads of them",
        "signals",
        _OTHERS
        + """
return [[attempt(os.killpg, pid, signal.SIGKILL), call('tgkill', pid, pid, 9), call('tkill', pid, 9),
         call('rt_sigqueueinfo', pid, 9, bytes(128))] for pid in others]
""",
        [["ESRCH", "ESRCH", "ESRCH", OneOf("ESRCH", "EPERM")]] * 4,
        [[OneOf("EPERM", "ESRCH"), "EPERM", "EPERM", "EPERM"]] * 4,
    ),
    Attack("killing everybody", "signals", "return attempt(os.kill, -1, signal.SIGKILL)", "ESRCH", "EPERM"),
    Attack(
        "telling its init to stop, to end or to do what only the supervisor may say",
        "signals",
        """
        names = ('SIGUSR1', 'SIGUSR2', 'SIGTERM', 'SIGSTOP', 'SIGKILL', 'SIGSEGV', 'SIGHUP', 'SIGCHLD')
        return [attempt(os.kill, 1, getattr(signal, name)) for name in names]
        """,
        OneOf(["done"] * 8, ["EPERM"] * 8),  # the first process is told nothing, or does nothing
        ["EPERM"] * 8,
    ),
    Attack(
        "reading what /proc has of them",
        "memory access",
        """
        paths = [f'/proc/{pid}/{name}' for name in ('environ', 'maps', 'cmdline', 'auxv', 'stack')
                 for pid in (machine.pid, machine.victim, machine.processes['zygote'], machine.processes['neighbour'])]
        return sorted({attempt(read, path) for path in paths})
        """,
        ["ENOENT"],
        ["EACCES"],
    ),
    Attack(
        "reading its init",
        "memory access",
        "names = ('environ', 'maps', 'mem', 'auxv', 'pagemap', 'syscall')\n"
        "return [attempt(read, f'/proc/1/{name}') for name in names]",
        ["EACCES"] * 6,
    ),
    Attack(
        "writing their memory",
        "memory access",
        _OTHERS + "return [attempt(os.open, f'/proc/{pid}/mem', os.O_RDWR) for pid in others]",
        ["ENOENT"] * 4,
        ["EACCES"] * 4,
    ),
    Attack(
        "tracing them",
        "system calls",
        """
        buffer = ctypes.create_string_buffer(64)
        other = (ctypes.c_long * 2)(0x400000, 64)
        found = []
        for pid in (machine.pid, machine.victim, 1, os.getpid()):
            found += [call('ptrace', 16, pid, 0, 0), call('ptrace', 0x4206, pid, 0, 0)]
            found += [call('process_vm_readv', pid, other, 1, other, 1, 0)]
            found += [call('process_vm_writev', pid, other, 1, other, 1, 0), call('kcmp', pid, pid, 0, 0, 0)]
        return sorted(set(found))
        """,
        ["EPERM"],
    ),
    Attack(
        "taking descriptors out of them",
        "system calls",
        """
        own = os.pidfd_open(os.getpid())
        return [call('pidfd_getfd', own, 3, 0), call('process_madvise', own, 0, 0, 21, 0)]
        """,
        ["EPERM"] * 2,
    ),
    Attack(
        "slowing them down",
        "signals",
        _OTHERS
        + """
parameters = bytes(4)
affinity = (1).to_bytes(128, 'little')
found = []
for pid in others:
    found += [attempt(os.setpriority, os.PRIO_PROCESS, pid, 19), call('sched_setaffinity', pid, 128, affinity)]
    found += [call('sched_setscheduler', pid, 5, parameters), call('ioprio_set', 1, pid, 3 << 13)]
    found += [call('prlimit64', pid, 7, bytes(16), 0)]
return sorted(set(found))
""",
        ["ESRCH"],
        ["EPERM"],
    ),
    Attack(
        "slowing all of this user down",
        "signals",
        # To what they have: whoever is nicer than 0 may not go back to it, and that is no wall.
        "own = os.getpriority(os.PRIO_PROCESS, 0)\n"
        "return [attempt(os.setpriority, os.PRIO_USER, 0, own), call('ioprio_set', 3, 0, 0)]",
        ["done", OneOf(0, "ESRCH")],
        ["EPERM"] * 2,
    ),
    Attack(
        "joining the machine's namespaces",
        "system calls",
        """
        found = []
        for kind in ('mnt', 'pid', 'net', 'user', 'ipc', 'uts', 'cgroup'):
            descriptor = attempt(os.open, f'/proc/1/ns/{kind}', os.O_RDONLY)
            found.append(descriptor)
            own = attempt(os.open, f'/proc/self/ns/{kind}', os.O_RDONLY)
            found.append(call('setns', own if isinstance(own, int) else 0, 0))
        return sorted(set(found) - {'ENOENT'})
        """,
        ["EACCES", "EPERM"],
    ),
    Attack(
        "being somebody else",
        "privileges",
        """
        ids = [attempt(os.setuid, 1), attempt(os.setgid, 1), attempt(os.setgroups, [1]), attempt(os.setresuid, 1, 1, 1)]
        status = [line.split() for line in read('/proc/self/status').splitlines()]
        held = [words[1] for words in status if words and words[0] in ('CapPrm:', 'CapEff:', 'CapAmb:')]
        raised = call('capset', struct.pack('=Ii', 0x20080522, 0), struct.pack('=6I', 1 << 21, 1 << 21, 0, 0, 0, 0))
        return [ids, held, raised]
        """,
        [[OneOf("EINVAL", "EPERM")] * 4, ["0" * 16] * 3, "EPERM"],
        [["EPERM"] * 4, ["0" * 16] * 3, "EPERM"],
    ),
    Attack(
        "programs that make their caller root",
        "privileges",
        """
        programs = [path for path in glob.glob('/usr/bin/*') if attempt(os.path.exists, path) is True
                    and os.stat(path).st_mode & stat.S_ISUID]
        tries = (['mount', '-t', 'tmpfs', 'none', '/tmp'], ['umount', '/tmp'], ['unshare', '-r', 'true'],
                 ['su', 'nobody', '-c', 'true'], ['nsenter', '-t', '1', '-m', 'true'])
        failed = [subprocess.run(each, capture_output=True, stdin=subprocess.DEVNULL).returncode != 0 for each in tries]
        return ['NoNewPrivs:\t1' in read('/proc/self/status'), len(programs) > 0, failed]
        """,
        [True, True, [True] * 5],
    ),
    Attack(
        "what it was handed",
        "descriptors",
        """
        found = []
        for number in sorted(int(name) for name in os.listdir('/proc/self/fd')):
            with contextlib.suppress(FileNotFoundError):  # that of the listing
                found.append(os.readlink(f'/proc/self/fd/{number}'))
        kinds = [each if each.startswith('anon_inode') else each.partition(':')[0] for each in found]
        return [kinds, found[1] == found[2] == found[4]]
        """,
        # Three times its log, and last the gate (workers/child/gate.py), which the supervisor only ever empties.
        [["/dev/null", "pipe", "pipe", "socket", "pipe", "anon_inode:[eventfd]"], True],
    ),
    Attack(
        "what it was told",
        "environment",
        """
        told = repr(dict(os.environ)) + read('/proc/self/cmdline')
        with contextlib.suppress(PermissionError):
            told += read('/proc/self/environ')
        words = 'known-to-the-supervisor-alone', 'known-to-the-machine-alone', 'neighbour', 'SECRET', machine.data
        return [word in told for word in words]
        """,
        [False] * 5,
    ),
    Attack(
        "the terminal's input",
        "system calls",
        """
        commands = 0x5412, 0x541C, 0x5423
        return sorted({attempt(fcntl.ioctl, number, command, b'x') for number in (0, 1, 2) for command in commands})
        """,
        ["EPERM"],
    ),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_other_processes_are_out_of_reach(stage: Stage, attack: Attack) -> None:
    stage.stands_up_to(attack)

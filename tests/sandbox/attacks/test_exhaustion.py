"""Attacks that take more than a function's share: processes, memory, descriptors, log, time."""

from __future__ import annotations

import textwrap
import time

import pytest

from tests.sandbox.attacks.attack import Attack, OneOf
from tests.sandbox.attacks.stage import Stage
from tests.support import PATIENCE

KILLED_FOR_MEMORY = "Runtime.OutOfMemory: Runtime exited with error: signal: killed"
TIMED_OUT = "Sandbox.Timedout: Task timed out after 0.50 seconds"

ATTACKS = [
    Attack(
        "a fork bomb",
        "process count",
        """
        started = forks(1100, signal.pause)
        end_children(started)
        return len(started) < 1024
        """,
        True,
        open=False,
        settings={"memory_size": 2048},
    ),
    Attack(
        "a thread bomb",
        "process count",
        """
        threading.stack_size(65536)
        over, started = threading.Event(), []
        with contextlib.suppress(RuntimeError):
            for _ in range(1100):
                started.append(threading.Thread(target=over.wait))
                started[-1].start()
        over.set()
        return len(started) <= 1024
        """,
        True,
        open=False,
        settings={"memory_size": 2048},
    ),
    Attack(
        "children that nobody waits for",
        "processes",
        """
        for _ in range(300):
            if os.fork() == 0:
                os._exit(0)
        return "done"
        """,
        "done",
        settings={"memory_size": 1769},  # a whole CPU
    ),
    Attack(
        "memory of one process",
        "limits",
        "try:\n    bytearray(400 << 20)\nexcept MemoryError:\n    return 'refused'",
        "refused",
        settings={"memory_size": 64},
    ),
    Attack(
        "memory of many processes",
        "total memory",
        """
        def hold():
            held = b'x' * (100 << 20)
            into.send(b'x')
            into.recv(1)
            into.send(b'x')
            signal.pause()
        outs, children = [], []
        for _ in range(4):
            into, out = socket.socketpair()
            children += forks(1, hold)
            into.close()
            outs.append(out)
            out.recv(1)  # nothing, when it was ended instead
        def still_holds(out):
            try:
                return out.send(b'x') and out.recv(1) == b'x'
            except OSError:
                return False
        all_of_it = all([still_holds(out) for out in outs])
        end_children(children)
        return all_of_it
        """,
        OneOf(False, KILLED_FOR_MEMORY),  # the kernel ends one of them, or all
        open=True,
        settings={"memory_size": 256, "ephemeral_storage": 1},
    ),
    Attack(
        "memory of files that have no name",
        "total memory",
        """
        memory = os.memfd_create('large')
        for _ in range(200):
            os.write(memory, bytes(1 << 20))
        return os.fstat(memory).st_size >> 20
        """,
        KILLED_FOR_MEMORY,
        open=200,
        settings={"memory_size": 128, "ephemeral_storage": 1},
    ),
    Attack(
        "memory of what is under way between sockets",
        "total memory",
        """
        held, bytes_held = [], 0
        def opened():
            listening = socket.create_server(('127.0.0.1', 0), backlog=64)
            held.append(listening)
            return listening.getsockname()
        try:
            address = opened()
        except OSError as error:
            return errno.errorcode[error.errno]
        for _ in range(40):
            held += [socket.create_connection(address), held[0].accept()[0]]
            for each in held[-2:]:
                each.setblocking(False)
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    each.setsockopt(socket.SOL_SOCKET, option, 1 << 30)
                failed = 0
                while failed < 3 and bytes_held < 200 << 20:
                    try:
                        bytes_held += each.send(bytes(65536))
                    except BlockingIOError:
                        failed += 1
                        time.sleep(0.001)
        return bytes_held >= 200 << 20
        """,
        OneOf(False, KILLED_FOR_MEMORY),  # the kernel holds it back, or ends it
        "EAFNOSUPPORT",
        open=OneOf(True, "EAFNOSUPPORT"),
        settings={"memory_size": 64, "ephemeral_storage": 1},
    ),
    Attack(
        "memory that is never written to disk",
        "limits",
        "held = mmap.mmap(-1, 1 << 20)\n"
        "at = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(held)))\n"
        "return [libc.mlockall(1), libc.mlock(at, 1 << 20)]",
        [-1, -1],
    ),
    Attack(
        "descriptors",
        "limits",
        """
        opened = []
        with contextlib.suppress(OSError):
            while len(opened) < 2000:
                opened.append(os.open('/dev/null', os.O_RDONLY))
        more = 'done'
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        except ValueError:
            more = 'refused'
        for each in opened:
            os.close(each)
        return [len(opened) < 1024, more]
        """,
        [True, "refused"],
    ),
    Attack(
        "pipes as large as they get",
        "limits",
        """
        pipes = []
        with contextlib.suppress(OSError):
            while True:
                pipes.append(os.pipe())
                with contextlib.suppress(OSError):
                    fcntl.fcntl(pipes[-1][1], 1031, 1 << 20)
        for ends in pipes:
            os.close(ends[0]), os.close(ends[1])
        return 0 < len(pipes) < 512
        """,
        True,
    ),
    Attack(
        "a core file with what it holds",
        "limits",
        """
        os.chdir('/tmp')
        before = os.listdir('/tmp')
        ended = in_child(os.abort)
        return [ended, sorted(set(os.listdir('/tmp')) - set(before)), resource.getrlimit(resource.RLIMIT_CORE)]
        """,
        ["SIGABRT", [], [0, 0]],
    ),
    Attack(
        "going before others",
        "privileges",
        """
        realtime = struct.pack('i', 1)
        first_come = call('sched_setscheduler', 0, 1, realtime)
        return [attempt(os.nice, -1), first_come, call('sched_setscheduler', 0, 2, realtime),
                call('ioprio_set', 1, 0, 1 << 13)]
        """,
        [OneOf("EPERM", "EACCES"), "EPERM", "EPERM", "EPERM"],
    ),
    Attack(
        "all of the CPU",
        "CPU share",
        """
        wall = time.monotonic()
        used = time.process_time()
        while time.monotonic() < wall + 0.6:
            pass
        return (time.process_time() - used) / (time.monotonic() - wall) < 0.3
        """,
        True,
        open=OneOf(True, False),  # what it gets on a machine that others use too
        settings={"memory_size": 177},  # a tenth of a CPU
    ),
    Attack(
        "queues of the kernel's memory",
        "limits",
        """
        return [call('mq_open', b'queue', os.O_CREAT | os.O_RDWR, 0o600, 0) in ('EMFILE', 'EPERM', 'ENFILE'),
                resource.getrlimit(resource.RLIMIT_MSGQUEUE)]
        """,
        [True, [0, 0]],
    ),
    Attack("never answering", "processes", "while True:\n    pass", TIMED_OUT, settings={"timeout": 0.5}),
    Attack(
        "stopping itself",
        "processes",
        "os.kill(os.getpid(), signal.SIGSTOP)\nreturn 'continued'",
        TIMED_OUT,
        settings={"timeout": 0.5},
    ),
    Attack(
        "killing itself and its group",
        "processes",
        "os.killpg(0, signal.SIGKILL)",
        "Runtime.ExitError: Runtime exited with error: signal: killed",
    ),
    Attack(
        "not minding that it should end",
        "processes",
        """
        for number in range(1, 32):
            with contextlib.suppress(OSError):
                signal.signal(number, signal.SIG_IGN)
        return 'done'
        """,
        "done",
    ),
    Attack(
        "an answer that is too large",
        "processes",
        "return 'x' * 6_291_557",
        "Function.ResponseSizeTooLarge: Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    ),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_it_gets_its_share(stage: Stage, attack: Attack) -> None:
    stage.stands_up_to(attack)


def test_its_log_is_cut_into_lines_and_takes_no_more_memory(stage: Stage) -> None:
    before = stage.ask("lines")["bytes"]
    code = """
    for _ in range(1000):
        os.write(1, b'x' * 65536)
    os.write(2, b'\\n' + bytes(range(32)) * 100 + b'\\xff\\xfe\\n')
    os.write(1, b'\\n' * 20_000)
    return 'done'
    """
    stage.stands_up_to(Attack("endless log", "processes", code, "done", patience=60))
    logged = stage.ask("lines")
    assert logged["bytes"] - before > 65_000_000
    assert logged["longest"] <= 262_144


def test_what_it_forges_in_its_log_stands_in_its_own_log_and_changes_nothing(stage: Stage) -> None:
    """Who writes a log can write anything, as in Lambda: what is billed and reported comes from elsewhere."""
    code = """
    print('END RequestId: 0-0\\nREPORT RequestId: 0-0\\tDuration: 0.00 ms\\tBilled Duration: 0 ms')
    print('START RequestId: 0-1 Version: $LATEST', flush=True)
    return 'done'
    """
    stage.stands_up_to(Attack("forger", "processes", code, "done"))
    lines = stage.ask("lines")["lines"]
    assert [line.partition(":")[0] for line in lines if "RequestId: 0-" in line] == ["forger"] * 3
    assert [line for line in lines if "REPORT" in line and "forger" in line and "RequestId: 0-0" not in line]


_WAITERS = """
    import uuid
    from tools import *
    ME = uuid.uuid4().hex
    held = []
    def by_epoll():
        copies = [os.dup(3) for _ in range(450)]
        for _ in range(450):
            held.append(select.epoll())
            for each in copies:
                held[-1].register(each, select.EPOLLIN)
    def by_poll():
        entries = ctypes.create_string_buffer(struct.pack('ihh', 3, 0x2000, 0) * 1000)
        threading.stack_size(65536)
        wait = libc.poll
        with contextlib.suppress(RuntimeError):
            for _ in range(700):
                threading.Thread(target=wait, args=(entries, 1000, -1), daemon=True).start()
    def handler(event, context):
        if event is not None:
            by_epoll() if event == 'epoll' else by_poll()
        return ME
"""


@pytest.mark.parametrize("how", ["epoll", "poll"])
def test_whoever_has_a_crowd_wait_for_its_requests_is_ended(stage: Stage, how: str) -> None:
    """The supervisor wakes each of them, with every request, in its own time."""
    stage.deploy("crowd", textwrap.dedent(_WAITERS), memory_size=1769)
    first = stage.invoke("crowd", how)
    until = time.monotonic() + PATIENCE
    while stage.invoke("crowd") == first:
        assert time.monotonic() < until
        time.sleep(0.05)
    stage.ask("retire", name="crowd")
    stage.is_unharmed()

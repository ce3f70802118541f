"""Groups: against this machine's own hierarchies where they may be used, and against a folder of files for the rest."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventfn.sandbox.cgroups import CONTROLLERS, PROCESSES, Cgroups, Group, NoCgroups
from tests.sandbox.fake_cgroups import FakeV2
from tests.support import until

ROOT = Path(__file__).parents[2]
CLONE_NEWCGROUP, CLONE_NEWUSER = 0x0200_0000, 0x1000_0000
MB = 1_048_576


# --- the real thing --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cgroups() -> Iterator[Cgroups]:
    try:
        found = Cgroups.find()
    except NoCgroups as none:
        pytest.skip(f"this machine's cgroups cannot be used: {none}")
    yield found
    found.close()


@pytest.fixture
def group(cgroups: Cgroups, request: pytest.FixtureRequest) -> Iterator[Group]:
    made = cgroups.create(abs(hash(request.node.name)))
    yield made
    assert made.remove(), "no test leaves a process behind"


class Child:
    """A process of this interpreter in the group, entered by itself as an environment does, as an ordinary user."""

    def __init__(self, group: Group, what: Callable[[], object]) -> None:
        doors = group.doors()
        self._done, done = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                os.setpgid(0, 0)
                for door in doors:
                    os.write(door, b"0")
                if os.geteuid() == 0:
                    os.setgid(65534)
                    os.setuid(65534)
                os.write(done, f"{what()}\n".encode())
                signal.pause()
            os._exit(1)
        os.close(done)
        for door in doors:
            os.close(door)

    def said(self) -> str:
        """What `what` returned; nothing, if the process was killed before. Its own end counts, and not that of the
        pipe: children that outlive it hold the pipe open."""
        ended = os.pidfd_open(self.pid)
        try:
            ready, _, _ = select.select([self._done, ended], [], [])
        finally:
            os.close(ended)
        return os.read(self._done, 100).decode().strip() if self._done in ready else ""

    def end(self) -> int:
        """By which signal it went."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self._done)
        return os.WTERMSIG(status)


@contextlib.contextmanager
def child(group: Group, what: Callable[[], object]) -> Iterator[Child]:
    running = Child(group, what)
    try:
        yield running
    finally:
        running.end()


def needs(cgroups: Cgroups, controller: str) -> None:
    if controller not in cgroups.controllers:
        pytest.skip(f"this machine's cgroups v{cgroups.version} have no {controller} controller for us")


async def removed(group: Group) -> None:
    await until(group.remove, "the last process of the group is gone")


held: list[object] = []


def hold(megabytes: int) -> str:
    held.append(bytearray(os.urandom(4096)) * (megabytes * 256))
    return "held"


def hold_in_children(megabytes: int, children: int) -> str:
    for _ in range(children):
        read, write = os.pipe()
        if os.fork() == 0:
            hold(megabytes)
            os.write(write, b".")
            signal.pause()
        os.close(write)
        os.read(read, 1)
    return "held"


def hold_in_memfd(megabytes: int) -> str:
    memfd = os.memfd_create("held")
    for _ in range(megabytes):
        os.write(memfd, bytes(MB))
    return "held"


@pytest.mark.parametrize(
    "too_much",
    [lambda: hold(96), lambda: hold_in_children(20, 5), lambda: hold_in_memfd(96)],  # each 96 MB or more, of 64
    ids=["one process", "many children", "memfd"],
)
async def test_memory_is_limited_over_all_of_the_group(
    cgroups: Cgroups, group: Group, too_much: Callable[[], object]
) -> None:
    needs(cgroups, "memory")
    group.limit_memory(32, 32)
    with child(group, too_much) as running:
        running.said()  # or its end: with v1 it may be one of its children that went
        assert group.oom_kills() >= 1
    await removed(group)


async def test_what_fits_is_not_killed(cgroups: Cgroups, group: Group) -> None:
    needs(cgroups, "memory")
    group.limit_memory(128, 32)
    with child(group, lambda: hold_in_children(16, 3)) as running:
        assert running.said() == "held"
        assert group.oom_kills() == 0
    await removed(group)


async def test_processes_over_memory_size_are_seen_and_files_are_not_counted(cgroups: Cgroups, group: Group) -> None:
    needs(cgroups, "memory")
    group.limit_memory(32, 512)
    with child(group, lambda: hold_in_memfd(64)) as running:
        assert running.said() == "held"
        used = group.memory_used()
        assert used.shared >= 64 * MB
        assert used.processes < 32 * MB
        assert not group.over_memory()
    await until(lambda: group.memory_used().shared == 0, "the memfd is gone")
    with child(group, lambda: hold(64)) as running:
        assert running.said() == "held"
        await until(group.over_memory, "the kernel has counted it")
        assert group.memory_used().processes >= 64 * MB
    await removed(group)


def quotas(group: Group) -> list[str]:
    """What the kernel says, in whichever of the two files it has."""
    files = [Path(folder) / name for folder in group.folders for name in ("cpu.cfs_quota_us", "cpu.max")]
    return [file.read_text() for file in files if file.exists()]


async def test_the_cpu_share_is_that_of_memory_size_over_all_processes(cgroups: Cgroups, group: Group) -> None:
    needs(cgroups, "cpu")
    group.limit_cpu(1769 // 4)  # a quarter of a CPU
    (stat,) = (Path(folder) / "cpu.stat" for folder in group.folders if (Path(folder) / "cpu.stat").exists())

    def facts() -> dict[str, int]:
        return {name: int(value) for name, value in map(str.split, stat.read_text().splitlines())}

    def spin() -> None:
        os.fork()  # two, on as many CPUs as there are
        while True:
            pass

    with child(group, spin) as running:
        # Not in every period: on a busy machine it does not even get what it may have.
        await until(lambda: facts()["nr_throttled"] >= 20, "it was held back again and again")
        group.lift_cpu()
        assert not [line for line in quotas(group) if line.split()[0] not in ("-1", "max")]
        # Of each of the two, in hundredths of a second; a period is two of them, and half of one is allowed.
        ticks = Path(f"/proc/{running.pid}/stat").read_text().rpartition(") ")[2].split()
        assert int(ticks[11]) + int(ticks[12]) <= (facts()["nr_periods"] + 1) * 0.5 * 1.5
    await removed(group)


async def test_no_more_processes_and_threads_than_1024(cgroups: Cgroups, group: Group) -> None:
    needs(cgroups, "pids")

    def fill() -> str:
        if os.fork() == 0:
            signal.pause()
        threads = 0
        with contextlib.suppress(RuntimeError):  # can't start new thread
            while threads < 2 * PROCESSES:
                threading.Thread(target=threading.Event().wait, daemon=True).start()
                threads += 1
        try:
            os.fork()
        except BlockingIOError:
            return f"2 processes and {threads} threads"
        return "one more process"

    with child(group, fill) as running:
        assert running.said() == f"2 processes and {PROCESSES - 2} threads"
    await removed(group)


async def test_the_way_in_is_open_from_namespaces_of_its_own(cgroups: Cgroups, group: Group) -> None:
    """As an environment has them: over its user namespace it has every right, over the groups none."""
    libc = ctypes.CDLL(None, use_errno=True)

    doors = group.doors()
    pid = os.fork()
    if pid == 0:
        refused = libc.unshare(CLONE_NEWUSER | CLONE_NEWCGROUP)
        if not refused:
            with contextlib.suppress(BaseException):
                for door in doors:
                    os.write(door, b"0")
                signal.pause()
        os._exit(77 if refused else 1)
    for door in doors:
        os.close(door)

    def inside() -> bool:
        return all(str(pid) in (Path(folder) / "cgroup.procs").read_text().split() for folder in group.folders)

    try:
        ended = await until(lambda: inside() or os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), "")
    finally:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 77:
        pytest.skip("this machine gives no user namespace to enter from")
    assert ended is True
    await removed(group)


async def test_what_is_left_in_it_ends_with_it(cgroups: Cgroups, group: Group) -> None:
    if not cgroups.kills:
        pytest.skip("cgroup.kill is of cgroups v2, from Linux 5.14")

    def escape() -> str:
        if os.fork() == 0:
            os.setsid()
            signal.pause()
        return "started"

    running = Child(group, escape)
    assert running.said() == "started"
    running.end()  # its process group, of which the other is not any more
    await removed(group)


def test_a_group_that_is_removed_can_be_removed_again(cgroups: Cgroups) -> None:
    group = cgroups.create(1)
    assert group.remove()
    assert group.remove()


def test_a_refused_write_names_the_call(cgroups: Cgroups, group: Group) -> None:
    needs(cgroups, "memory")
    with pytest.raises(OSError, match=r"write\(/.*/memory\.[a-z_]+, -5242880\): "):
        group.limit_memory(-5, 0)


def test_a_group_that_is_there_already_is_an_error(cgroups: Cgroups) -> None:
    group = cgroups.create(2)
    with pytest.raises(OSError, match=r"mkdir\(/.*/2\): File exists"):
        cgroups.create(2)
    group.remove()


NODE = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from eventfn.sandbox.cgroups import Cgroups, NoCgroups
if sys.argv[2:]:
    os.setgid(65534)
    os.setuid(65534)
try:
    cgroups = Cgroups.find()
    print(*cgroups.create(1).folders, flush=True)
    time.sleep(1000)
except NoCgroups as none:
    print("none:", none, flush=True)
"""


def node() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", NODE, str(ROOT)], stdout=subprocess.PIPE, text=True)


def folders_of(running: subprocess.Popen[str]) -> list[Path]:
    assert running.stdout is not None
    said = running.stdout.readline()
    if said.startswith("none:"):
        pytest.skip(f"a second node finds no cgroups here: {said}")
    return [Path(path) for path in said.split()]


def test_groups_of_a_killed_node_go_when_the_next_starts_and_a_living_ones_stay(cgroups: Cgroups) -> None:
    living, killed = node(), node()
    try:
        theirs, left_over = folders_of(living), folders_of(killed)
        killed.kill()
        killed.wait()
        assert all(folder.exists() for folder in left_over)
        with node() as third:
            folders_of(third)
            third.kill()
        assert not any(folder.parent.exists() for folder in left_over)
        assert all(folder.exists() for folder in theirs)
    finally:
        for process in (living, killed):
            process.kill()
            process.communicate()
    Cgroups.find().close()  # the last of them leaves nothing


def test_an_ordinary_user_is_told_why_there_are_none() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody who was delegated nothing")
    arguments = [sys.executable, "-c", NODE, str(ROOT), "as nobody"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert re.match(r"none: .*not allowed to write /", done.stdout), done


# --- cgroups v2, in a folder of files --------------------------------------------------------------------------------


def test_the_whole_machines_root_keeps_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeV2(tmp_path, monkeypatch, "/")
    cgroups = Cgroups.find(fake.proc)
    assert (cgroups.version, cgroups.controllers, cgroups.kills) == (2, CONTROLLERS, True)
    assert fake.processes(fake.root) == [os.getpid()]
    cgroups.close()
    assert not list(fake.root.glob("eventfn-*"))


def test_in_a_delegated_group_the_supervisor_goes_into_a_leaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeV2(tmp_path, monkeypatch, "/system.slice/eventfn.service")
    cgroups = Cgroups.find(fake.proc)
    assert cgroups.controllers == CONTROLLERS
    (leaf,) = fake.own.glob("eventfn-*/supervisor")
    assert fake.processes(leaf) == [os.getpid()]
    assert fake.processes(fake.own) == []


def test_what_is_written_to_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeV2(tmp_path, monkeypatch, "/")
    group = Cgroups.find(fake.proc).create(7)
    (folder,) = map(Path, group.folders)
    group.limit_memory(128, 512)
    group.limit_cpu(1769)
    fake.move(42, folder)
    assert not group.remove()
    written = {
        "memory.max": str(640 * MB),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.max": "20000 20000",
        "pids.max": "1024",
        "cgroup.kill": "1",
    }
    assert {name: (folder / name).read_text() for name in written} == written


@pytest.mark.parametrize(("memory_mb", "quota"), [(128, 1447), (10_240, 115_771), (64, 1000)])
def test_the_quota_follows_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_mb: int, quota: int) -> None:
    fake = FakeV2(tmp_path, monkeypatch, "/")
    group = Cgroups.find(fake.proc).create(7)
    group.limit_cpu(memory_mb)
    assert (Path(group.folders[0]) / "cpu.max").read_text() == f"{quota} 20000"
    group.lift_cpu()
    # A file of the kernel's would be "max 20000"; one of a file system keeps what was behind that.
    assert (Path(group.folders[0]) / "cpu.max").read_text().startswith("max 20000")


def test_what_is_read_of_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeV2(tmp_path, monkeypatch, "/")
    group = Cgroups.find(fake.proc).create(7)
    folder = Path(group.folders[0])
    group.limit_memory(128, 512)
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 2\noom_kill 3\noom_group_kill 1\n")
    (folder / "memory.stat").write_text(f"anon {200 * MB}\nfile {MB}\nanon_thp 1\nshmem {2 * MB}\nshmem_thp 9\n")
    assert group.oom_kills() == 3
    assert group.memory_used() == (200 * MB, 2 * MB)
    (folder / "memory.current").write_text(f"{128 * MB}\n")
    assert not group.over_memory(), "all of it together is no more, so memory.stat is not even read"
    (folder / "memory.current").write_text(f"{203 * MB}\n")
    assert group.over_memory()
    (folder / "memory.stat").write_text(f"anon {100 * MB}\nshmem {103 * MB}\n")
    assert not group.over_memory(), "files"


def test_only_the_controllers_that_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeV2(tmp_path, monkeypatch, "/user.slice/app.scope", controllers=("memory", "pids"))
    cgroups = Cgroups.find(fake.proc)
    assert cgroups.controllers == ("memory", "pids")
    group = cgroups.create(1)
    group.limit_cpu(128)
    assert not (Path(group.folders[0]) / "cpu.max").exists()


def test_without_the_memory_controller_nothing_is_said_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeV2(tmp_path, monkeypatch, "/", controllers=("pids",))
    group = Cgroups.find(fake.proc).create(1)
    group.limit_memory(128, 512)
    assert (group.memory_used(), group.over_memory(), group.oom_kills()) == ((0, 0), False, 0)


def test_a_controller_that_is_refused_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeV2(tmp_path, monkeypatch, "/a.service")
    fake.refused = {"cpu"}
    assert Cgroups.find(fake.proc).controllers == ("memory", "pids")


def test_files_that_an_older_kernel_lacks_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeV2(tmp_path, monkeypatch, "/")
    fake.files["memory"] = ["memory.max", "memory.current", "memory.stat", "memory.events"]
    group = Cgroups.find(fake.proc).create(1)
    assert not (Path(group.folders[0]) / "memory.swap.max").exists()


def test_a_controller_without_its_files_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeV2(tmp_path, monkeypatch, "/")
    fake.files["cpu"] = ["cpu.stat"]  # a kernel without CONFIG_CFS_BANDWIDTH
    assert Cgroups.find(fake.proc).controllers == ("memory", "pids")
    fake.files = {name: [] for name in fake.files}
    with pytest.raises(NoCgroups, match="lack files"):
        Cgroups.find(fake.proc)


@pytest.mark.parametrize("refused", [(), ("memory", "cpu", "pids")], ids=["others are there", "all refused"])
def test_where_controllers_cannot_be_handed_down_nothing_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...]
) -> None:
    fake = FakeV2(tmp_path, monkeypatch, "/user.slice/session-1.scope")
    fake.refused = set(refused)
    if not refused:
        fake.move(1, fake.own)
    expected = r"subtree_control, \+memory\): Invalid" if refused else r"pid 1\): start eventfn in a cgroup of its own"
    with pytest.raises(NoCgroups, match=expected):
        Cgroups.find(fake.proc)
    assert os.getpid() in fake.processes(fake.own)
    assert not list(fake.own.glob("eventfn-*"))


def test_without_controllers_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeV2(tmp_path, monkeypatch, "/", controllers=())
    with pytest.raises(NoCgroups, match="no controller of memory, cpu, pids"):
        Cgroups.find(fake.proc)


@pytest.mark.parametrize("file", ["", "cgroup.procs", "cgroup.subtree_control"])
def test_what_is_not_delegated_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    fake = FakeV2(tmp_path, monkeypatch, "/user.slice/session-1.scope")
    access = os.access
    refused = fake.own / file
    monkeypatch.setattr(os, "access", lambda path, mode: path != refused and access(path, mode))  # root may all
    with pytest.raises(NoCgroups, match=f"not allowed to write {re.escape(str(refused))}: .*Delegate=yes"):
        Cgroups.find(fake.proc)


def test_a_kernel_without_cgroups_has_none(tmp_path: Path) -> None:
    with pytest.raises(NoCgroups, match="No such file"):
        Cgroups.find(tmp_path)


def test_no_cgroups_are_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeV2(tmp_path, monkeypatch, "/")
    (fake.proc / "mountinfo").write_text("22 1 0:21 / /proc rw,relatime - proc proc rw\n")
    with pytest.raises(NoCgroups, match="no cgroup file system is mounted"):
        Cgroups.find(fake.proc)


@pytest.mark.parametrize(
    ("own", "root", "below"),
    [
        ("/docker/1234", "/docker/1234", ""),
        ("/docker/1234/a", "/docker/1234", "a"),
        ("/docker/1234", "/docker/12", None),
    ],
)
def test_a_container_shows_its_own_part_of_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, root: str, below: str | None
) -> None:
    fake = FakeV2(tmp_path, monkeypatch, f"/{below or ''}")
    (fake.proc / "cgroup").write_text(f"0::{own}\n")
    mountinfo = (fake.proc / "mountinfo").read_text().replace("0:38 / ", f"0:38 {root} ")
    (fake.proc / "mountinfo").write_text(mountinfo)
    if below is None:
        with pytest.raises(NoCgroups, match="no cgroup file system is mounted"):
            Cgroups.find(fake.proc)
    else:
        Cgroups.find(fake.proc)
        assert list((fake.root / below).glob("eventfn-*"))


def test_a_folder_whose_last_process_is_still_dying_stays_for_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeV2(tmp_path, monkeypatch, "/")
    dead = fake.root / "eventfn-1-dead"
    slot = dead / "3"
    dead.mkdir()
    slot.mkdir()
    fake.move(4242, slot)
    Cgroups.find(fake.proc).close()
    assert slot.exists()
    fake.move(4242, fake.root)
    Cgroups.find(fake.proc).close()
    assert not dead.exists()

"""Landlock's wall, put up in forks that then try, for every version of it that this kernel can stand in for."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventfn.sandbox import landlock, privileges
from eventfn.sandbox.landlock import Access
from tests.sandbox.forked import errno_of, in_fork, libc

NOBODY = 65534
SYSTEM = tuple(folder for folder in ("/usr", "/lib", "/lib64", "/bin", "/etc", "/proc") if os.path.isdir(folder))
VERSIONS = range(1, 8)
HERE = landlock.abi()

pytestmark = pytest.mark.skipif(HERE == 0, reason="this kernel has no Landlock")


@pytest.fixture(params=["root", "nobody"])
def user(request: pytest.FixtureRequest) -> int:
    """Whom the fork becomes before it shuts itself in."""
    if request.param == "nobody" and os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    return NOBODY if request.param == "nobody" else os.geteuid()


@pytest.fixture
def folder() -> Iterator[Path]:
    """read/, write/ and other/, each with a file, which everybody may write as far as modes go."""
    # Not under pytest's own folder, which only its user may enter.
    folder = Path(tempfile.mkdtemp(prefix="landlock.", dir="/tmp"))
    for name in ("read", "write", "write/below", "other"):
        (folder / name).mkdir()
        (folder / name / "file").write_text(name)
        (folder / name / "file").chmod(0o666)
        (folder / name).chmod(0o777)
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def behind_rules(
    access: Access, work: Callable[[], object], *, user: int = NOBODY, tcp: bool = False, version: int = HERE
) -> Any:
    def walled() -> object:
        if os.geteuid() != user:
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        privileges.no_new_privileges()
        landlock.enforce(landlock.rules(access, tcp=tcp, version=version))
        return work()

    return in_fork(walled)


def at_least(version: int) -> pytest.MarkDecorator:
    return pytest.mark.skipif(version > HERE, reason=f"this kernel has Landlock {HERE}, and this came with {version}")


def access_to(folder: Path) -> Access:
    return Access(read=(*SYSTEM, str(folder / "read")), write=(str(folder / "write"), "/dev/null"))


def create(path: Path) -> None:
    path.write_text("new")


def truncate(path: Path) -> None:
    os.truncate(path, 0)


DENIED = errno.EACCES


@pytest.mark.parametrize("version", [pytest.param(version, marks=at_least(version)) for version in VERSIONS])
def test_every_version_keeps_to_the_paths(folder: Path, user: int, version: int) -> None:
    read, write, other = (folder / name for name in ("read", "write", "other"))

    def attempts() -> dict[str, int]:
        return {
            "read": errno_of((read / "file").read_text),
            "list": errno_of(os.listdir, read),
            "change": errno_of((read / "file").write_text, "changed"),
            "create": errno_of(create, read / "new"),
            "remove": errno_of(os.unlink, read / "file"),
            "make a folder": errno_of(os.mkdir, read / "new"),
            "read other": errno_of((other / "file").read_text),
            "list other": errno_of(os.listdir, other),
            "list above": errno_of(os.listdir, folder),
            "read through a link": errno_of(os.link, other / "file", write / "link"),
            "read and change": errno_of((write / "file").write_text, "changed"),
            "create below": errno_of(create, write / "below" / "new"),
            "remove below": errno_of(os.unlink, write / "below" / "new"),
            "folders below": errno_of(os.makedirs, write / "below" / "a" / "b"),
            "symlink": errno_of(os.symlink, other / "file", write / "symlink"),
            "read through a symlink": errno_of((write / "symlink").read_text),
            "fifo": errno_of(os.mkfifo, write / "fifo"),
            "rename": errno_of(os.rename, write / "file", write / "renamed"),
            "nothing": errno_of(Path("/dev/null").write_text, "nothing"),
            "run": errno_of(subprocess.run, ["true"]),
        }

    allowed = {"read", "list", "read and change", "create below", "remove below", "folders below", "symlink", "fifo"}
    allowed |= {"rename", "nothing", "run"}
    seen = behind_rules(access_to(folder), attempts, user=user, version=version)
    # A link into another folder: never in version 1, which says so as if they were file systems.
    assert seen.pop("read through a link") in (DENIED, errno.EXDEV)
    assert {name for name, error in seen.items() if error == 0} == allowed
    assert {error for name, error in seen.items() if name not in allowed} == {DENIED}


@pytest.mark.parametrize("version", [pytest.param(version, marks=at_least(version)) for version in VERSIONS])
def test_what_a_version_brought_holds_from_it_on(folder: Path, version: int) -> None:
    """And with an older one it is left alone, since that kernel does not know it: the tier says what is enforced."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def attempts() -> dict[str, int]:
            with socket.socket() as to_bind, socket.socket() as to_connect:
                return {
                    "rename": errno_of(os.rename, folder / "write/file", folder / "write/below/moved"),
                    "truncate": errno_of(truncate, folder / "read/file"),
                    "bind": errno_of(to_bind.bind, ("127.0.0.1", 0)),
                    "connect": errno_of(to_connect.connect, listener.getsockname()),
                    "signal": errno_of(os.kill, os.getppid(), 0),
                }

        # As the user who runs the tests, who may signal them otherwise.
        seen = behind_rules(access_to(folder), attempts, user=os.geteuid(), version=version)
    assert seen == {
        "rename": 0 if version >= 2 else errno.EXDEV,
        "truncate": DENIED if version >= 3 else 0,
        "bind": DENIED if version >= 4 else 0,
        "connect": DENIED if version >= 4 else 0,
        "signal": errno.EPERM if version >= 6 else 0,
    }


@at_least(4)
def test_tcp_is_left_alone_where_another_wall_keeps_it(folder: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def connect() -> int:
            with socket.socket() as to_connect:
                return errno_of(to_connect.connect, listener.getsockname())

        assert behind_rules(access_to(folder), connect, tcp=True) == 0


@at_least(5)
def test_no_ioctl_reaches_a_device(folder: Path) -> None:
    def attempt() -> int:
        with open("/dev/null") as device:
            return errno_of(os.tcgetpgrp, device.fileno())

    access = access_to(folder)
    assert behind_rules(access, attempt, version=4) == errno.ENOTTY
    assert behind_rules(access, attempt, version=5) == DENIED


@at_least(6)
def test_abstract_sockets_of_others_are_out_of_reach_and_its_own_are_not(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(f"\0eventfn-test-{os.getpid()}")
        service.listen()

        def attempts() -> list[int]:
            with socket.socket(socket.AF_UNIX) as own, socket.socket(socket.AF_UNIX) as one, socket.socket(1) as other:
                own.bind(f"\0eventfn-test-{os.getpid()}")
                own.listen()
                return [errno_of(one.connect, own.getsockname()), errno_of(other.connect, service.getsockname())]

        assert behind_rules(access_to(folder), attempts) == [0, errno.EPERM]


def test_it_may_signal_itself_and_its_children(folder: Path) -> None:
    def attempts() -> list[int]:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "60"])
        answers = [errno_of(os.kill, os.getpid(), signal.SIGUSR1), errno_of(child.send_signal, signal.SIGKILL)]
        return [*answers, child.wait()]

    assert behind_rules(access_to(folder), attempts) == [0, 0, -signal.SIGKILL]


def test_what_it_has_open_may_be_opened_by_its_name_again(folder: Path) -> None:
    """echo > /dev/stderr, where that is a pipe: pipes are no files of any folder."""

    def attempt() -> list[object]:
        done = subprocess.run(
            ["sh", "-c", "echo said > /proc/self/fd/2"], stderr=subprocess.PIPE, text=True, check=False
        )
        return [done.returncode, done.stderr]

    assert behind_rules(access_to(folder), attempt) == [0, "said\n"]


def test_a_file_takes_a_rule_of_its_own(folder: Path) -> None:
    def attempts() -> list[int]:
        return [errno_of((folder / name / "file").write_text, "changed") for name in ("other", "read")]

    access = Access(read=SYSTEM, write=(str(folder / "other/file"),))
    assert behind_rules(access, attempts) == [0, DENIED]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could mount at all")
def test_nothing_is_mounted_any_more(folder: Path) -> None:
    def attempt() -> int:
        assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS: should it go through, the machine keeps its mounts
        result: int = libc.mount(b"none", os.fsencode(folder / "write"), b"tmpfs", 0, None)
        return ctypes.get_errno() if result else 0

    assert behind_rules(access_to(folder), attempt, user=0) == errno.EPERM


def test_a_path_that_does_not_exist_is_named_and_no_descriptor_is_left(folder: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError, match=r"open\('/no/such/folder', O_PATH\) for a Landlock rule: No such file"):
        landlock.rules(Access(read=(str(folder),), write=("/no/such/folder",)), tcp=True, version=HERE)
    assert os.listdir("/proc/self/fd") == before


def test_what_the_kernel_refuses_names_the_call() -> None:
    def enforce_no_rules() -> int:
        privileges.no_new_privileges()
        no_rules = os.open("/", os.O_PATH)
        with pytest.raises(OSError, match="landlock_restrict_self: Bad file descriptor"):
            landlock.enforce(no_rules)
        return errno_of(os.fstat, no_rules)

    assert in_fork(enforce_no_rules) == errno.EBADF, "it closes its descriptor in any case"


def test_a_version_asks_for_nothing_that_came_later() -> None:
    last = [landlock.handled(version, tcp=False) for version in VERSIONS]
    assert [bin(handled.files).count("1") for handled in last] == [13, 14, 15, 15, 16, 16, 16]
    assert [handled.tcp for handled in last] == [0, 0, 0, 3, 3, 3, 3]
    assert [handled.scopes for handled in last] == [0, 0, 0, 0, 0, 3, 3]
    assert all(landlock.handled(version, tcp=True).tcp == 0 for version in VERSIONS)


def test_rules_can_be_added_until_they_are_enforced(folder: Path) -> None:
    def work() -> list[int]:
        privileges.no_new_privileges()
        rules = landlock.rules(Access(read=(*SYSTEM, str(folder / "read")), write=()), tcp=True, version=HERE)
        landlock.add(rules, Access(read=(), write=(str(folder / "write"),)), tcp=True, version=HERE)
        landlock.enforce(rules)
        return [errno_of(os.open, folder / name / "file", os.O_RDWR) for name in ("write", "read", "other")]

    assert in_fork(work) == [0, errno.EACCES, errno.EACCES]


def test_its_rules_are_not_inherited_by_a_program_that_is_started(folder: Path) -> None:
    descriptor = landlock.rules(access_to(folder), tcp=True, version=HERE)
    try:
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)

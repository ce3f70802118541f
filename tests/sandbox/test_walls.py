"""Each wall, tried from inside: a process that contains itself as an environment does and reports what is left."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventfn.sandbox import contain, descriptors, landlock, limits, privileges
from eventfn.sandbox.policy import Policy
from eventfn.sandbox.walls import Tier
from tests.sandbox.forked import in_fork

ROOT = Path(__file__).parents[2]

PROGRAM = """
import ctypes, json, os, resource, sys
sys.path.insert(0, sys.argv[1])
from eventfn.sandbox import contain, landlock, policy, syscalls
tier, begun = sys.argv[2], sys.argv[3] == "begun"
channel, log_pipe, stray = (int(number) for number in sys.argv[4:7])
if begun:
    assert contain.begin(tier, landlock.Access((), ()), tcp=False, version=landlock.abi()) is None
prctl = ctypes.CDLL(None).prctl
contain.contain(policy.Policy(
    tier=tier, filter=syscalls.compile_program(inet=False, unix=False, namespaces=False), supervisor=os.getppid(),
    channel=channel, log_pipe=log_pipe, mounts=(), readable=("/usr", "/proc/self"), writable=("/dev/null",),
    landlock=landlock.abi(), tcp=False, tmp_mb=512, memory_mb=128, name="a-function-with-a-long-name",
))
def attempt(work, *arguments):
    try:
        work(*arguments)
    except OSError as error:
        return error.strerror
    return "done"
death = ctypes.c_int()
prctl(2, ctypes.byref(death))
os.write(3, json.dumps({
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd") if name != "4"),
    "same log": os.fstat(1).st_ino == os.fstat(2).st_ino,
    "null": os.readlink("/proc/self/fd/0"),
    "inheritable": os.get_inheritable(3),
    "dies with signal": death.value,
    "no new privileges": prctl(39, 0, 0, 0, 0),
    "dumpable": prctl(3, 0, 0, 0, 0),
    "filtered": prctl(21, 0, 0, 0, 0),
    "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")],
    "a file that is named": attempt(os.listdir, "/usr"),
    "a file that is not": attempt(open, "/etc/passwd"),
    "another root, the same": attempt(os.chroot, "/"),  # harmless where it is done
    "name": open("/proc/self/comm").read(),
    "limits": {name: resource.getrlimit(getattr(resource, name)) for name in
               ("RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_MEMLOCK", "RLIMIT_DATA")},
}).encode())
"""


def policy(tier: Tier = "none") -> Policy:
    """For steps that are tried alone."""
    return Policy(
        tier=tier,
        filter=b"",
        supervisor=1,
        channel=7,
        log_pipe=8,
        mounts=(),
        readable=(),
        writable=(),
        landlock=0,
        tcp=False,
        tmp_mb=512,
        memory_mb=128,
        name="fn",
    )


def contained(tier: Tier, begun: str) -> dict[str, Any]:
    """What a contained process sees. "begun": a part of its walls stood before it had a function."""
    read, channel = os.pipe()
    log_read, log_pipe = os.pipe()
    stray = os.open("/etc/passwd", os.O_RDONLY)
    try:
        arguments = [sys.executable, "-c", PROGRAM, str(ROOT), tier, begun, *map(str, (channel, log_pipe, stray))]
        # The channel of a real environment can be read and written: here one end does.
        done = subprocess.run(arguments, pass_fds=[channel, log_pipe, stray], stderr=subprocess.PIPE, check=False)
        os.close(channel)
        channel = -1
        with open(read, "rb", closefd=False) as report:
            text = report.read()
        assert done.returncode == 0, done.stderr
        seen: dict[str, Any] = msgspec.json.decode(text)
        return seen
    finally:
        for descriptor in (read, channel, log_read, log_pipe, stray):
            if descriptor >= 0:
                os.close(descriptor)


# What "full" has besides is a tree of its own, which takes the namespaces of a real environment: tests/workers.
@pytest.fixture(scope="module", params=["none", "landlock"])
def tier(request: pytest.FixtureRequest) -> Tier:
    if request.param == "landlock" and landlock.abi() == 0:
        pytest.skip("this kernel has no Landlock")
    found: Tier = request.param
    return found


@pytest.fixture(scope="module", params=["begun", "at once"])
def seen(tier: Tier, request: pytest.FixtureRequest) -> dict[str, Any]:
    return contained(tier, request.param)


def test_no_open_file_is_left_but_its_own(seen: dict[str, Any]) -> None:
    assert seen["descriptors"] == [0, 1, 2, 3]
    assert seen["same log"]
    assert seen["null"] == "/dev/null"
    assert not seen["inheritable"]


def test_it_dies_with_its_parent(seen: dict[str, Any]) -> None:
    assert seen["dies with signal"] == 9


def test_it_gets_no_privileges_and_hides_its_memory(seen: dict[str, Any]) -> None:
    assert seen["no new privileges"] == 1
    assert seen["dumpable"] == 0


def test_files_capabilities_and_system_calls_are_shut_in_every_tier_but_none(tier: Tier, seen: dict[str, Any]) -> None:
    assert seen["a file that is named"] == "done"
    shut = tier != "none"
    assert seen["a file that is not"] == ("Permission denied" if shut else "done")
    assert seen["filtered"] == (2 if shut else 0)
    if shut:
        root = os.geteuid() == 0
        assert {int(sets, 16) for sets in seen["capabilities"][: None if root else 3]} == {0}
        assert seen["another root, the same"] == "Operation not permitted"


def test_ps_shows_whose_it_is(seen: dict[str, Any]) -> None:
    assert seen["name"] == "fn:a-function-w\n"


def test_its_limits_are_set_for_good(seen: dict[str, Any]) -> None:
    memory = (128 + 128) * 1_048_576
    assert seen["limits"]["RLIMIT_NOFILE"] == [1024, 1024]
    assert seen["limits"]["RLIMIT_CORE"] == [0, 0]
    assert seen["limits"]["RLIMIT_DATA"] == [memory, memory]
    assert max(seen["limits"]["RLIMIT_MEMLOCK"]) <= 65_536


def test_a_wall_that_does_not_stand_names_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(kind: int, value: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refused)
    monkeypatch.setattr(descriptors, "keep_only", lambda **_: None)
    monkeypatch.setattr(privileges, "die_with", lambda parent: None)
    monkeypatch.setattr(privileges, "set_name", lambda name: None)
    with pytest.raises(contain.NotContained) as error:
        contain.contain(policy())
    assert "setrlimit(RLIMIT_NOFILE, 1024): not allowed" in str(error.value)
    assert error.value.channel == descriptors.CHANNEL


def test_descriptors_that_do_not_exist_are_named() -> None:
    program = "import sys; sys.path.insert(0, sys.argv[1]); from eventfn.sandbox import descriptors; "
    program += "descriptors.keep_only(channel=77, log_pipe=78)"
    done = subprocess.run([sys.executable, "-c", program, str(ROOT)], capture_output=True, text=True, check=False)
    assert "dup2(channel=77, log_pipe=78): Bad file descriptor" in done.stderr


def test_limits_never_raise_what_is_lower() -> None:
    def work() -> tuple[int, int]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
        limits.set_limits(policy())
        return resource.getrlimit(resource.RLIMIT_NOFILE)

    assert in_fork(work) == [200, 200]


def test_the_number_of_processes_is_limited_only_where_nobody_elses_count() -> None:
    def limit_in(tier: Tier) -> int:
        def work() -> int:
            limits.set_limits(policy(tier))
            return resource.getrlimit(resource.RLIMIT_NPROC)[1]

        found: int = in_fork(work)
        return found

    before = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    assert limit_in("landlock") == limit_in("none") == before
    assert limit_in("full") == (1024 if before == resource.RLIM_INFINITY else min(before, 1024))

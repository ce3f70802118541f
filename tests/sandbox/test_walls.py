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

from eventfn.sandbox import contain, descriptors, privileges, probe
from eventfn.sandbox.policy import Policy

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from eventfn.sandbox import contain, policy
channel, log_pipe, stray = (int(number) for number in sys.argv[2:5])
contain.contain(policy.Policy(os.getppid(), channel, log_pipe, 128, "a-function-with-a-long-name"))
import ctypes, resource
prctl = ctypes.CDLL(None).prctl
death = ctypes.c_int()
prctl(2, ctypes.byref(death))
os.write(3, json.dumps({
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd") if name != "4"),
    "same log": os.fstat(1).st_ino == os.fstat(2).st_ino,
    "null": os.readlink("/proc/self/fd/0"),
    "inheritable": os.get_inheritable(3),
    "session": os.getsid(0) == os.getpgid(0) == os.getpid(),
    "dies with signal": death.value,
    "no new privileges": prctl(39, 0, 0, 0, 0),
    "dumpable": prctl(3, 0, 0, 0, 0),
    "name": open("/proc/self/comm").read(),
    "limits": {name: resource.getrlimit(getattr(resource, name)) for name in
               ("RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_MEMLOCK", "RLIMIT_DATA")},
}).encode())
"""


def contained() -> dict[str, Any]:
    """What a contained process sees."""
    read, channel = os.pipe()
    log_read, log_pipe = os.pipe()
    stray = os.open("/etc/passwd", os.O_RDONLY)
    try:
        arguments = [sys.executable, "-c", PROGRAM, str(ROOT), str(channel), str(log_pipe), str(stray)]
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


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    return contained()


def test_no_open_file_is_left_but_its_own(seen: dict[str, Any]) -> None:
    assert seen["descriptors"] == [0, 1, 2, 3]
    assert seen["same log"]
    assert seen["null"] == "/dev/null"
    assert not seen["inheritable"]


def test_it_is_a_session_of_its_own_that_dies_with_its_parent(seen: dict[str, Any]) -> None:
    assert seen["session"]
    assert seen["dies with signal"] == 9


def test_it_gets_no_privileges_and_hides_its_memory(seen: dict[str, Any]) -> None:
    assert seen["no new privileges"] == 1
    assert seen["dumpable"] == 0


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
    monkeypatch.setattr(os, "setsid", lambda: None)
    monkeypatch.setattr(privileges, "die_with", lambda parent: None)
    monkeypatch.setattr(privileges, "set_name", lambda name: None)
    with pytest.raises(contain.NotContained) as error:
        contain.contain(Policy(1, 7, 8, 128, "fn"))
    assert "setrlimit(RLIMIT_NOFILE, 1024): not allowed" in str(error.value)
    assert error.value.channel == descriptors.CHANNEL


def test_descriptors_that_do_not_exist_are_named() -> None:
    program = "import sys; sys.path.insert(0, sys.argv[1]); from eventfn.sandbox import descriptors; "
    program += "descriptors.keep_only(channel=77, log_pipe=78)"
    done = subprocess.run([sys.executable, "-c", program, str(ROOT)], capture_output=True, text=True, check=False)
    assert "dup2(channel=77, log_pipe=78): Bad file descriptor" in done.stderr


def test_limits_never_raise_what_is_lower() -> None:
    program = (
        "import sys, resource; sys.path.insert(0, sys.argv[1]); from eventfn.sandbox import limits, policy; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)); "
        "limits.set_limits(policy.Policy(1, 2, 3, 128, 'fn')); print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(ROOT)], capture_output=True, text=True, check=True)
    assert done.stdout == "(200, 200)\n"


def test_the_probe_hides_nothing() -> None:
    walls = {wall.name: wall for wall in probe.probe()}
    for name in ("mount namespace", "network namespace", "pid namespace", "Landlock", "seccomp", "cgroups"):
        assert not walls[name].enforced
    for name in ("descriptors", "privileges", "limits", "environment", "processes"):
        assert walls[name].enforced
    assert walls["memory access"].enforced == (os.geteuid() != 0)
    assert all(wall.meaning for wall in walls.values())

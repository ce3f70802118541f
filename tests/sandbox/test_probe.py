"""The trial against this machine, whole and with something taken away; and what is made of what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from eventfn.sandbox import probe
from eventfn.sandbox.probe import Probe, Sandbox, TooWeak, judge
from eventfn.sandbox.walls import Tier

ROOT = Path(__file__).parents[2]
ALL = "landlock 7\nconfine \nnamespaces \nproc pid\n"


# --- the trial -------------------------------------------------------------------------------------------------------

TRIAL = """
import ctypes, os, struct, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from eventfn.sandbox import bpf, landlock, mounts, namespaces, network, privileges, syscalls, trial
from eventfn.sandbox.syscall_numbers import numbers

libc = ctypes.CDLL(None, use_errno=True)

def refuse(error, name, *first_argument):
    "As a container's filter, or a kernel without the call."
    condition = [(bpf.LOAD, 0, 0, 16), (bpf.JUMP_EQUAL, 0, 1, *first_argument)] if first_argument else []
    code = [
        (bpf.LOAD, 0, 0, bpf.NUMBER),
        (bpf.JUMP_EQUAL, 0, 1 + len(condition), numbers(os.uname().machine)[name]),
        *condition,
        (bpf.RETURN, 0, 0, bpf.fail_with(error)),
        (bpf.RETURN, 0, 0, bpf.ALLOW),
    ]
    privileges.no_new_privileges()
    syscalls.install(b"".join(struct.pack("=HBBI", *one) for one in code))

def become_nobody():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    mounts.interpreter_prefixes = lambda: []  # it may live in a folder that is root's alone
    libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: it is to write its own uid_map, as a process that was started so

exec(sys.argv[2])
trial.main()
"""


def tried(first: str = "") -> dict[str, str]:
    """What the trial says after `first`."""
    arguments = [sys.executable, "-c", TRIAL, str(ROOT), dedent(first)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return {name: value for name, _, value in (line.partition(" ") for line in done.stdout.splitlines())}


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    """This machine, with nothing taken away."""
    return tried()


def test_this_machine_is_told_as_it_is(here: dict[str, str]) -> None:
    assert set(here) == {"landlock", "confine", "namespaces", "proc"}
    listed = Path("/sys/kernel/security/lsm")
    if listed.exists():
        assert (int(here["landlock"]) > 0) == ("landlock" in listed.read_text().split(","))
    limit = Path("/proc/sys/user/max_user_namespaces")
    if limit.exists() and limit.read_text() == "0\n":
        assert here["namespaces"]


def needs_namespaces(here: dict[str, str]) -> None:
    if here["namespaces"]:
        pytest.skip(f"this machine gives no namespaces to take something from: {here['namespaces']}")


def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can take this from itself")


def test_an_ordinary_user_gets_the_same_namespaces(here: dict[str, str]) -> None:
    needs_root()
    needs_namespaces(here)
    assert tried("become_nobody()") == here


def test_no_more_user_namespaces(here: dict[str, str]) -> None:
    needs_namespaces(here)
    found = tried(
        """
        uid, gid = os.geteuid(), os.getegid()
        namespaces.unshare(namespaces.NEW_USER)
        namespaces.map_ids(os.getpid(), 1000, 1000, uid, gid)
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        """
    )
    assert found["namespaces"] == "28 unshare(0x10020000): No space left on device"
    assert (found["landlock"], found["confine"], found["proc"]) == (here["landlock"], here["confine"], "none")


@pytest.mark.parametrize(
    ("call", "error", "expected"),
    [
        ("unshare", 1, "1 unshare(0x"),  # Docker's profile
        ("mount", 13, "13 mount('none', '/', None, "),  # Docker's AppArmor profile
        ("pivot_root", 1, "1 pivot_root('.', '.'): Operation not permitted"),
        ("open_tree", 38, "38 open_tree("),
        ("mount_setattr", 38, "38 mount_setattr("),
        ("move_mount", 1, "1 move_mount("),
        ("umount2", 1, "1 umount2('.', MNT_DETACH): Operation not permitted"),
        ("sethostname", 1, "1 sethostname('trial'): Operation not permitted"),
        ("ioctl", 1, "1 ioctl(SIOCSIFFLAGS, 'lo', IFF_UP): Operation not permitted"),
    ],
)
def test_a_call_that_is_refused_is_named(here: dict[str, str], call: str, error: int, expected: str) -> None:
    needs_namespaces(here)
    assert tried(f"refuse({error}, {call!r})")["namespaces"].startswith(expected)


def test_a_kernel_without_landlock() -> None:
    assert tried("refuse(38, 'landlock_create_ruleset')")["landlock"] == "0"


def test_a_kernel_without_seccomp_filters() -> None:
    # PR_SET_SECCOMP, which no second filter can be put up with after this one.
    assert "seccomp" in tried("refuse(22, 'prctl', 22)")["confine"].lower()


def test_a_proc_with_something_hidden_gives_no_new_one(here: dict[str, str]) -> None:
    needs_root()
    needs_namespaces(here)
    found = tried(
        """
        namespaces.unshare(namespaces.NEW_MOUNTS)
        mounts.take_apart_from_machine()
        mounts._mount("/dev/null", "/proc/version", None, mounts._MS_BIND)  # as container engines cover files
        become_nobody()
        """
    )
    assert (found["namespaces"], found["proc"]) == ("", "none")


def test_a_child_that_is_killed_is_a_failure() -> None:
    found = tried("landlock.enforce = lambda rules: os.kill(os.getpid(), 9)")
    assert found["confine"] == "0 the trial ended with status 9"


def test_a_bug_in_a_child_is_a_failure() -> None:
    assert tried("landlock.enforce = None")["confine"].startswith("0 TypeError")


# --- the probe -------------------------------------------------------------------------------------------------------


def test_the_probe_finds_what_the_trial_says(here: dict[str, str]) -> None:
    probing = Probe()
    found = probing.sandbox()
    probing.close()
    expected = judge("".join(f"{name} {value}\n" for name, value in here.items()), found.cgroups, found.no_cgroups)
    assert found == expected
    assert (found.cgroups is None) == bool(found.no_cgroups)


def test_a_probe_that_nobody_asks_ends() -> None:
    Probe().close()


def test_a_trial_that_breaks_is_no_sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probe, "_PROGRAM", tmp_path / "trial.py")
    (tmp_path / "trial.py").write_text("print('landlock 7')\nraise RuntimeError('what now')\n")
    probing = Probe()
    found = probing.sandbox()
    probing.close()
    assert found.tier == "none"
    assert "failed: RuntimeError: what now" in found.reason


def sandbox(said: str, proc: Path = Path("/nothing")) -> Sandbox:
    return judge(said, None, "no cgroups", proc)


@pytest.mark.parametrize(
    ("said", "tier", "abi", "proc"),
    [
        (ALL, "full", 7, "pid"),
        (ALL.replace("pid", "none"), "full", 7, "none"),
        (ALL.replace("namespaces ", "namespaces 1 unshare(X): no").replace("pid", "none"), "landlock", 7, "none"),
        (ALL.replace("landlock 7", "landlock 0"), "none", 0, "pid"),
        (ALL.replace("confine ", "confine 22 prctl(PR_SET_SECCOMP): Invalid argument"), "none", 7, "pid"),
    ],
)
def test_the_tier(said: str, tier: Tier, abi: int, proc: str) -> None:
    found = sandbox(said)
    assert (found.tier, found.landlock_abi, found.proc) == (tier, abi, proc)
    assert bool(found.reason) == (tier != "full")


NO_LANDLOCK = ALL.replace("landlock 7", "landlock 0")
CLOSED = ALL.replace("namespaces ", "namespaces 13 open_tree('/home/ada'): Permission denied")
DENIED = ALL.replace("namespaces ", "namespaces 1 unshare(CLONE_NEWUSER): Operation not permitted")


@pytest.mark.parametrize(
    ("said", "files", "advice"),
    [
        (DENIED, {"self/status": "Name:\tx\nSeccomp:\t2\nCpus:\t1\n"}, "--security-opt seccomp=unconfined"),
        (DENIED, {"self/attr/current": "docker-default (enforce)\n"}, "AppArmor profile docker-default (enforce)"),
        (DENIED, {"sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}, "sysctl kernel.apparmor_restrict"),
        (DENIED, {"sys/kernel/unprivileged_userns_clone": "0\n"}, "sysctl kernel.unprivileged_userns_clone=1"),
        (DENIED, {"self/status": "Seccomp:\t0\n", "self/attr/current": "unconfined\n"}, "a container, a chroot or"),
        (CLOSED, {}, "must be allowed to open this folder"),
        (DENIED.replace("namespaces 1", "namespaces 28"), {}, "raise the sysctls user.max_*_namespaces"),
        (DENIED.replace("namespaces 1", "namespaces 22"), {}, "built without it"),
        (NO_LANDLOCK, {}, "/sys/kernel/security/lsm"),
        (NO_LANDLOCK, {"self/status": "Name:\tx\nSeccomp:\t2\nCpus:\t1\n"}, "Docker: --security-opt"),
    ],
)
def test_a_reason_says_what_the_operator_can_do(
    said: str, files: dict[str, str], advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    reason = sandbox(said, tmp_path).reason
    assert advice in reason
    failed = said.splitlines()[2].removeprefix("namespaces ").partition(" ")[2]
    assert failed in reason, "the call with its arguments"


def test_root_is_not_told_to_become_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/apparmor_restrict_unprivileged_userns").write_text("1\n")
    assert "as root" not in sandbox(DENIED, tmp_path).reason


def test_less_than_is_asked_for_is_refused_with_a_way_out() -> None:
    found = sandbox(ALL.replace("landlock 7", "landlock 0"))
    found.require("none")
    with pytest.raises(TooWeak) as refused:
        found.require("landlock")
    assert '"landlock" asks for more than this machine gives, which is "none": this kernel has no Landlock' in str(
        refused.value
    )
    assert str(refused.value).endswith('write sandbox = "none" under [workers] in eventfn.toml')
    with pytest.raises(TooWeak, match='write sandbox = "landlock"'):
        sandbox(DENIED).require("full")
    sandbox(DENIED).require("landlock")
    sandbox(ALL).require("full")


def test_a_tier_can_be_lowered_and_not_raised() -> None:
    lowered = sandbox(ALL).lowered("landlock")
    assert (lowered.tier, lowered.landlock_abi) == ("landlock", 7)
    assert lowered.reason
    with pytest.raises(AssertionError, match="full is more than landlock"):
        lowered.lowered("full")

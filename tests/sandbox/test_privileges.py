"""Capabilities, dropped in forks that then look and try: as root, as nobody, and in a user namespace of their own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from eventfn.sandbox import privileges
from tests.sandbox.forked import errno_of, in_fork, libc

CLONE_NEWUSER = 0x10000000
NOBODY = 65534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to drop")


def sets() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line[:6]: line.split()[1].strip("0") for line in lines if line.startswith("Cap")}


NONE = dict.fromkeys(["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"], "")


@only_root
def test_root_keeps_none_and_gets_none_back() -> None:
    def work() -> list[object]:
        privileges.no_new_privileges()
        privileges.drop_capabilities()
        seen = sets()
        refused = [errno_of(os.chroot, "/"), errno_of(os.setuid, NOBODY), errno_of(os.setgroups, [])]
        after_exec = subprocess.check_output(["grep", "Cap", "/proc/self/status"], text=True).split()[1::2]
        securebits: int = libc.prctl(27, 0, 0, 0, 0)  # PR_GET_SECUREBITS
        return [seen, refused, sorted(set(after_exec)), securebits]

    assert in_fork(work) == [NONE, [1, 1, 1], ["0" * 16], 0b1110_1111]


@only_root
def test_the_first_half_leaves_what_set_up_takes_and_no_way_to_more() -> None:
    def work() -> list[object]:
        before = int(sets()["CapEff"], 16)
        privileges.narrow_capabilities()
        seen = sets()
        given_up = before & ~int(seen["CapEff"], 16)
        del seen["CapEff"], seen["CapPrm"]
        privileges.drop_capabilities()
        securebits: int = libc.prctl(27, 0, 0, 0, 0)  # PR_GET_SECUREBITS
        return [given_up, set(seen.values()) == {""}, sets(), securebits]

    assert in_fork(work) == [1 << 8, True, NONE, 0b1110_1111], "CAP_SETPCAP, then all"


@pytest.mark.parametrize("user", [pytest.param(NOBODY, marks=only_root), None])
def test_an_ordinary_user_has_none_and_it_is_no_error(user: int | None) -> None:
    def work() -> dict[str, str]:
        if user is not None:
            os.setresuid(user, user, user)
        privileges.drop_capabilities()
        return sets()

    seen = in_fork(work)
    del seen["CapBnd"]  # a limit to what it does not have
    assert {name for name, value in seen.items() if value} == set()


def test_a_user_namespace_of_ones_own_leaves_none() -> None:
    def work() -> list[object] | None:
        if libc.unshare(CLONE_NEWUSER) != 0:
            return None
        before = sets()["CapEff"]
        privileges.drop_capabilities()
        return [before != "", sets()]

    seen = in_fork(work)
    if seen is None:
        pytest.skip("this machine gives no user namespaces")
    assert seen == [True, NONE]

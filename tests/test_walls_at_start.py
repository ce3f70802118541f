"""A node does not start with less around its functions than its operator asks for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import PATIENCE, write_project

# No more user namespaces may be made in this one, as where a sysctl or a container forbids them.
WITHOUT_NAMESPACES = """
import ctypes, os, sys
from pathlib import Path
uid, gid = os.geteuid(), os.getegid()
if ctypes.CDLL(None).unshare(0x10000000) != 0:
    sys.exit("no user namespace to begin with")
for file, text in (("setgroups", "deny"), ("uid_map", f"1000 {uid} 1"), ("gid_map", f"1000 {gid} 1")):
    Path("/proc/self", file).write_text(text)
Path("/proc/sys/user/max_user_namespaces").write_text("0")
os.execv(sys.executable, [sys.executable, "-m", "eventfn", "run", *sys.argv[1:]])
"""


def test_too_little_is_refused_with_the_call_and_the_way_out(tmp_path: Path) -> None:
    declaration = """
        [workers]
        sandbox = "full"

        [functions.work]
        handler = "work.handler"
    """
    folder = write_project(tmp_path / "project", declaration, work="def handler(event, context): ...\n")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NAMESPACES, str(folder), "--data", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=os.environ | {"COLUMNS": "1000"},
    )
    if "no user namespace to begin with" in done.stderr:
        pytest.skip("this machine gives no user namespaces, so none can be taken away")
    assert done.returncode == 1
    for part in (
        f'{folder}/eventfn.toml: workers.sandbox: "full" asks for more than this machine gives',
        "unshare(0x10020000): No space left on device",
        'write sandbox = "landlock" under [workers]',
    ):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert "ready" not in done.stdout

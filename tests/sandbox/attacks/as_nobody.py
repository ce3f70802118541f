"""Run as root: becomes an ordinary user and then another program, which finds its files where they are.

`python as_nobody.py FOLDERS PROGRAM ARGUMENT ...`: FOLDERS is a JSON list of what that program is made of. A folder on
the way to one of them that only root may pass, such as a home, is covered by one in which the rest is to be seen and
nothing else; in a mount namespace of its own, so nobody else notices.
"""

from __future__ import annotations

import json
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

from eventfn.sandbox import mounts, namespaces


def first_closed(folder: Path) -> Path | None:
    """The first folder on the way that others may not pass."""
    for ancestor in (*reversed(folder.parents), folder):
        if not ancestor.stat().st_mode & stat.S_IXOTH:
            return ancestor
    return None


def main() -> None:
    folders = [Path(os.path.realpath(folder)) for folder in json.loads(sys.argv[1])]
    covered: dict[Path, list[Path]] = {}
    for folder in sorted(set(folders)):
        closed = first_closed(folder)
        known = covered.setdefault(closed, []) if closed is not None else []
        if not any(folder.is_relative_to(other) for other in known):  # seen with that one
            known.append(folder)
    if covered:
        namespaces.unshare(namespaces.NEW_MOUNTS)
        mounts.take_apart_from_machine()
    for closed, wanted in covered.items():
        trees = [(mounts.detached(str(folder), read_only=True), folder) for folder in wanted]
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(closed)], check=True)
        for descriptor, folder in trees:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            mounts.attach(descriptor, str(folder))
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
    os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()

"""What this machine lets a process do, found by doing it: run as `python -I -S trial.py` by probe.py.

A program of its own and no fork of the supervisor, which has threads and must not change: this one is small, has one
thread, and all that it builds goes with it. It prints lines of a name and a value. What was tried has no value when it
went well, and otherwise the errno and the call with its arguments.

    landlock    the version of the kernel's Landlock; 0 without
    confine     no_new_privs, Landlock and seccomp, as around an environment
    namespaces  what a zygote and an environment of it go through: two user namespaces, a tree of files, a network
    proc        whether a /proc can be mounted in them: pid (with subset=pid) or none
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path


def main() -> None:
    # A root without eventfn/__init__.py behind it: that one imports what is not for this side.
    root = types.ModuleType("eventfn")
    root.__path__ = [str(Path(__file__).resolve().parents[1])]
    sys.modules["eventfn"] = root
    from eventfn.sandbox import landlock, mounts, namespaces, network, privileges, syscalls

    def confine() -> None:
        rules = landlock.rules(landlock.Access(("/",), ()), tcp=False, version=version)
        program = syscalls.compile_program(inet=False, unix=True, namespaces=True)
        privileges.no_new_privileges()
        landlock.enforce(rules)
        syscalls.install(program)

    def zygote(proc: str) -> None:
        is_root = os.geteuid() == 0
        if is_root:
            namespaces.unshare(namespaces.NEW_MOUNTS)
        else:
            namespaces.become_root_of_oneself()
        mounts.take_apart_from_machine()
        skeleton = mounts.Skeleton(mounts.interpreter_prefixes(), str(Path(__file__).parent))
        if is_root:
            namespaces.leave_root_behind()
        privileges.allow_looking_into()  # or the map of the next one could not be written

        def environment() -> None:
            namespaces.become(namespaces.UID, namespaces.GID)
            namespaces.unshare(namespaces.NEW_CGROUP)
            _or_fail(_in_child(first_of_its_pids))

        def first_of_its_pids() -> None:
            namespaces.set_host_name("trial")
            skeleton.enter(proc=proc, machines_network=False)
            network.bring_up_loopback()

        flags = namespaces.OF_AN_ENVIRONMENT | namespaces.NEW_NETWORK
        host_id = 1 if is_root else 0
        _or_fail(
            _in_child(
                environment,
                before=lambda: namespaces.unshare(flags),
                meanwhile=lambda pid: namespaces.map_ids(pid, namespaces.UID, namespaces.GID, host_id, host_id),
            )
        )

    version = landlock.abi()
    print("landlock", version)
    print("confine", _in_child(confine))
    failed, proc = _in_child(lambda: zygote("pid")), "pid"
    if failed:  # the kernel gives no new /proc where a part of the old one is covered, as in most containers
        failed, proc = _in_child(lambda: zygote("none")), "none"
    print("namespaces", failed)
    print("proc", proc)


def _in_child(
    work: Callable[[], None],
    *,
    before: Callable[[], None] = lambda: None,
    meanwhile: Callable[[int], None] = lambda pid: None,
) -> str:
    """What it failed with, or nothing. The parent does `meanwhile` between `before` and `work`."""
    read, write = os.pipe()
    wait, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        try:
            before()
            os.write(write, b"\n")
            os.read(wait, 1)
            work()
            said = "\n"
        except OSError as error:
            said = f"{error.errno} {error.strerror}\n"
        except Exception as error:
            said = f"0 {error!r}\n"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    os.close(wait)
    with os.fdopen(read) as answer:
        failed = answer.readline()
        if failed == "\n":
            meanwhile(pid)
            os.close(go)
            failed = answer.readline()
        else:
            os.close(go)
    _, status = os.waitpid(pid, 0)
    return failed.strip() if failed else f"0 the trial ended with status {status}"


def _or_fail(failed: str) -> None:
    if failed:
        code, _, call = failed.partition(" ")
        raise OSError(int(code), call)


if __name__ == "__main__":
    main()

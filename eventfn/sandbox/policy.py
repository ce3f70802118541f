"""What an environment is allowed, as data. The steps that make it so are in contain.py."""

from __future__ import annotations

from typing import NamedTuple


class Policy(NamedTuple):
    tier: str  # "full", "landlock" or "none": which walls this machine can build
    filter: bytes  # compiled by syscalls.py
    supervisor: int  # pid of the parent that it must not outlive
    channel: int  # descriptor of the channel to the supervisor
    log_pipe: int  # descriptor that becomes stdout and stderr
    mounts: tuple[tuple[int, str], ...]  # detached mounts, and their places
    readable: tuple[str, ...]  # folders and files that the second line, Landlock, lets through
    writable: tuple[str, ...]
    landlock: int  # its version in this kernel
    tcp: bool  # whether the second line lets TCP through; where there is a network namespace, that is the first
    tmp_mb: int  # the function's ephemeral_storage
    memory_mb: int  # the function's memory_size
    name: str  # the function's, for ps and top
    hidden: tuple[str, ...] = ()  # folders within what is readable that are eventfn's own
    rules: int | None = None  # descriptor of Landlock rules that were begun already: what is named here is added
    control: int | None = None  # descriptor of the socket on which it is asked for copies of itself (snap_start)
    gate: int | None = None  # descriptor of what it asks before it begins a request that came ahead
    open_files: int = 1024  # Lambda's ulimit -n
    processes: int = 1024  # and threads
    queued_signals: int = 256
    locked_memory: int = 65_536  # bytes; what an ordinary user has
    # RLIMIT_DATA counts what is reserved, not what is used: the zygote's own heap, and 8 MB of stack for each thread.
    # So the limit stands this much above memory_size; the exact one is a cgroup's to keep.
    memory_head_room_mb: int = 128

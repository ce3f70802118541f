"""Resource limits: what the kernel counts for each process.

RLIMIT_NPROC only in the full tier: elsewhere it counts every process of the user on the whole machine. RLIMIT_AS is
not among them: it counts reserved address space, which many programs take by the gigabyte.
"""

from __future__ import annotations

import resource

from eventfn.sandbox.policy import Policy


def set_limits(policy: Policy) -> None:
    megabytes = policy.memory_mb + policy.memory_head_room_mb
    for name, value in (
        ("RLIMIT_NOFILE", policy.open_files),
        ("RLIMIT_CORE", 0),  # a core file would hold events and secrets
        ("RLIMIT_MEMLOCK", policy.locked_memory),
        ("RLIMIT_SIGPENDING", policy.queued_signals),  # they count for the machine's user, whatever the namespace
        ("RLIMIT_MSGQUEUE", 0),  # kernel memory that outlives the process
        ("RLIMIT_NICE", 0),  # no raising of its own priority
        ("RLIMIT_RTPRIO", 0),
        ("RLIMIT_DATA", megabytes * 1_048_576),
    ):
        lower(name, value)
    if policy.tier == "full":
        lower("RLIMIT_NPROC", policy.processes)


def lower(name: str, value: int) -> None:
    kind: int = getattr(resource, name)
    _, hard = resource.getrlimit(kind)
    wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(kind, (wanted, wanted))
    except (OSError, ValueError) as error:
        raise OSError(getattr(error, "errno", 0), f"setrlimit({name}, {wanted}): {error}") from error

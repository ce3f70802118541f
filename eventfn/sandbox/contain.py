"""The walls around an environment, in the order in which they are put up, each with the reason for its place.

`contain` is called once by an environment that has its settings, before it imports the function's first line. What
stands already by then is the same for all functions: the namespaces and the tree of files (workers/child/blank.py), and
what `begin` has done of the walls here. Fails closed: a step that does not hold is a NotContained that names the call
and its arguments, and no code of the function runs.
"""

from __future__ import annotations

from eventfn.sandbox import descriptors, landlock, limits, mounts, privileges, syscalls
from eventfn.sandbox.policy import Policy


class NotContained(Exception):
    """A wall does not stand, so nothing may run behind it. `channel` is where this can be said."""

    def __init__(self, reason: str, channel: int) -> None:
        self.channel = channel
        super().__init__(reason)


def begin(tier: str, access: landlock.Access, *, tcp: bool, version: int) -> int | None:
    """As much of it as can be done before there is a function, so that nobody waits for it: what it takes for set-up is
    left. Landlock's rules for `access`, which become Policy.rules, where a tree of one's own makes them the same for
    all functions. Raises OSError."""
    privileges.no_new_privileges()
    if tier != "none":
        privileges.narrow_capabilities()
    return landlock.rules(access, tcp=tcp, version=version) if tier == "full" else None


def contain(policy: Policy) -> None:
    channel = policy.channel
    try:
        # Setuid programs give nothing from here on, which the kernel asks for before Landlock and seccomp.
        privileges.no_new_privileges()
        if policy.tier == "full":
            # The mounts come as descriptors, which are closed below, and Landlock forbids mounting.
            mounts.finish(policy.mounts, policy.hidden, tmp_mb=policy.tmp_mb)
        if policy.tier != "none":
            # Opens files, which the filter would let it, and needs no capability. Its rules are a descriptor too.
            landlock.enforce(_rules(policy))
        # From here on the process has the channel, the log pipe and /dev/null, and nothing of the zygote's.
        descriptors.keep_only(
            channel=policy.channel, log_pipe=policy.log_pipe, control=policy.control, gate=policy.gate
        )
        channel = descriptors.CHANNEL
        if policy.tier != "full":
            # Before the function can spin: from here on the supervisor's death, of whatever kind, is this process's.
            # In the full tier it is init's, and the kernel ends the rest.
            privileges.die_with(policy.supervisor)
        privileges.set_name(policy.name)
        # Limits before privileges go: a later step may not be allowed to set them. They only ever get lower.
        limits.set_limits(policy)
        privileges.hide_memory()
        if policy.tier != "none":
            privileges.drop_capabilities()
            # Last: what is above makes calls that no function may make.
            syscalls.install(policy.filter)
    except OSError as error:
        raise NotContained(str(error), channel) from error


def _rules(policy: Policy) -> int:
    if policy.rules is not None:
        access = landlock.Access(policy.readable, policy.writable)
        landlock.add(policy.rules, access, tcp=policy.tcp, version=policy.landlock)
        return policy.rules
    # Where there is a tree of one's own, what is hidden lies under a mount already.
    readable, listed = landlock.without(policy.readable, () if policy.tier == "full" else policy.hidden)
    access = landlock.Access(readable, policy.writable, listed)
    return landlock.rules(access, tcp=policy.tcp, version=policy.landlock)

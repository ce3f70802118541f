"""The walls around an environment, in the order in which they are put up, each with the reason for its place.

Called once by a fresh clone, after it has its settings and before it imports the function's first line. Fails closed:
a step that does not hold is a NotContained that names the call and its arguments, and no code of the function runs.
"""

from __future__ import annotations

import os

from eventfn.sandbox import descriptors, limits, privileges
from eventfn.sandbox.policy import Policy


class NotContained(Exception):
    """A wall does not stand, so nothing may run behind it. `channel` is where this can be said."""

    def __init__(self, reason: str, channel: int) -> None:
        self.channel = channel
        super().__init__(reason)


def contain(policy: Policy) -> None:
    channel = policy.channel
    try:
        # First: from here on the process has the channel, the log pipe and /dev/null, and nothing of the zygote's.
        descriptors.keep_only(channel=policy.channel, log_pipe=policy.log_pipe)
        channel = descriptors.CHANNEL
        # A session of its own: signals to the supervisor's terminal do not reach it, and all of it, children
        # included, is killed as one process group.
        os.setsid()
        # Before the function can spin: from here on the supervisor's death, of whatever kind, is this process's.
        privileges.die_with(policy.supervisor)
        privileges.set_name(policy.name)
        # Limits before privileges go: a later step may not be allowed to set them. They only ever get lower.
        limits.set_limits(policy)
        # Last, when nothing above has to be looked at from outside any more: setuid programs give nothing, and no
        # other process of this user reads or changes this one's memory.
        privileges.no_new_privileges()
        privileges.hide_memory()
    except OSError as error:
        raise NotContained(f"environment not started: {error}", channel) from error

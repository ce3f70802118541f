"""The walls around an environment, in the order in which they are put up, each with the reason for its place.

Called once by a fresh clone, after it has its settings and before it imports the function's first line. Fails closed:
a step that does not hold ends the process with the call and its arguments in the log, before any code of the function
has run.
"""

from __future__ import annotations

import os
import sys

from eventfn.sandbox import descriptors, limits, privileges
from eventfn.sandbox.policy import Policy

NEVER_STARTED = 125  # exit status of an environment that its walls kept from starting


def contain(policy: Policy) -> None:
    try:
        # First, since all later failures are to be read in the function's log. From here on the process has the
        # channel, the log pipe and /dev/null, and nothing of the zygote's.
        descriptors.keep_only(channel=policy.channel, log_pipe=policy.log_pipe)
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
        os.write(2, f"eventfn: environment not started: {error}\n".encode())
        sys.stderr = None  # nothing is printed twice
        os._exit(NEVER_STARTED)

"""Open files: an environment has its channel and its log pipe, and nothing that anybody else had open."""

from __future__ import annotations

import fcntl
import itertools
import os
import resource

CHANNEL = 3
CONTROL = 4  # of an environment that makes copies of itself
GATE = 5  # of one that reads ahead


def keep_only(*, channel: int, log_pipe: int, control: int | None = None, gate: int | None = None) -> None:
    """Descriptor 0 is /dev/null, 1 and 2 are the log pipe, 3 is the channel, 4 the control socket and 5 the gate where
    there is one. There are no others."""
    rare = [(place, each) for place, each in ((CONTROL, control), (GATE, gate)) if each is not None]
    try:
        # Out of the way of what is set below.
        rare = [(place, fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, GATE + 1)) for place, each in rare]
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log_pipe, 1)
        os.dup2(log_pipe, 2)  # the pipe's number may be 3: it is copied before 3 is taken
        os.dup2(channel, CHANNEL)
        os.set_inheritable(CHANNEL, False)  # programs that the function starts do not answer for it
        for place, each in rare:
            os.dup2(each, place, inheritable=False)
    except OSError as error:
        raise OSError(error.errno, f"dup2(channel={channel}, log_pipe={log_pipe}): {error.strerror}") from error
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    kept = [CHANNEL, *(place for place, _ in rare), most if most != resource.RLIM_INFINITY else 2**31 - 1]
    for one, next_one in itertools.pairwise(kept):
        os.closerange(one + 1, next_one)

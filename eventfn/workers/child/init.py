"""The first process of an environment: its init, and the kernel's handle on all the others.

It runs nothing of a function. When it ends, the kernel ends whatever the function has started, so it ends when the
handler does, when the supervisor does, and when it is killed. It stops and continues everything else in between.
"""

from __future__ import annotations

import contextlib
import os
import signal

# Not handled but waited for: no Python code runs between two instructions of the loop below.
SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
FREEZE, THAW, END = signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM
# Seconds. A process that is being forked while all are stopped and continued is now and then left stopped (Linux 6.18),
# and whoever waits for it with it: once in some hundred times under load, where 10 ms later is still too early. The
# last one is for a machine on which a process waits longer than a tenth of a second for its turn.
CONTINUED_AGAIN = (0.001, 0.01, 0.1, 1.0)
_FROM_OUTSIDE = 0  # who sent a signal, when it is nobody of this pid namespace
_SIGNALLED = 128  # and the signal's number: the exit status of a shell for a command that a signal ended


def watch(handler: int) -> None:
    """Until the handler has ended; then this process does, with its exit status. Never returns."""
    again: list[float] = []
    while True:
        received = signal.sigtimedwait(SIGNALS, again[0]) if again else signal.sigwaitinfo(SIGNALS)
        if received is None:
            again.pop(0)
            _tell_all(signal.SIGCONT)
        elif received.si_signo == signal.SIGCHLD:
            _reap(handler)
        elif received.si_pid != _FROM_OUTSIDE:
            continue  # from the function, which has no say in this
        elif received.si_signo == FREEZE:
            again.clear()
            _tell_all(signal.SIGSTOP)
        elif received.si_signo == THAW:
            _tell_all(signal.SIGCONT)
            again[:] = CONTINUED_AGAIN
        else:
            os.kill(handler, signal.SIGTERM)


def _tell_all(number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, number)  # everybody in this pid namespace but this process


def _reap(handler: int) -> None:
    """All that have ended: the handler, and what it left behind."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            os._exit(0)
        if pid == 0:
            return
        if pid == handler:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else _SIGNALLED - code)

"""A blank environment: a sandbox that stands and belongs to no function yet.

What takes time and is the same for all of them happens here, before anybody waits for it. What is a function's own
comes with the first frame (environment.py).
"""

from __future__ import annotations

import os
import signal
import socket
from typing import NoReturn

from eventfn.sandbox import contain, landlock, mounts, namespaces, network, privileges, syscalls
from eventfn.workers.child import clone, environment, frames, init, rehearsal
from eventfn.workers.child.ground import Ground


def main(channel: int, ground: Ground, *, machines_network: bool) -> None:
    """Never returns to the zygote's code."""
    if not frames.pass_gate(channel):
        os._exit(0)
    # A session of its own: all of it, children included, is stopped and killed as one process group.
    os.setsid()
    if ground.skeleton is not None:
        _start_handler(channel, ground, ground.skeleton, machines_network=machines_network)
    # `random` has reseeded itself behind the fork. OpenSSL has not drawn a number yet in the zygote, so it seeds itself
    # here when it does; to make it do so now would cost each environment half a megabyte.
    tcp = ground.tier == "full" or machines_network
    try:
        access = landlock.Access(ground.readable, ground.writable)
        rules = contain.begin(ground.tier, access, tcp=tcp, version=ground.landlock)
    except OSError as error:
        environment.never_started(channel, str(error))
    rehearsal.rehearse(ground.tier)
    frames.write(channel, frames.join(frames.STANDS))
    environment.main(channel, ground, rules, machines_network=machines_network)


def _start_handler(channel: int, ground: Ground, skeleton: mounts.Skeleton, *, machines_network: bool) -> None:
    """Builds the sandbox and becomes its init. Returns in the handler only.

    What a process does in Python costs it memory of its own, and both of them stay. So somebody else puts up what all
    processes of a namespace share, and goes.
    """
    try:
        namespaces.become(namespaces.UID, namespaces.GID)
        # After the change of user, which would clear it; and before the look at the channel, so that the supervisor's
        # death is seen by either.
        privileges.die_with_parent()
        _leave_if_alone(channel)
        namespaces.unshare(namespaces.NEW_CGROUP)  # after the gate: what is above its own group is hidden
        builder = clone.fork_for_a_moment()
        if builder == 0:
            _build(channel, skeleton, ground.proc, machines_network=machines_network)
        if os.waitpid(builder, 0)[1] != 0:
            os._exit(1)  # it has said why
        signal.pthread_sigmask(signal.SIG_BLOCK, init.SIGNALS)
        handler = os.fork()
        if handler == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, init.SIGNALS)
            os.setsid()
            return
        os.closerange(0, channel + 64)  # the channel's end must be the handler's
        privileges.set_name("init")
        privileges.hide_memory()
        privileges.no_new_privileges()
        privileges.drop_capabilities()
        syscalls.install(ground.alone)
    except OSError as error:
        environment.never_started(channel, str(error))
    init.watch(handler)


def _build(channel: int, skeleton: mounts.Skeleton, proc: str, *, machines_network: bool) -> NoReturn:
    """The tree of files, which becomes everybody's in this mount namespace, and the network."""
    try:
        namespaces.set_host_name("eventfn")
        skeleton.enter(proc=proc, machines_network=machines_network)
        if not machines_network:
            network.bring_up_loopback()
    except OSError as error:
        environment.never_started(channel, str(error))
    os._exit(0)


def _leave_if_alone(channel: int) -> None:
    with socket.socket(fileno=os.dup(channel)) as peeked:
        try:
            if not peeked.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                os._exit(0)
        except BlockingIOError:
            pass

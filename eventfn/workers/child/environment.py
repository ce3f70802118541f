"""An environment from its first frame on: settings, the function's own walls, import, then request after request."""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import time
from typing import Any, NoReturn

from eventfn.sandbox import contain, descriptors, mounts, network, policy
from eventfn.workers.child import compiled, frames, keeper, loading, logs, program, readiness, serving, snapshot
from eventfn.workers.child.ground import Ground


def main(channel: int, ground: Ground, rules: int | None, *, machines_network: bool) -> None:
    """`rules`: what contain.begin made. It ends by os._exit, or by what the function raises to leave."""
    first = frames.read_first(channel)
    if first is None:
        os._exit(0)
    header, payload, (log_pipe, *trees), rest = first
    settings: dict[str, Any] = json.loads(payload)
    own: dict[str, Any] = json.loads(header)
    settings["variables"].update(own["variables"])
    gate = trees.pop(0) if settings["gate"] else None
    if settings["network"] is not None or settings["api"] is not None:
        try:
            _open_doors(settings, trees.pop(0))
        except OSError as error:
            never_started(channel, str(error))
    control = trees.pop(0) if settings["snapshot"] or settings["extensions"] else None
    walls = policy.Policy(
        tier=ground.tier,
        filter=ground.on_machines_network if machines_network else ground.alone,
        supervisor=settings["supervisor"],
        channel=channel,
        log_pipe=log_pipe,
        control=control,
        gate=gate,
        mounts=tuple(zip(trees, settings["mounts"], strict=True)),
        # In a tree of its own all that it is given lies below what is readable already.
        readable=(*ground.readable, *settings["readable"]) if rules is None else (),
        writable=(*ground.writable, *settings["writable"]) if rules is None else tuple(settings["writable"]),
        rules=rules,
        hidden=tuple(settings["hidden"]),
        landlock=ground.landlock,
        tcp=ground.tier == "full" or machines_network,
        tmp_mb=settings["tmp_mb"],
        memory_mb=settings["memory_mb"],
        name=settings["function"],
        memory_head_room_mb=settings["head_room_mb"],
    )
    try:
        contain.contain(walls)
    except contain.NotContained as error:
        never_started(error.channel, str(error))
    if settings["extensions"]:
        keeper.keep(settings, ground.tier)
    if settings["program"] is not None:
        program.become(settings)
    gc.enable()
    logs.keep_pipe()
    try:
        enter(settings)
    except OSError as error:
        never_started(frames.CHANNEL, f"chdir({settings['task_root']!r}): {error.strerror}")
    logs.use_format()
    try:
        handler = loading.load(settings["handler"])
        serve = serving.choose(handler, settings)
        if settings["snapshot"]:
            snapshot.run_hooks_before()
    except Exception as error:
        readiness.fail(error)
    if settings["snapshot"]:
        snapshot.settle()
    request = readiness.say_ready(own["first_until"], rest, ahead=serve.ahead)
    if settings["snapshot"]:
        own = snapshot.serve(socket.socket(fileno=descriptors.CONTROL))
        logs.keep_pipe()
        os.environ.update(own["variables"])
        try:
            snapshot.run_hooks_after()
        except Exception as error:
            readiness.fail(error)
        request = readiness.say_ready(own["first_until"], bytearray())
    serve.loop(request)
    logs.flush()
    os._exit(0)


def _open_doors(settings: dict[str, Any], supervisor: int) -> None:
    """Sockets that listen here, where everything is still allowed, and that the supervisor answers: of the Runtime API,
    and of the allow-list."""
    plan = settings["network"]
    doors: list[tuple[str, int]] = []
    if settings["api"] is not None:
        host, port = settings["api"]
        doors.append((host, port))
    if plan is not None:
        network.add_addresses(plan["addresses"])
        doors += [(address, port) for address, port in plan["listen"]]
    listeners = network.listen(doors)
    if settings["api"] is not None:
        host, port = listeners[0].getsockname()
        settings["variables"]["AWS_LAMBDA_RUNTIME_API"] = f"{host}:{port}"
    with socket.socket(fileno=supervisor) as handing_over:
        socket.send_fds(handing_over, [b"doors"], [listener.fileno() for listener in listeners])
    for listener in listeners:
        listener.close()
    if plan is not None:
        mounts.replace_file("/etc/hosts", plan["hosts"])


def never_started(channel: int, reason: str) -> NoReturn:
    said = f"environment not started: {reason}".encode("utf-8", "replace")
    frames.write(channel, frames.join(frames.NEVER_STARTED, said))
    os._exit(1)


def enter(settings: dict[str, Any]) -> None:
    """What is around the function: variables, working folder, where modules are found. Raises OSError."""
    os.environ.clear()
    os.environ.update(settings["variables"])
    time.tzset()
    os.chdir(settings["task_root"])
    sys.path[:0] = settings["path"]
    sys.argv = [""]
    # What is compiled was compiled at publish time. Code that stands in its own folder may change twice in a second:
    # a .pyc that was made in between would be stale.
    sys.dont_write_bytecode = True
    compiled.use(settings["bytecode"])

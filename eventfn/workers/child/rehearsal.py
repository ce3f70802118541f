"""What every start does, done once in a blank environment with nothing of a function in it: a page that is copied by
then, and a cache that is filled, is one that nobody has to wait for. Half of a cold start.

The steps are those of environment.py and serving.py, in their order, with what is harmless: what cannot be done twice
is asked of the kernel in a way that it refuses.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time

from eventfn.sandbox import landlock, limits, mounts, privileges, syscalls
from eventfn.workers.child import compiled, frames, loading, logs, serving
from eventfn.workers.child.ground import Ground

_NAME = "blank"
_VARIABLES = {
    "_HANDLER": "snapshot_restore_py.register_before_snapshot",
    "AWS_LAMBDA_FUNCTION_NAME": _NAME,
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/blank",
    "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[$LATEST]0123456789abcdef",
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
    "TZ": ":UTC",
} | {f"VARIABLE_{number}": "value" for number in range(16)}
_SETTINGS = {
    "function": _NAME,
    "concurrency": 1,
    "gate": True,
    "handler": _VARIABLES["_HANDLER"],
    "variables": _VARIABLES,
}
_EVENT = {"requestContext": {"http": {"method": "POST"}}, "headers": {"host": "none"}, "version": "2.0"}


def rehearse(ground: Ground) -> None:
    logs.set_up()
    _receive()
    _walls(ground)
    environ, path, known = dict(os.environ), list(sys.path), set(sys.modules)
    os.environ.clear()
    os.environ.update(_VARIABLES)
    time.tzset()
    os.chdir("/")
    compiled.use({})
    logs.use_format()
    sys.path.insert(0, ground.stand_ins)
    handler = loading.load(_VARIABLES["_HANDLER"])
    serving.choose(handler, _SETTINGS)
    logs.flush()
    logs.waiting()
    _serve()
    for name in set(sys.modules) - known:
        del sys.modules[name]
    sys.path[:] = path
    os.environ.clear()
    os.environ.update(environ)


def _receive() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        frame = frames.join(frames.INIT, b'{"first_until": null}', json.dumps(_SETTINGS).encode())
        socket.send_fds(ours, [frame], [0])
        received = frames.read_first(theirs.fileno())
    assert received is not None
    header, payload, descriptors, _ = received
    for descriptor in descriptors:
        os.close(descriptor)
    json.loads(header)
    json.loads(payload)


def _walls(ground: Ground) -> None:
    privileges.hide_memory()
    limits.lower("RLIMIT_CORE", 0)
    refused = contextlib.suppress(OSError)
    if ground.tier == "full":
        with refused:
            mounts.finish([(-1, mounts.TASK)], (), tmp_mb=1)
        mounts.size_tmp(1)
    if ground.tier != "none":
        with refused:
            landlock.enforce(-1)
        with refused:
            syscalls.install(b"")


def _serve() -> None:
    runtime = serving.Runtime()
    for kind, own in (frames.INVOKE, ""), (frames.REQUEST, "2026\n0"):
        frame = kind, 1, 1000, f"id\narn\n\n{own}", json.dumps(_EVENT).encode(), "{}"
        event, _ = runtime.begin(frame)
        runtime.answer(frame, {"statusCode": 200, "body": event["version"]})
    logs.request_id.set("")

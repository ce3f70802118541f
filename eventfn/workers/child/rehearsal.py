"""What every start does, done ahead with nothing of a function in it. Half of a cold start.

In the zygote first, so that what is the same for all environments is shared by them: caches of methods and of compiled
expressions, specialised bytecode, the streams. Then in each blank one: a page that is copied by then is one that nobody
has to wait for.

The steps are those of environment.py and serving.py, in their order, with what is harmless: what cannot be done twice
is asked of the kernel in a way that it refuses. Nothing here may walk over what the interpreter holds, sys.modules for
one: each object that is only looked at is a page that is copied.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys

from eventfn.sandbox import landlock, limits, mounts, privileges, syscalls
from eventfn.workers.child import clone, compiled, environment, frames, inbox, loading, logs, serving

_TIMES = 2  # in the zygote: 7 ms and 1.4; ten would save an environment 20 pages more, for 20 ms
_NAME = "blank"
# As a function has it, of modules that nobody has imported yet from there: a folder, a file in it and what it defines.
_FOLDER = os.path.dirname(json.__file__)  # noqa: PTH120 - a string as those in sys.path
_HANDLER = "scanner.py_make_scanner"
_VARIABLES = {
    "_HANDLER": _HANDLER,
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
    "handler": _HANDLER,
    "variables": _VARIABLES,
    "task_root": "/",
    "path": [_FOLDER],
    "bytecode": {_FOLDER: f"{_FOLDER}/none"},
}
_EVENT = {"requestContext": {"http": {"method": "POST"}}, "headers": {"host": "none"}, "version": "2.0"}
_ACCESS = landlock.Access(("/",), ("/dev/null",))
_FRAME = frames.join(frames.INIT, b'{"first_until": null}', json.dumps(_SETTINGS).encode())
_REQUEST = frames.join(frames.INVOKE, b"id\narn\n\n", b"{}", number=1)


def rehearse_for_all(tier: str) -> None:
    """In the zygote, as long as it may read the interpreter's files; of the walls what would not shut itself in. It has
    no variables afterwards."""
    logs.set_up()
    os.environ.clear()
    for _ in range(_TIMES):
        clone.put_in_order()
        privileges.no_new_privileges()
        if tier == "full":
            os.close(landlock.rules(_ACCESS, tcp=True, version=landlock.abi()))
        _receive()
        _refused(tier)
        _start()


def rehearse(tier: str) -> None:
    """In a blank environment, which `contain.begin` has begun."""
    _receive()
    privileges.hide_memory()
    _refused(tier)
    if tier == "full":
        mounts.size_tmp(1)
    _start()


def _start() -> None:
    known = len(sys.modules)
    environment.enter(_SETTINGS)
    logs.use_format()
    handler = loading.load(_HANDLER)
    serving.choose(handler, _SETTINGS)
    logs.flush()
    logs.waiting()
    _serve()
    while len(sys.modules) > known:
        sys.modules.popitem()
    del sys.path[0]
    sys.path_importer_cache.pop(_FOLDER, None)
    compiled.use_none()
    os.environ.clear()


def _receive() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(ours, [_FRAME], [0])
        received = frames.read_first(theirs.fileno())
        frames.write(ours.fileno(), _REQUEST)
        inbox.Inbox(theirs.fileno()).next_request()
    assert received is not None
    header, payload, descriptors, _ = received
    for descriptor in descriptors:
        os.close(descriptor)
    json.loads(header)
    json.loads(payload)


def _refused(tier: str) -> None:
    limits.lower("RLIMIT_CORE", 0)
    refused = contextlib.suppress(OSError)
    if tier == "full":
        with refused:
            mounts.finish([(-1, mounts.TASK)], (), tmp_mb=1)
    if tier != "none":
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

"""A Python handler in an interpreter of its own, which AWS_LAMBDA_EXEC_WRAPPER has started (importable/bootstrap.py).

It speaks frames on the channel that it has inherited, as a handler does that was forked (environment.py), and so is
told and can do the same. What it is to know comes in one variable, set by program.py: a wrapper hands on variables, and
may change them, _HANDLER too.
"""

from __future__ import annotations

import os
import site
import stat
import sys
from typing import Any

from eventfn.workers.child import compiled, frames, loading, logs, readiness, serving


def main(facts: dict[str, Any]) -> None:
    """Until its channel ends."""
    if not _has_channel():
        sys.exit(
            f"AWS_LAMBDA_EXEC_WRAPPER: the wrapper has closed descriptor {frames.CHANNEL}, over which its function is "
            'invoked: let it end with exec "$@", or start its command with open descriptors (in Python, os.execv)'
        )
    os.set_inheritable(frames.CHANNEL, False)  # programs that the function starts do not answer for it
    logs.set_up()
    logs.keep_pipe()
    # What the machine has installed for others is no part of a function, as without a wrapper.
    machines = {*site.getsitepackages(), site.getusersitepackages()}
    sys.path[:] = [*facts["path"], *(path for path in sys.path if path not in machines)]
    sys.argv = [""]
    sys.dont_write_bytecode = True
    compiled.use(facts["bytecode"])
    logs.use_format()
    handler = os.environ.get("_HANDLER", "")
    try:
        serve = serving.choose(loading.load(handler), facts | {"handler": handler, "gate": False})
    except Exception as error:
        readiness.fail(error)
    serve.loop(readiness.say_ready(None, bytearray()))
    logs.flush()
    os._exit(0)


def _has_channel() -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(frames.CHANNEL).st_mode)
    except OSError:
        return False

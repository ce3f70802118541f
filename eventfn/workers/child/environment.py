"""An environment's life on its own side: settings, walls, import, then one request after the other."""

from __future__ import annotations

import gc
import json
import os
import random
import ssl
import sys
import time
from typing import Any

from eventfn.sandbox import contain, policy
from eventfn.workers.child import compiled, frames, loading, logs, results, serving


def main(channel: int, log_pipe: int) -> None:
    """Never returns to the zygote's code: it ends by os._exit, or by what the function raises to leave."""
    first = frames.read(channel)
    if first is None:
        os._exit(0)
    settings: dict[str, Any] = json.loads(first[4])
    walls = policy.Policy(
        supervisor=settings["supervisor"],
        channel=channel,
        log_pipe=log_pipe,
        memory_mb=settings["memory_mb"],
        name=settings["function"],
    )
    try:
        contain.contain(walls)
    except contain.NotContained as error:
        frames.write(error.channel, frames.join(frames.NEVER_STARTED, str(error).encode("utf-8", "replace")))
        os._exit(1)
    _forget_the_zygote()
    logs.set_up()
    _enter(settings)
    try:
        handler = loading.load(settings["handler"])
        serve = serving.choose(handler, settings)
    except Exception as error:
        failure = results.describe(error, "")
        logs.log_failure(failure)
        logs.flush()
        frames.write(frames.CHANNEL, frames.join(frames.INIT_ERROR, failure.header, failure.payload))
        os._exit(1)
    frames.write(frames.CHANNEL, frames.join(frames.READY))
    serve()
    logs.flush()
    os._exit(0)


def _forget_the_zygote() -> None:
    # Two clones must not draw the same random numbers, nor the same TLS keys.
    random.seed()
    ssl.RAND_add(os.urandom(32), 32)
    gc.enable()


def _enter(settings: dict[str, Any]) -> None:
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

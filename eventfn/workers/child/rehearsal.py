"""What every start does, done once in a blank environment with nothing of a function in it: a page that is copied by
then, and a cache that is filled, is one that nobody has to wait for. A third of a cold start.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

from eventfn.workers.child import compiled, logs, results

_LIKE_SETTINGS = json.dumps({"path": ["/var/task"], "variables": {"A": "b"}, "memory_mb": 128, "network": None})


def rehearse(stand_ins: str) -> None:
    """`stand_ins`: the folder with the module that is imported for practice, and forgotten."""
    logs.set_up()
    json.loads(_LIKE_SETTINGS)
    environ, path = dict(os.environ), list(sys.path)
    os.environ.clear()
    os.environ.update(environ)
    compiled.use({})
    sys.path.insert(0, stand_ins)
    before = set(sys.modules)
    importlib.import_module("snapshot_restore_py")
    for name in set(sys.modules) - before:
        del sys.modules[name]
    sys.path[:] = path
    results.Encoder().encode({"statusCode": 200, "body": results.decode(b'["text", 1, null]')})

"""The last argument of what AWS_LAMBDA_EXEC_WRAPPER is to start, where Lambda has its own: it becomes the runtime of a
Python function (eventfn's workers/child/wrapped.py), and is nothing to import.
"""

import json
import os
import sys
import types

if __name__ == "__main__":
    facts = json.loads(os.environ.pop("_EVENTFN_RUNTIME"))
    sys.path.remove(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib is 5 ms
    # eventfn's own modules, which no function sees: what it finds by that name is the stand-in beside this file.
    for name, folders in (("eventfn", ()), ("eventfn.workers", ()), ("eventfn.workers.child", (facts.pop("modules"),))):
        sys.modules[name] = package = types.ModuleType(name)
        package.__path__ = list(folders)
    from eventfn.workers.child import wrapped

    for name in [name for name in sys.modules if name == "eventfn" or name.startswith("eventfn.")]:
        del sys.modules[name]
    wrapped.main(facts)

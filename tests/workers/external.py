"""Functions that run by exec, for the tests: bootstraps, and how they are put into the pool."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from eventfn.functions.model import Function
from eventfn.workers.contract import Prepared

from .conftest import ARN, Workbench

# A runtime as small as one can be. `handle(event, headers)` is the test's; what it returns is sent as JSON.
CLIENT = """
import http.client, json, os, sys, time

api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

def call(method, path, body=None, headers={}):
    api.request(method, "/2018-06-01/runtime/" + path, body, headers)
    answer = api.getresponse()
    return answer.status, answer.headers, answer.read()

def serve(handle):
    while True:
        _, headers, body = call("GET", "invocation/next")
        id = headers["Lambda-Runtime-Aws-Request-Id"]
        call("POST", f"invocation/{id}/response", json.dumps(handle(json.loads(body), headers)))
"""


def deploy(
    bench: Workbench, name: str, folder: Path, bootstrap: str | None, runtime: str = "provided.al2023", **settings: Any
) -> Prepared:
    """A function whose `bootstrap` begins with `#!`, or is Python that has CLIENT above it; None: there is none."""
    root = folder / f"{name}-code"
    root.mkdir(exist_ok=True)
    if bootstrap is not None:
        bootstrap = textwrap.dedent(bootstrap)
        text = bootstrap
        if not text.startswith("#!"):
            text = f"#!{bench.interpreter.path} -IS\n" + CLIENT + bootstrap
        (root / "bootstrap").write_text(text)
        (root / "bootstrap").chmod(0o755)
    of_the_code = "opt_root", "extensions", "executable", "runtime_version"
    facts = {key: settings.pop(key) for key in of_the_code if key in settings}
    prepared = Prepared(
        function=Function(name=name, handler="main.handler", code=str(root), runtime=runtime, **settings),
        arn=ARN + name,
        version=f"{name}-{bootstrap}",
        task_root=str(root),
        interpreter=bench.interpreter.path,
        runtime=runtime,
        **facts,
    )
    bench.pool.deploy(prepared)
    return prepared

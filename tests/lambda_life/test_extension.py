"""An extension that was compiled, in a layer that was published, beside a function of each way to run one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients import go
from tests.lambda_life.conftest import PYTHON, Team, node_runtime
from tests.servers.needed import need


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir()
    (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("runtime", "file", "code"),
    [
        (PYTHON, "app.py", "def handler(event, context): return context.aws_request_id"),
        ("node", "app.js", "exports.handler = async (event, context) => context.awsRequestId"),
    ],
    ids=["python", "node"],
)
def test_an_extension_hears_of_invocations_and_of_the_end(
    team: Team, tmp_path: Path, runtime: str, file: str, code: str
) -> None:
    need(go.EXTENSION.missing())
    name = f"extended-{runtime.partition('.')[0]}"
    layer = team.layer("listener", go.EXTENSION.folder)
    given: dict[str, Any] = {"Layers": [layer], "folder": write(tmp_path / "code", file, code)}
    team.deploy(name, "app.handler", node_runtime() if runtime == "node" else runtime, **given)
    ids = [team.invoke(name, {}) for _ in range(2)]
    registered = team.logged(name, "extension registered")
    facts = json.loads(registered.partition(": ")[2])
    assert (facts["functionName"], facts["functionVersion"], facts["handler"]) == (name, "$LATEST", "app.handler")
    for request_id in ids:
        assert team.logged(name, f"extension saw: {request_id}")
    assert (
        team.logged(name, "EXTENSION").strip() == "EXTENSION\tName: listener\tState: Ready\tEvents: [INVOKE, SHUTDOWN]"
    )
    team.lab("update_function_configuration", FunctionName=name, MemorySize=256)
    # Its environment may not be free yet when its caller asks again: then another one answers.
    ends = "extension ends: spindown after "
    team.all_logged(name, ends, lambda lines: sum(int(line.rpartition(ends)[2]) for line in lines) == len(ids))

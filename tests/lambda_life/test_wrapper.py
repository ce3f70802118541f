"""A wrapper script in a layer that was published, as tracers bring one, before a function of each way to run one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lambda_life.conftest import PYTHON, Team, node_runtime
from tests.lambda_life.test_extension import write


@pytest.mark.parametrize(
    ("runtime", "file", "code"),
    [
        (PYTHON, "app.py", "import os\ndef handler(event, context): return [event, os.environ['TRACED']]"),
        ("node", "app.js", "exports.handler = async event => [event, process.env.TRACED]"),
    ],
    ids=["python", "node"],
)
def test_a_wrapper_of_a_layer_starts_the_runtime(
    team: Team, tmp_path: Path, runtime: str, file: str, code: str
) -> None:
    name = f"wrapped-{runtime.partition('.')[0]}"
    script = write(tmp_path / "layer", "tracer", '#!/bin/bash\nexport TRACED="by $0"\nexec "$@"\n')
    (script / "tracer").chmod(0o755)
    variables = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/tracer"}
    layers = [team.layer("tracer", script)]
    folder = write(tmp_path / "code", file, code)
    found = node_runtime() if runtime == "node" else runtime
    team.deploy(name, "app.handler", found, folder=folder, Layers=layers, variables=variables)
    assert team.invoke(name, {"a": 1}) == [{"a": 1}, "by /opt/tracer"]
    team.lab("update_function_configuration", FunctionName=name, Environment={"Variables": {"TRACED": "by nobody"}})
    team.lab.until("get_function_configuration", "LastUpdateStatus", "Successful", FunctionName=name)
    assert team.invoke(name, 2) == [2, "by nobody"]

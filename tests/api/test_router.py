"""Method, path and query name the operation."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, quote

import pytest

from eventfn.api.router import Router
from eventfn.api.service_model import service_model

OPERATIONS = service_model().operations
ROUTER = Router(OPERATIONS.values())
ARN = "arn:aws:lambda:us-east-1:000000000000:function:f:prod"


def found(method: str, target: str) -> tuple[str, dict[str, str]] | None:
    path, _, query = target.partition("?")
    match = ROUTER.find(method, path, parse_qs(query))
    return None if match is None else (match.operation.name, match.labels)


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_found_with_its_labels(name: str) -> None:
    operation = OPERATIONS[name]
    path, _, query = operation.path.partition("?")
    labels = re.findall(r"{(\w+)}", path)
    for value in ("f", ARN, "a/b", "$LATEST", "é%"):
        target = re.sub(r"{\w+}", quote(value, safe=""), path.rstrip("/"))
        for slash in ("", "/"):
            asked = f"{target}{slash}?{query}" if query else f"{target}{slash}"
            assert found(operation.method, asked) == (name, dict.fromkeys(labels, value))


@pytest.mark.parametrize(
    ("method", "target", "name"),
    [
        ("GET", "/2018-10-31/layers", "ListLayers"),
        ("GET", "/2018-10-31/layers?find=LayerVersion&Arn=x", "GetLayerVersionByArn"),
        ("GET", "/2018-10-31/layers?find=Other", "ListLayers"),
        ("GET", "/2019-09-30/functions/f/provisioned-concurrency?List=ALL", "ListProvisionedConcurrencyConfigs"),
        ("GET", "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=1", "GetProvisionedConcurrencyConfig"),
        ("GET", "/2019-09-25/functions/f/event-invoke-config/list", "ListFunctionEventInvokeConfigs"),
        ("GET", "/2015-03-31/functions/", "ListFunctions"),
        ("GET", f"/2015-03-31/functions/{ARN}", "GetFunction"),
        ("POST", "/2015-03-31/event-source-mappings/", "CreateEventSourceMapping"),
    ],
)
def test_near_ones_are_told_apart(method: str, target: str, name: str) -> None:
    match = found(method, target)
    assert match is not None
    assert match[0] == name


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "/2015-03-31"),
        ("GET", "/2015-03-31/function/f"),
        ("GET", "/2015-03-31/functions/a/b/c"),
        ("PATCH", "/2015-03-31/functions/f"),
        ("GET", "/2016-03-31/functions/f"),
        ("GET", "//2015-03-31/functions"),
        ("GET", "/2015-03-31/functions//"),
    ],
)
def test_what_is_no_operation_is_not_found(method: str, target: str) -> None:
    match = found(method, target)
    assert match is None or match[1] == {"FunctionName": ""}  # which no name may be

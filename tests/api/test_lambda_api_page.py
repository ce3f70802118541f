"""docs/lambda-api.md says of every operation what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eventfn.api.locations import Locations
from eventfn.api.resources import resources
from eventfn.api.service_model import service_model
from tests.api.fake_node import FakeNode

PAGE = (Path(__file__).parents[2] / "docs" / "lambda-api.md").read_text()
ROWS = re.findall(r"^\| `([A-Z]\w+)` \| (\w+) \|", PAGE, re.MULTILINE)


@pytest.fixture
def handled(node: FakeNode) -> set[str]:
    found = resources(node, Locations(node.control), loopback=True)
    return {name for resource in found for name in resource.operations()}


def test_each_operation_stands_there_once_in_the_models_order() -> None:
    assert [name for name, _ in ROWS] == list(service_model().operations)


def test_what_it_says_is_there_is_handled(handled: set[str]) -> None:
    assert {status for _, status in ROWS} <= {"works", "kept", "missing"}
    assert {name for name, status in ROWS if status != "missing"} == handled


def test_a_kept_resource_is_kept_as_a_whole() -> None:
    """Whoever reads the line of one operation of a resource knows what its others do."""
    by_resource: dict[str, set[str]] = {}
    for name, status in ROWS:
        resource = re.sub(r"^(Create|Get|List|Update|Put|Delete)", "", name).removesuffix("s")
        by_resource.setdefault(resource, set()).add(status)
    assert {resource for resource, found in by_resource.items() if len(found) > 1} == set()

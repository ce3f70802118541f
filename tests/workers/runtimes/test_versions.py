from __future__ import annotations

import re

import pytest

from eventfn.functions.model import Function
from eventfn.workers.runtimes import finding, versions

ARN = re.compile(r"arn:aws:lambda:eu-west-1::runtime:[0-9a-f]{64}")


@pytest.mark.parametrize(
    ("runtime", "version", "shown"),
    [
        ("python3.12", "3.12.4", "python:3.12.v4"),
        ("python3.12", "", "python:3.12"),
        ("nodejs20.x", "20.11.0", "nodejs:20.11.0"),
        ("provided.al2023", "", "provided:al2023"),
        ("java21", "", "java:21"),
    ],
)
def test_how_init_start_names_it(runtime: str, version: str, shown: str) -> None:
    assert versions.shown(runtime, version) == shown


def test_an_arn_is_that_of_one_build_in_one_region() -> None:
    one = "eu-west-1", "python3.12", "3.12.4", "main Jun"
    assert ARN.fullmatch(versions.arn(*one))
    others = [(*one[:position], "other", *one[position + 1 :]) for position in range(4)]
    assert len({versions.arn(*one), *(versions.arn(*other) for other in others)}) == 5


def test_what_is_found_has_the_arn_that_environments_show() -> None:
    found = finding.find(Function(name="f", handler="a.b", code="/code"))
    assert found.version
    assert found.build
    assert found.version_arn("eu-west-1") == versions.arn("eu-west-1", found.runtime, found.version, found.build)

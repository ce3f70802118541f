"""The pytest plugin that comes with eventfn: functions of a project, called from tests without a running node.

    def test_hello(eventfn_project):
        project = eventfn_project("examples/01_hello")
        assert project.invoke("hello", {"queryStringParameters": {"name": "Ada"}})["statusCode"] == 200

    def test_thumbnail(eventfn_function):
        thumbnail = eventfn_function("functions/thumbnail", "thumbnail.handler", environment={"SIZE": "64"})
        assert thumbnail({"Records": []}) == {"made": 0}

It is loaded in every run of pytest beside eventfn, so it imports nothing heavy before a fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from eventfn.testing.project import Bench, LocalFunction, LocalProject

# A failed assert in a conformance suite shows its values, as one in a test file does.
pytest.register_assert_rewrite(
    "eventfn.testing.sources",
    "eventfn.testing.triggers",
    "eventfn.testing.streams",
    "eventfn.testing.stream_host",
    "eventfn.testing.destinations",
    "eventfn.testing.engines",
    "eventfn.testing.lint",
)


@pytest.fixture
def _eventfn_bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Bench, None, None]:
    from eventfn.testing.project import bench

    # pytest's own cache: requirements are installed once, and a node's data folder is left alone. Who runs pytest
    # without one (-p no:cacheprovider) has them installed each time.
    cache: pytest.Cache | None = getattr(request.config, "cache", None)
    data = cache.mkdir("eventfn") if cache is not None else tmp_path_factory.mktemp("eventfn")
    with bench(request.config.rootpath, data) as opened:
        yield opened


@pytest.fixture
def eventfn_project(_eventfn_bench: Bench) -> Callable[..., LocalProject]:
    """`eventfn_project(path=".")`: the project of a folder, an eventfn.toml or a Python file below pytest's rootdir.

    `.invoke(name, event)` is the decoded answer, or raises HandlerError; `.outcome(name, event)` tells either.
    """
    return _eventfn_bench.project


@pytest.fixture
def eventfn_function(_eventfn_bench: Bench) -> Callable[..., LocalFunction]:
    """`eventfn_function(code, "module.function", timeout=3, environment={...})`: one function, to be called."""
    return _eventfn_bench.function

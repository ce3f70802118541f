"""One PostgreSQL for all tests of the connector, and a table of its own for each."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.servers import postgres
from tests.servers.postgres import Postgres


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    if why := postgres.missing():
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    with Postgres(tmp_path_factory.mktemp("postgres")) as running:
        yield running

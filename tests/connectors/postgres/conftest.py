"""One PostgreSQL for all tests of the connector, and tables of their own for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.connectors.postgres.outbox import Outbox
from tests.servers import postgres
from tests.servers.needed import need
from tests.servers.postgres import Postgres


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    need(postgres.missing())
    with Postgres(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest_asyncio.fixture
async def outbox(server: Postgres, tmp_path: Path) -> AsyncIterator[Outbox]:
    async with Outbox(server, tmp_path) as made:
        yield made

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.aws import Servers


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("aws"))
    yield servers
    servers.close()

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes import Orphans, adopted


@pytest.fixture
def orphans() -> Iterator[Orphans]:
    with adopted() as found:
        yield found

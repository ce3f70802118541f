"""docs/writing-a-connector.md: its stream conforms, and its links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from eventfn.event import Record
from eventfn.testing import StreamSuite

PAGE = Path(__file__).parents[1] / "docs" / "writing-a-connector.md"
TEXT = PAGE.read_text()


def test_its_links_lead_somewhere() -> None:
    linked = re.findall(r"\]\(([^)#]+)", TEXT)
    assert linked
    assert [path for path in linked if not (PAGE.parent / path).exists()] == []


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    (source,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path_factory.mktemp("page") / "logs_of_the_page.py"
    file.write_text(source)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    sys.path.append(str(file.parent))  # a reader that is killed finds it there
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(file.parent))
    del sys.modules[file.stem]


class TestLogs(StreamSuite):
    name = "logs"
    has_sample = False
    outside = True

    @pytest.fixture(autouse=True)
    def _logs(self, host: None, logs: ModuleType) -> None:
        type(self).trigger = logs.LogsTrigger
        self.logs = logs
        (self.folder / "logs").mkdir()
        for place in range(3):
            (self.folder / "logs" / f"{place}.log").touch()

    async def elsewhere(self) -> Any:
        (self.folder / "others").mkdir()
        (self.folder / "others" / "0.log").touch()
        return self.logs.LogsSettings(path="others")

    def settings(self) -> Any:
        return self.logs.LogsSettings(path="logs")

    async def put(self, number: int, key: str | None = None) -> None:
        place = sum((key or str(number)).encode()) % 3
        with (self.folder / "logs" / f"{place}.log").open("a") as log:
            log.write(f"{number}\n")

    def number(self, record: Record) -> int:
        return int(msgspec.json.decode(record.payload)["line"])

    async def refuse(self) -> None:
        (self.folder / "logs").rename(self.folder / "away")

    async def accept(self) -> None:
        (self.folder / "away").rename(self.folder / "logs")

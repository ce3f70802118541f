"""The data folder mostly lies within a project's code, and no function sees it: other functions' events are there, and
the token of the admin listener."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from eventfn.clock import SystemClock
from eventfn.sandbox.probe import Sandbox
from eventfn.sandbox.walls import Tier
from tests.workers.conftest import workbench

LOOK = """
    import os
    import helper
    from package import inner

    def attempt(work, *arguments):
        try:
            return work(*arguments)
        except OSError as error:
            return error.strerror

    def handler(event, context):
        data = os.path.join(os.environ["LAMBDA_TASK_ROOT"], "data")
        return [
            attempt(lambda: open(f"{data}/node.json").read()),
            attempt(lambda: open(f"{data}/deep/events").read()),
            attempt(os.listdir, f"{data}/deep"),
            helper.WHO + inner.WHO,
        ]
"""


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """Not below /tmp, which is everybody's in the tier without a tree of one's own."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("tier", [tier for tier in get_args(Tier) if tier != "none"])
async def test_the_data_folder_within_the_code_is_not_seen(elsewhere: Path, sandbox: Sandbox, tier: Tier) -> None:
    async with workbench(elsewhere, SystemClock(), sandbox.lowered(tier)) as bench:
        prepared = bench.deploy("warm", LOOK)
        root = Path(prepared.task_root)
        (root / "helper.py").write_text("WHO = 'helper'")
        (root / "package").mkdir()
        (root / "package" / "inner.py").write_text("WHO = 'inner'")
        (root / "data" / "deep").mkdir(parents=True)
        (root / "data" / "node.json").write_text("token")
        (root / "data" / "deep" / "events").write_text("secret")
        function = msgspec.structs.replace(prepared.function, name="looks")
        bench.pool.deploy(msgspec.structs.replace(prepared, function=function, hidden=(str(root / "data"),)))
        token, events, names, imported = await bench.result("looks")
        assert imported == "helperinner"
        expected = "No such file or directory" if tier == "full" else "Permission denied"
        assert token == events == expected
        assert names == "No such file or directory" or tier == "landlock", (
            "names are no secret there, and said to be seen"
        )

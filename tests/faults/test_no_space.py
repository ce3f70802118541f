"""No space left under a whole node: the caller is told so, what was accepted is kept, and with space all goes on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import RunningNode, running_node, until, write_project

SIZE_MB = 64
# The database and its write-ahead log of up to 16 MB stand side by side: to go on, they need about that much.
BALLAST_MB = 40
BODY = b"x" * 200_000

PROJECT = """
    [functions.kept]
    handler = "work.kept"
    file_system_configs = [{ path = "gate" }]
    environment = { GATE = "${EVENTFN_FOLDER}/gate" }
    on_success = "queue:done"

    [[functions.kept.triggers]]
    type = "http"
    method = "POST"
    path = "/kept"
    async = true

    [functions.answers]
    handler = "work.answers"

    [[functions.answers.triggers]]
    type = "http"
    path = "/answers"
"""

WORK = """
    import os, time

    def kept(event, context):
        while not os.path.exists(os.environ["GATE"] + "/open"):
            time.sleep(0.01)

    def answers(event, context):
        return "still here"
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"a small disk takes the right to mount one: {mount.stderr.strip()}")
    try:
        yield disk
    finally:
        # Lazily: a test that failed may have left files open.
        subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_a_full_disk_refuses_what_is_new_and_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    folder, data = write_project(tmp_path / "project", PROJECT, work=WORK), small_disk / "data"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(BALLAST_MB << 20))
    async with running_node(folder, data) as node:
        accepted = await _fill(node)
        assert len(accepted) > 5
        assert await node.fetch("POST", "/kept", data=BODY) == (503, b'{"message":"Service Unavailable"}')
        assert await node.fetch("GET", "/answers") == (200, b"still here")
        events = (await node.function("kept"))["events"]
        assert events["visible"] + events["in_flight"] + events["delayed"] == len(accepted)

        # Functions go on too, and what becomes of their events is kept as soon as there is room for it.
        (folder / "gate" / "open").touch()
        ballast.unlink()

        async def all_done() -> bool:
            status = await node.json("GET", "/status")
            depths = {queue["name"]: queue["depth"] for queue in status["queues"]}
            return bool(depths["done"]["visible"] == len(accepted))

        await until(all_done, "everything accepted has ended")
        records = [json.loads(message["body"]) for message in await node.messages("done")]
        ended = [record["requestContext"]["requestId"] for record in records]
        assert sorted(ended) == sorted(accepted), "each once, and nothing that was refused"
        status, _ = await node.fetch("POST", "/kept", data=BODY)
        assert status == 202


async def test_what_was_accepted_before_the_disk_was_full_survives_a_kill(small_disk: Path, tmp_path: Path) -> None:
    folder, data = write_project(tmp_path / "project", PROJECT, work=WORK), small_disk / "data"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(BALLAST_MB << 20))
    async with running_node(folder, data) as node:
        accepted = await _fill(node)
        await node.kill()
    ballast.unlink()
    async with running_node(folder, data) as node:
        events = (await node.function("kept"))["events"]
        assert events["visible"] + events["in_flight"] + events["delayed"] == len(accepted)


async def _fill(node: RunningNode) -> list[str]:
    """Submits until it is refused; the request ids of what was accepted."""
    accepted: list[str] = []
    for _ in range(SIZE_MB * 10):
        status, body = await node.fetch("POST", "/kept", data=BODY)
        if status != 202:
            assert (status, body) == (503, b'{"message":"Service Unavailable"}')
            return accepted
        accepted.append(json.loads(body)["requestId"])
    pytest.fail("the disk never was full")

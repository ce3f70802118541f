"""kill -9 at any moment: what was acknowledged is there, what was settled does not come back, nothing is half done."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from pathlib import Path

from eventfn.engine.sqlite import SqliteEngine
from eventfn.testing.engines import NOW, ids

ROUNDS = 20
SEED = 20_240_607
WRITER = Path(__file__).with_name("writer.py")


def kill_after(lines: int, folder: Path, round_number: int) -> list[str]:
    """What it said; it dies right after having said so many lines, in the middle of whatever it does then."""
    said: list[str] = []
    with subprocess.Popen(
        [sys.executable, str(WRITER), str(folder), str(round_number)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                said.append(line.strip())
                if len(said) == lines:
                    break
        finally:
            process.kill()
        said += [line.strip() for line in process.stdout if line.endswith("\n")]
    assert len(said) >= lines, "the writer ended by itself"
    return said


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    moments = random.Random(SEED)
    sent: set[str] = set()
    done: set[str] = set()
    settling: set[str] = set()
    for round_number in range(ROUNDS):
        for line in kill_after(moments.randint(1, 600), folder, round_number):
            word, _, identity = line.partition(" ")
            {"sent": sent, "done": done, "settling": settling, "open": set[str]()}[word].add(identity)

        engine = SqliteEngine(folder)
        await engine.open(NOW)
        present = ids(await engine.peek("q", 1_000_000))
        facts = {key.removeprefix("fact/") for key in await engine.scan("fact/")}
        finished = {key.removeprefix("done/") for key in await engine.scan("done/")}
        (stats,) = await engine.stats("q", NOW + 10**12)
        await engine.close()

        assert len(present) == len(set(present))
        assert sent <= facts, "an acknowledged message is lost"
        assert set(present) == facts - finished, "a commit was kept by half"
        assert done <= finished <= settling
        assert stats.in_flight == 0
    assert len(sent) > ROUNDS
    assert done
    with sqlite3.connect(folder / "eventfn.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()

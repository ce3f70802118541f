import asyncio
import os
import time
from pathlib import Path

import pytest

from eventfn.functions import kept

NOW = 1_000_000_000.0


async def fill(partial: Path) -> None:
    (partial / "made").write_text("1")


async def fails(partial: Path) -> None:
    (partial / "half").touch()
    raise OSError("no space")


async def never(partial: Path) -> None:
    raise AssertionError(f"{partial} is made again")


async def test_a_folder_is_made_once(tmp_path: Path) -> None:
    made = await kept.make(tmp_path / "code", "x", fill)
    assert made == tmp_path / "code" / "x"
    assert (made / "made").read_text() == "1"
    assert await kept.make(tmp_path / "code", "x", never) == made


async def test_it_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no space"):
        await kept.make(tmp_path, "x", fails)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    assert (await kept.make(tmp_path, "x", fill) / "made").exists()


async def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / ".x.killed.partial"
    left.mkdir()
    (left / "half").touch()
    made = await kept.make(tmp_path, "x", fill)
    assert [path.name for path in made.iterdir()] == ["made"]
    assert not left.exists()


async def test_two_at_once_make_it_once(tmp_path: Path) -> None:
    began = 0

    async def slowly(partial: Path) -> None:
        nonlocal began
        began += 1
        await asyncio.sleep(0)
        await fill(partial)

    both = await asyncio.gather(*(kept.make(tmp_path, "x", slowly) for _ in range(2)))
    assert both[0] == both[1]
    assert began == 1


async def test_a_name_comes_after_the_disk_has_what_it_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[bool] = []
    monkeypatch.setattr(os, "sync", lambda: named.append((tmp_path / "x").exists()))
    await kept.make(tmp_path, "x", fill)
    assert named == [False]


async def test_whoever_runs_a_function_can_read_it(tmp_path: Path) -> None:
    async def secretive(partial: Path) -> None:
        (partial / "deep").mkdir(mode=0o700)
        (partial / "deep" / "module.py").touch(mode=0o600)
        (partial / "deep" / "program").touch(mode=0o700)
        (partial / "nowhere").symlink_to("missing")

    made = await kept.make(tmp_path, "x", secretive)
    modes = [path.stat().st_mode & 0o777 for path in (made, made / "deep")]
    files = [(made / "deep" / name).stat().st_mode & 0o777 for name in ("module.py", "program")]
    assert (modes, files) == ([0o755, 0o755], [0o644, 0o744])


async def test_what_nobody_used_for_a_week_goes(tmp_path: Path) -> None:
    used = await kept.make(tmp_path / "layers", "used", fill)
    unused = await kept.make(tmp_path / "layers", "unused", fill)
    bytecode = await kept.make(tmp_path / "bytecode", "unused", fill)
    long_ago = NOW - kept.UNUSED - 1
    for folder in (used, unused, bytecode):
        os.utime(folder, (long_ago, long_ago))
    await kept.make(tmp_path / "layers", "used", never)
    (tmp_path / "database").touch()
    kept.clear(tmp_path, NOW)
    assert used.is_dir()
    assert sorted(path.name for path in tmp_path.rglob("*") if path != used / "made") == [
        "bytecode", "database", "layers", "used",
    ]  # fmt: skip


async def test_what_is_still_young_stays(tmp_path: Path) -> None:
    made = await kept.make(tmp_path / "code", "x", fill)
    kept.clear(tmp_path, time.time())
    kept.clear(tmp_path, time.time() + kept.UNUSED - 60)
    assert (made / "made").exists()


def test_what_killed_runs_left_goes_at_once(tmp_path: Path) -> None:
    for name in (".x.abc.partial", ".y.removed"):
        (tmp_path / "layers" / name / "deep").mkdir(parents=True)
    (tmp_path / "layers" / ".x.lock").touch()
    kept.clear(tmp_path, time.time())
    assert list((tmp_path / "layers").iterdir()) == []


def test_nothing_to_clear(tmp_path: Path) -> None:
    kept.clear(tmp_path / "never made", NOW)
    assert list(tmp_path.iterdir()) == []

"""A log group in pages, while its files are set aside and go."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from eventfn.observe import log_events
from eventfn.observe.log_events import BadToken, Event
from eventfn.observe.logs import Line, append, encode, read

MOST = 10_000


def everything(message: str) -> bool:
    return True


def write(folder: Path, name: str, lines: list[Line], *, rotate_bytes: int = 10_000_000, files: int = 5) -> None:
    for line in lines:
        append(folder / f"{name}.log", encode([line]), rotate_bytes, files)


def search(
    folder: Path,
    *functions: str,
    start: int = 0,
    end: int | None = None,
    matches: Callable[[str], bool] = everything,
    limit: int = MOST,
    token: str | None = None,
) -> tuple[list[Event], str | None]:
    return log_events.search(
        folder,
        functions,
        start=start,
        end=end,
        matches=matches,
        streams=None,
        prefix="",
        limit=limit,
        token=token,
    )


def all_pages(folder: Path, *functions: str, limit: int) -> list[Event]:
    found, token = search(folder, *functions, limit=limit)
    while token is not None:
        page, token = search(folder, *functions, limit=limit, token=token)
        found += page
    return found


def test_pages_go_across_files(tmp_path: Path) -> None:
    write(tmp_path, "f", [Line(at, "s", f"line {at}") for at in range(100)], rotate_bytes=1000, files=20)
    assert len(list(tmp_path.iterdir())) > 3
    events = all_pages(tmp_path, "f", limit=7)
    assert [event.message for event in events] == [f"line {at}" for at in range(100)]
    assert [event.id for event in events] == [event.id for event in search(tmp_path, "f")[0]]


def test_a_token_holds_when_files_are_set_aside_meanwhile(tmp_path: Path) -> None:
    write(tmp_path, "f", [Line(at, "s", f"line {at}") for at in range(10)])
    first, token = search(tmp_path, "f", limit=4)
    assert token is not None
    write(tmp_path, "f", [Line(at, "s", f"line {at}") for at in range(10, 40)], rotate_bytes=500, files=20)
    rest, end = search(tmp_path, "f", token=token)
    assert [event.message for event in first + rest] == [f"line {at}" for at in range(40)]
    assert end is None


def test_a_token_of_a_file_that_is_gone_goes_on_with_the_oldest(tmp_path: Path) -> None:
    write(tmp_path, "f", [Line(at, "s", f"line {at}") for at in range(10)])
    _, token = search(tmp_path, "f", limit=4)
    write(tmp_path, "f", [Line(at, "s", f"line {at}") for at in range(10, 100)], rotate_bytes=500, files=2)
    rest, _ = search(tmp_path, "f", token=token)
    left = [line.message for line in read(tmp_path, "f")]
    assert [event.message for event in rest] == left
    assert "line 9" not in left


def test_functions_of_one_group_are_merged_by_time(tmp_path: Path) -> None:
    write(tmp_path, "a", [Line(at, "a", f"a {at}") for at in range(0, 20, 2)])
    write(tmp_path, "b", [Line(at, "b", f"b {at}") for at in range(1, 20, 2)])
    events = all_pages(tmp_path, "a", "b", limit=3)
    assert [event.timestamp for event in events] == list(range(20))
    assert {stream.name for stream in log_events.streams(tmp_path, ["a", "b"])} == {"a", "b"}


def test_a_page_is_bounded_by_what_was_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_events, "_LOOKED_AT", 10)
    write(tmp_path, "f", [Line(at, "s", f"line {at}") for at in range(35)])
    found: list[str] = []
    token, pages = None, 0
    while True:
        page, token = search(tmp_path, "f", matches=lambda message: message.endswith("4"), token=token)
        found += [event.message for event in page]
        pages += 1
        if token is None:
            break
    assert (found, pages) == (["line 4", "line 14", "line 24", "line 34"], 4)


def test_what_is_too_old_is_left_out_wherever_it_stands(tmp_path: Path) -> None:
    """Times go back by minutes here and there, as those of lines that were held back do."""
    chance = random.Random(7)
    lines = [Line(at * 1000 + chance.randrange(-300_000, 300_000), "s", f"line {at} {'x' * 60}") for at in range(6000)]
    (tmp_path / "f.log").write_bytes(encode(lines))
    for start in (0, 1, 700_000, 3_000_000, 5_999_000, 9_000_000):
        wanted = [line.message for line in lines if line.timestamp >= start]
        assert [line.message for line in read(tmp_path, "f", start)] == wanted


@pytest.mark.parametrize("token", ["", "-", "x", "0/0", "1.", ".1", "1.2.3", "-1.2"])
def test_a_token_that_nobody_gave(tmp_path: Path, token: str) -> None:
    with pytest.raises(BadToken):
        search(tmp_path, "f", token=token)


def test_a_group_without_functions_has_nothing(tmp_path: Path) -> None:
    assert search(tmp_path) == ([], None)
    assert search(tmp_path, "f") == ([], None)

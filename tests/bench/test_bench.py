"""The benchmark runs and prints its table. What it finds is no business of a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import wrk
from bench.rounds import Plan, interleaved
from bench.table import OURS, markdown, rows


def test_a_figure_stands_beside_each_of_its_ceilings() -> None:
    found = rows("echo", "/s", "more", {OURS: 12_345, "bare": 24_690, "slow": 0.5})
    assert [(row.beside, row.ratio) for row in found] == [("bare", 0.5), ("slow", 24_690)]
    assert markdown(found).splitlines()[2:] == [
        "| echo | 12,300 /s | bare: 24,700 /s | 0.50 | more |",
        "| echo | 12,300 /s | slow: 0.5 /s | 24690.00 | more |",
    ]


async def test_measures_take_turns() -> None:
    turns: list[str] = []

    async def note(name: str) -> float:
        turns.append(name)
        return len(turns)

    found = await interleaved({"a": lambda: note("a"), "b": lambda: note("b")}, 2)
    assert turns == ["a", "b", "a", "b"]
    assert found == {"a": [1, 3], "b": [2, 4]}


@pytest.mark.parametrize("question", ["start_up", "queue"])
def test_a_question_is_answered(question: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    assert command.main([question, "--rounds", "1", "--seconds", "0.2", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert all(row["ours"] > 0 for row in found)
    assert all(row["theirs"] > 0 for row in found if "no redis-server" not in row["beside"])
    assert capsys.readouterr().out.startswith("| what |")


def test_without_wrk_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert command.main(["warm_http"]) == 1
    assert "apt-get install wrk" in capsys.readouterr().err
    assert wrk.missing()


def test_a_short_plan_still_measures_something() -> None:
    assert Plan(1, 0.2).whole_seconds == 1
    assert Plan(1, 0.00001).count(1000) == 1

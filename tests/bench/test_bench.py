"""The benchmark runs and prints its table. What it finds is no business of a test."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import running, wrk
from bench.asking import p99
from bench.rounds import Plan, interleaved
from bench.table import OURS, Row, markdown, rows
from bench.targets import Target


def test_a_figure_stands_beside_each_of_its_ceilings() -> None:
    found = rows("echo", "/s", "more", {OURS: 12_345, "bare": 24_690, "slow": 0.5})
    assert [(row.beside, row.ratio) for row in found] == [("bare", 0.5), ("slow", 24_690)]
    assert markdown(found).splitlines()[2:] == [
        "| echo | 12,300 /s | bare: 24,700 /s | 0.50 | more |  |",
        "| echo | 12,300 /s | slow: 0.5 /s | 24690.00 | more |  |",
    ]


@pytest.mark.parametrize(
    ("target", "ours", "ratio", "met"),
    [
        (Target("ratio", ">=", 1.5), 1, 1.5, True),
        (Target("ratio", ">=", 1.5), 100, 1.49, False),
        (Target("ratio", "<=", 2), 100, 2, True),
        (Target("ratio", "<=", 2), 1, 2.1, False),
        (Target("ratio", "<=", 2), 1, None, None),
        (Target("figure", "<=", 3), 3, None, True),
        (Target("figure", "<=", 3), 3.1, 0.5, False),
        (Target("figure", ">=", 20_000), 20_000, 0.1, True),
        (Target("figure", "<=", 0), 0.001, None, False),
    ],
)
def test_a_target_is_of_the_ratio_or_of_the_figure(
    target: Target, ours: float, ratio: float | None, met: bool | None
) -> None:
    assert target.met(ours, ratio) is met


def test_the_table_says_what_is_to_be_reached_and_whether_it_is() -> None:
    what, beside = "warm HTTP, 32 connections", "aiohttp echo"
    found = [Row(what, "/s", 140, beside, 100, "more"), Row("cold start, p50", "ms", 2.5, "bare fork", 1, "less")]
    assert markdown(found).splitlines()[2:] == [
        "| warm HTTP, 32 connections | 140 /s | aiohttp echo: 100 /s | 1.40 | >= 1.5x | **no** |",
        "| cold start, p50 | 2.5 ms | bare fork: 1 ms | 2.50 | <= 3 ms | yes |",
    ]
    assert found[0].as_json() == {
        "what": what,
        "unit": "/s",
        "ours": 140,
        "beside": beside,
        "theirs": 100,
        "better": "more",
        "ratio": 1.4,
        "target": Target("ratio", ">=", 1.5),
        "met": False,
    }


def test_of_a_hundred_the_second_worst() -> None:
    assert p99(range(1, 101)) == 99
    assert p99([5.0]) == 5


async def test_measures_take_turns() -> None:
    turns: list[str] = []

    async def note(name: str) -> float:
        turns.append(name)
        return len(turns)

    found = await interleaved({"a": lambda: note("a"), "b": lambda: note("b")}, 2)
    assert turns == ["a", "b", "a", "b"]
    assert found == {"a": [1, 3], "b": [2, 4]}


@pytest.mark.parametrize("question", ["start_up", "queue", "cold_start"])
def test_a_question_is_answered(question: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    assert command.main([question, "--rounds", "1", "--seconds", "0.2", "--json", str(file)]) == 0
    written = json.loads(file.read_text())
    rows = written["rows"]
    assert all(row["ours"] > 0 for row in rows)
    assert all(row["theirs"] > 0 for row in rows if "no redis-server" not in row["beside"])
    assert any(row["met"] is not None for row in rows)
    assert written["conditions"]["cores"] == os.cpu_count()
    printed = capsys.readouterr().out
    assert printed.startswith("| what |")
    assert "Sandbox: " in printed


@pytest.mark.skipif(wrk.missing() is not None, reason="wrk makes the load and is not installed")
async def test_answers_are_counted_by_what_they_say() -> None:
    async with running.node() as node:
        fits = await wrk.offer(f"http://{node.http}/slow", 1, 0, 1)
        too_many = await wrk.offer(f"http://{node.http}/slow", 64, 5, 1)
        nowhere = await wrk.offer(f"http://{node.http}/nowhere", 1, 5, 1)
    assert fits.good > 0
    assert fits.wrong_percent == 0
    assert too_many.throttled > too_many.good > 0
    assert nowhere.wrong_percent == 100


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

"""What all commands have in common."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from eventfn.cli.commands import COMMANDS, eventfn
from eventfn.cli.safe import safe
from eventfn.cli.words import age, plural
from tests.cli.conftest import Eventfn


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run: Eventfn, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Usage: eventfn {command}" in result.stdout


@pytest.mark.parametrize(
    "arguments", [["chek"], ["invoke"], ["run", "--wach"], ["queue", "peek", "x", "-n", "0"], ["logs", "a", "b"]]
)
def test_wrong_usage_is_one_line_that_names_the_help(run: Eventfn, arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.endswith("--help')\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("group", [[], ["queue"], ["new"]])
def test_a_group_alone_shows_its_help(run: Eventfn, group: list[str]) -> None:
    result = run(*group)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == run(*group, "--help").stdout


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_are_left_out_when_nobody_wants_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    (folder / "eventfn.toml").write_text("[function.x]")
    told = CliRunner().invoke(eventfn, ["check"], color=True).output
    assert "did you mean" in told
    assert ("\x1b[" in told) is coloured


def test_the_version_is_told(run: Eventfn) -> None:
    assert run("--version").stdout.startswith("eventfn 0.")


@given(st.text())
def test_safe_text_has_nothing_that_a_terminal_obeys_and_still_says_it(text: str) -> None:
    shown = safe(text)
    assert all(character in "\t\n" or unicodedata.category(character) != "Cc" for character in shown)
    assert not set(shown) & set("\u061c\u200e\u200f\u202e\u2066\u2028\u2029")
    shown.encode()
    if text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [(None, ""), (0, "0s"), (999, "0s"), (45_000, "45s"), (60_000, "1m"), (200_000, "3m 20s"), (7_500_000, "2h 5m"),
     (7_200_000, "2h"), (86_400_000 * 6 + 3_600_000, "6d 1h"), (-5, "0s")],
)  # fmt: skip
def test_ages_have_two_units_at_most(milliseconds: int | None, expected: str) -> None:
    assert age(milliseconds) == expected


def test_counts_agree_with_their_nouns() -> None:
    assert [plural(count, "queue") for count in (0, 1, 2, 12_345)] == [
        "0 queues",
        "1 queue",
        "2 queues",
        "12,345 queues",
    ]

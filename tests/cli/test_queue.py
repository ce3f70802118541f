from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventfn.engine.contract import Claim, Message
from eventfn.trigger import QueueMessage
from tests.api.fake_node import FakeNode
from tests.cli.conftest import Eventfn


def test_list_shows_depths_and_whose_failures_a_queue_holds(run: Eventfn, node: FakeNode) -> None:
    lines = run("queue", "list").stdout.splitlines()
    assert lines[0].split() == [
        "queue",
        "visible",
        "in",
        "flight",
        "delayed",
        "oldest",
        "holds",
        "what",
        "failed",
        "of",
    ]
    assert [line.split() for line in lines[1:]] == [
        ["work", "0", "0", "0"],
        ["dead-letters", "2", "0", "0", "fn:hello"],
    ]
    assert [queue["name"] for queue in json.loads(run("queue", "list", "--json").stdout)] == ["work", "dead-letters"]


def test_peek_shows_body_attributes_receives_and_error(run: Eventfn, node: FakeNode) -> None:
    attributes = {"eventfn.origin": "fn:hello", "ErrorMessage": "boom"}
    node.messages = [
        Message(Claim("q/x", 4, 1), "m4", b'{"a": "\x1b[31m"}', attributes, 1, 2, 5, 6, 7),
        Message(Claim("q/x", 5, 1), "m5", b"two", {}, 1, 1, 5, 6, 4_000_000_000_000, group="g", last_error="late"),
    ]
    shown = run("queue", "peek", "dead-letters", "-n", "2", "--after", "3")
    assert node.calls == [{"queue": "dead-letters", "limit": 2, "after": 3}]
    first, second = shown.stdout.split("\n\n")[:2]
    assert "#4  m4" in first
    assert "received 2 times" in first
    assert "  ErrorMessage: boom\n  eventfn.origin: fn:hello\n" in first
    assert '  {"a": "\\x1b[31m"}' in first
    assert "error:" not in first, "the attribute says it already"
    assert "group g  visible in " in second
    assert "  error: late\n  two" in second
    assert shown.stderr == "perhaps there are more: --after 5\n"


def test_an_empty_queue_is_said_to_be(run: Eventfn, node: FakeNode) -> None:
    assert run("queue", "peek", "work").stdout == "no messages\n"
    assert run("queue", "peek", "work", "--json").stdout == "[]\n"


def test_send_takes_text_a_file_or_standard_input(run: Eventfn, node: FakeNode, folder: Path) -> None:
    (folder / "body.txt").write_text("of a file")
    assert run("queue", "send", "work", "-m", "é").stdout == "sent: message-1\n"
    run("queue", "send", "work", "body.txt", "--group", "g", "--dedupe-key", "d", "--delay", "1m")
    run("queue", "send", "work", "-", input=b"of stdin")
    assert json.loads(run("queue", "send", "work", "-m", "x", "--json").stdout) == {"id": "message-1"}
    assert [call["message"] for call in node.calls] == [
        QueueMessage("é".encode()),
        QueueMessage(b"of a file", delay=60, group="g", dedupe_key="d"),
        QueueMessage(b"of stdin"),
        QueueMessage(b"x"),
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give either -m TEXT or a FILE"),
        (["-m", "x", "body.txt"], "give either -m TEXT or a FILE"),
        (["-m", "x", "--delay", "soon"], "expected a duration such as"),
        (["-m", "x", "--delay", "16m"], "Could not parse request body"),
        (["absent.txt"], "absent.txt: no such file; a message that is no file is given with -m"),
        (["binary"], "binary is not UTF-8 text"),
    ],
)
def test_a_message_that_cannot_be_sent_is_told(
    run: Eventfn, node: FakeNode, folder: Path, arguments: list[str], told: str
) -> None:
    (folder / "binary").write_bytes(b"\xff")
    result = run("queue", "send", "work", *arguments)
    assert result.exit_code in (1, 2)
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
    assert node.calls == []


def test_redrive_says_what_went_back_and_what_had_to_stay(run: Eventfn, node: FakeNode) -> None:
    result = run("queue", "redrive", "dead-letters", "-n", "5")
    assert (result.exit_code, result.stdout) == (1, "sent back 3 messages\n")
    assert result.stderr == "kept m4: it does not say where it came from\n"
    assert node.calls == [{"queue": "dead-letters", "limit": 5}]


def test_purge_is_not_done_unless_somebody_said_so(run: Eventfn, node: FakeNode) -> None:
    result = run("queue", "purge", "work", input=b"y\n")
    assert (result.exit_code, node.calls) == (2, [])
    assert "--yes" in result.stderr
    assert run("queue", "purge", "work", "--yes").stdout == "dropped 2 messages\n"
    assert node.calls == [{"queue": "work"}]


@pytest.mark.parametrize(("answer", "calls"), [(b"y\n", [{"queue": "work"}]), (b"n\n", []), (b"", [])])
def test_purge_asks_on_a_terminal(
    run: Eventfn, node: FakeNode, monkeypatch: pytest.MonkeyPatch, answer: bytes, calls: list[object]
) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True, raising=False)
    result = run("queue", "purge", "work", input=answer)
    assert node.calls == calls
    assert result.exit_code == (0 if calls else 130)


def test_an_unknown_queue_is_told_with_the_nearest(run: Eventfn, node: FakeNode) -> None:
    result = run("queue", "peek", "dead-leters")
    assert (result.exit_code, node.calls) == (1, [])
    assert result.stderr == "error: Queue not found: dead-leters (did you mean 'dead-letters'?)\n"

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventfn.errors import ShuttingDown
from eventfn.event import Outcome, OutcomeKind
from tests.api.fake_node import FakeNode
from tests.cli.conftest import Eventfn

TROUBLE = json.dumps(
    {"errorType": "ValueError", "errorMessage": "no \x1b[2J", "requestId": "1", "stackTrace": ['  File "x.py"\n']}
).encode()


def test_the_answer_is_printed_as_the_function_gave_it(run: Eventfn, node: FakeNode) -> None:
    result = run("invoke", "hello")
    assert (result.exit_code, result.stdout, result.stderr) == (0, '{"message": "hi"}\n', "")
    assert node.calls[0]["payload"] == b"{}"


def test_the_event_comes_from_a_file_standard_input_or_the_line(run: Eventfn, node: FakeNode, folder: Path) -> None:
    (folder / "event.json").write_text('{"from": "file"}')
    run("invoke", "hello", "-e", "event.json")
    run("invoke", "hello", "-e", "-", input=b'{"from": "stdin"}')
    run("invoke", "hello", "-e", '{"from": "line"}')
    run("invoke", "hello", "-e", '"text"')
    run("invoke", "hello", "-e", "5")
    payloads = [call["payload"] for call in node.calls]
    assert payloads == [b'{"from": "file"}', b'{"from": "stdin"}', b'{"from": "line"}', b'"text"', b"5"]


def test_an_error_of_the_function_goes_to_standard_error(run: Eventfn, node: FakeNode) -> None:
    node.outcome = Outcome(OutcomeKind.FUNCTION_ERROR, TROUBLE)
    result = run("invoke", "hello")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == 'ValueError: no \\x1b[2J\n  File "x.py"\n'


def test_a_module_that_is_not_there_comes_with_the_key_that_brings_it(run: Eventfn, node: FakeNode) -> None:
    missing = b"""{"errorType": "Runtime.ImportModuleError", "errorMessage": "Unable to import module 'f': %s"}"""
    node.outcome = Outcome(OutcomeKind.FUNCTION_ERROR, missing % b"No module named 'requests'")
    told = run("invoke", "hello").stderr
    assert told.startswith("Runtime.ImportModuleError: Unable to import module 'f': No module named 'requests'\n    ")
    assert "`requirements`" in told
    node.outcome = Outcome(OutcomeKind.FUNCTION_ERROR, missing % b"cannot import name 'x' from 'y'")
    assert "`requirements`" not in run("invoke", "hello").stderr


def test_an_error_object_of_another_shape_is_shown_as_it_is(run: Eventfn, node: FakeNode) -> None:
    node.outcome = Outcome(OutcomeKind.FUNCTION_ERROR, b'["oops"]')
    result = run("invoke", "hello")
    assert (result.exit_code, result.stderr) == (1, 'error: the function failed: ["oops"]\n')


@pytest.mark.parametrize(
    ("kind", "payload", "function_error"),
    [(OutcomeKind.SUCCESS, b'{"a": 1}', None), (OutcomeKind.FUNCTION_ERROR, TROUBLE, "Unhandled")],
)
def test_json_is_one_object(
    run: Eventfn, node: FakeNode, kind: OutcomeKind, payload: bytes, function_error: str | None
) -> None:
    node.outcome = Outcome(kind, payload, duration_ms=12.5, log_tail=b"START\nEND\n")
    result = run("invoke", "hello", "--json")
    assert result.exit_code == int(function_error is not None)
    told = json.loads(result.stdout)
    assert told.pop("request_id") == node.calls[0]["request_id"]
    assert told == {
        "status_code": 200,
        "function_error": function_error,
        "payload": json.loads(payload),
        "log_tail": "START\nEND\n",
        "duration": 12.5,
    }


def test_the_log_is_shown_beside_the_answer(run: Eventfn, node: FakeNode) -> None:
    node.outcome = Outcome(OutcomeKind.SUCCESS, b"1", log_tail=b"START\n\x1b]0;title\x07\n")
    result = run("invoke", "hello", "--log")
    assert (result.stdout, result.stderr) == ("1\n", "START\n\\x1b]0;title\\x07\n")


def test_async_says_the_id_under_which_it_was_accepted(run: Eventfn, node: FakeNode) -> None:
    result = run("invoke", "hello", "--async")
    assert (result.exit_code, result.stdout) == (0, f"accepted: {node.calls[0]['request_id']}\n")
    told = json.loads(run("invoke", "hello", "--async", "--json").stdout)
    assert (told["status_code"], told["payload"], told["request_id"]) == (202, None, node.calls[1]["request_id"])


def test_an_unknown_function_is_told_with_the_nearest(run: Eventfn, node: FakeNode) -> None:
    result = run("invoke", "helo")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: Function not found: ")
    assert "(did you mean 'hello'?)" in result.stderr


def test_a_refusal_is_one_line_and_in_json_an_object_too(run: Eventfn, node: FakeNode) -> None:
    node.outcome = Outcome(OutcomeKind.THROTTLED, b"", error_message="ConcurrentInvocationLimitExceeded", retry_after=2)
    result = run("invoke", "hello", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["status_code"] == 429
    assert result.stderr == "error: Rate Exceeded. (ConcurrentInvocationLimitExceeded) Try again in 2 s.\n"
    node.error = ShuttingDown("the node is stopping")
    assert run("invoke", "hello").stderr == "error: the node is stopping Try again in 5 s.\n"


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ("absent.json", "absent.json: no such file, and no JSON"),
        ("NaN", "NaN: no such file, and no JSON"),
        ('{"a": NaN}', "the event is not JSON: NaN"),
        ("bad.json", "bad.json is not JSON: "),
        ("{no", "the event is not JSON: "),
        (".", ".: Is a directory"),
        ("binary", "binary is not JSON: "),
    ],
)
def test_an_event_that_is_none_is_told_before_anything_is_sent(
    run: Eventfn, node: FakeNode, folder: Path, event: str, told: str
) -> None:
    (folder / "bad.json").write_text("{")
    (folder / "binary").write_bytes(b"\xff\xfe\xff")
    result = run("invoke", "hello", "-e", event)
    assert result.exit_code in (1, 2)
    assert result.stderr.startswith(f"error: {told}")
    assert node.calls == []


def test_without_a_node_it_says_how_to_start_one(run: Eventfn, folder: Path) -> None:
    result = run("invoke", "hello", "--data", "elsewhere")
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: no node is running on {folder}/elsewhere: start one with 'eventfn run', "
        "or name its data folder with --data\n"
    )


def test_a_node_that_was_killed_is_no_node(run: Eventfn, folder: Path) -> None:
    from eventfn.observe import node_file
    from tests.observe.test_node_file import a_pid_that_is_gone, node

    (folder / ".eventfn").mkdir()
    node_file.write(folder / ".eventfn", node(a_pid_that_is_gone()))
    assert "no node is running" in run("status").stderr


def test_the_data_folder_is_the_one_that_the_project_declares(run: Eventfn, node: FakeNode, folder: Path) -> None:
    (folder / ".eventfn").rename(folder / "moved")
    (folder / "hello.py").write_text("def handler(event, context): ...")
    (folder / "eventfn.toml").write_text('data = "moved"\n[functions.hello]\nhandler = "hello.handler"\n')
    assert run("invoke", "hello").exit_code == 0

"""Each lesson is run as its README says, on its real input."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support import RunningNode, command, running_node, until

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def lesson(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the lesson that the test names, so that the checkout stays as it is."""
    copy = tmp_path / "lesson"
    shutil.copytree(
        EXAMPLES / request.param,
        copy,
        ignore=shutil.ignore_patterns(".eventfn", "inbox", "outbox", "seen", "reports", "invoices"),
    )
    return copy


def in_lesson(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("lesson", [name], indirect=True, ids=[name])


async def peeked(node: RunningNode, queue: str) -> list[Any]:
    found: list[Any] = await node.json("GET", f"/queues/{queue}/messages")
    return found


LESSONS = ["01_hello", "02_thumbnails", "03_webhooks", "04_report", "05_orders"]


@pytest.mark.parametrize("name", LESSONS)
def test_every_lesson_checks_out(name: str) -> None:
    checked = command("check", str(EXAMPLES / name))

    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.startswith("ok: ")


@in_lesson("01_hello")
async def test_hello_answers_over_http_and_to_the_command(lesson: Path, tmp_path: Path) -> None:
    async with running_node(lesson, tmp_path / "data") as node:
        status, body = await node.fetch("GET", "/hello?name=Ada")
        invoked = command(
            "invoke", "hello", "--data", str(node.data), "-e", '{"queryStringParameters": {"name": "Bob"}}'
        )
        code = await node.stop()

    assert (status, json.loads(body)) == (200, {"message": "Hello, Ada"})
    assert json.loads(invoked.stdout) == {"message": "Hello, Bob"}
    assert code == 0


@in_lesson("02_thumbnails")
async def test_photographs_become_thumbnails_and_half_a_one_is_kept_until_the_function_is_mended(
    lesson: Path, tmp_path: Path
) -> None:
    photographs = sorted((lesson / "photographs").glob("*.jpg"))
    outbox = lesson / "outbox"
    async with running_node(lesson, tmp_path / "data", "--watch") as node:
        await until((lesson / "inbox").exists, "the inbox is made")
        for photograph in photographs:
            shutil.copy(photograph, lesson / "inbox" / photograph.name)
        rocket = (lesson / "photographs" / "rocket.jpg").read_bytes()
        (lesson / "inbox" / "half.jpg").write_bytes(rocket[:20_000])

        await until(lambda: all((outbox / each.name).exists() for each in photographs), "three thumbnails")
        (dead,) = await until(lambda: peeked(node, "thumbnails-dead"), "half a photograph among the dead letters")
        record = json.loads(dead["body"])
        assert not (outbox / "half.jpg").exists()

        code = lesson / "functions" / "thumbnail" / "thumbnail.py"
        code.write_text(
            code.read_text().replace("import Image, ImageOps", "import Image, ImageFile, ImageOps")
            + "\n\nImageFile.LOAD_TRUNCATED_IMAGES = True\n"
        )
        await until(lambda: "changed" in node.log.read_text(), "the node has noticed that the function was mended")
        redriven = command("queue", "redrive", "thumbnails-dead", "--data", str(node.data))
        await until((outbox / "half.jpg").exists, "the rest of the photograph has its thumbnail")
        left = await peeked(node, "thumbnails-dead")

    for photograph in photographs:
        with Image.open(photograph) as before, Image.open(outbox / photograph.name) as after:
            assert max(after.size) == 256
            assert after.width * before.height == pytest.approx(after.height * before.width, rel=0.01)
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 2
    assert record["responsePayload"]["errorType"] == "OSError"
    assert "truncated" in record["responsePayload"]["errorMessage"]
    assert redriven.returncode == 0, redriven.stderr
    assert left == []


@in_lesson("03_webhooks")
async def test_webhooks_are_accepted_checked_and_handed_on(lesson: Path, tmp_path: Path) -> None:
    payloads = sorted((lesson / "payloads").glob("*.json"))
    deliveries = lesson / "deliveries.jsonl"

    def delivered() -> list[Any]:
        return list(map(json.loads, deliveries.read_text().splitlines())) if deliveries.exists() else []

    async with running_node(lesson, tmp_path / "data") as node:
        url = f"--url={node.http}/github"
        sent = subprocess.run(
            [sys.executable, "send.py", url, *map(str, payloads)],
            cwd=lesson,
            capture_output=True,
            text=True,
            check=True,
        )
        forged = subprocess.run(
            [sys.executable, "send.py", url, "--secret", "wrong", "payloads/push.json"],
            cwd=lesson,
            capture_output=True,
            text=True,
            check=True,
        )
        await until(lambda: len(delivered()) == len(payloads), "every delivery is handed on")
        (rejected,) = await until(lambda: peeked(node, "webhooks-rejected"), "the forged one is rejected")

    assert [line.split()[0] for line in sent.stdout.splitlines()] == ["202"] * len(payloads)
    assert forged.stdout.startswith("202 ")
    assert {record["responsePayload"]["event"] for record in delivered()} == {each.stem for each in payloads}
    assert {record["responsePayload"]["sender"] for record in delivered()} == {"Codertocat"}
    record = json.loads(rejected["body"])
    assert record["responsePayload"]["errorType"] == "PermissionError"
    assert record["requestContext"]["approximateInvokeCount"] == 1


@pytest.mark.timeout(200)
@in_lesson("04_report")
async def test_log_lines_are_worked_off_and_reported_by_the_clock(lesson: Path, tmp_path: Path) -> None:
    lines = (lesson / "dpkg.log").read_text().splitlines()
    report = lesson / "reports" / "report.json"

    def counted() -> Any:
        return json.loads(report.read_text()) if report.exists() else {"lines": 0}

    async with running_node(lesson, tmp_path / "data") as node:
        sent = command("queue", "send", "lines", str(lesson / "dpkg.log"), "--lines", "--data", str(node.data))
        assert sent.returncode == 0, sent.stderr
        await node.json("POST", "/queues/lines/messages", json={"body": "not a log line"})
        # The clock ticks on the minute: nobody calls the report here.
        await until(lambda: counted()["lines"] == len(lines), "the report counts every line", patience=150)

    assert counted()["time"].endswith(":00Z")
    assert sum(counted()["actions"].values()) == len(lines)
    assert counted()["actions"]["status"] == sum(line.split()[2] == "status" for line in lines)


@in_lesson("05_orders")
async def test_orders_reach_whoever_has_a_rule_for_them(lesson: Path, tmp_path: Path) -> None:
    async with running_node(lesson, tmp_path / "data") as node:
        for name in ("small", "large"):
            order = (lesson / f"{name}.json").read_bytes()
            status, _ = await node.fetch("POST", "/orders", data=order, headers={"content-type": "application/json"})
            assert status == 202
        invoices = lesson / "invoices"
        await until(lambda: len(list(invoices.glob("*.txt"))) == 2, "both orders have an invoice")
        (review,) = await until(lambda: peeked(node, "review"), "the large one is to be reviewed")

    assert (invoices / "A-1002.txt").read_text().endswith("Total: 1440\n")
    assert json.loads(review["body"]) == "order A-1002 is worth 1440"

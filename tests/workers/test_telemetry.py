"""Telemetry: what an extension subscribes to is brought to where it listens, in the sandbox's own network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventfn.testing.clock import FakeClock

from .conftest import Workbench
from .test_extensions import layer, python

# Prints what arrives, an event a line. `subscribe(wish)` is with its defaults what most agents do.
SUBSCRIBES = """
import http.server, threading

class Listener(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        for event in json.loads(self.rfile.read(int(self.headers["Content-Length"]))):
            if event["type"] != "extension":  # or what is printed here would come back for ever
                print("EVENT", json.dumps(event), flush=True)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *arguments): pass

listener = http.server.HTTPServer(("sandbox.localdomain", 8080), Listener)
threading.Thread(target=listener.serve_forever, daemon=True).start()

def subscribe(identity, path="/2022-07-01/telemetry", **changed):
    wish = {"schemaVersion": "2022-12-13", "types": ["platform", "function"],
            "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/some/path"},
            "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25}} | changed
    api.request("PUT", path, json.dumps(wish), identity)
    answer = api.getresponse()
    print("subscribed", answer.status, answer.read().decode(), flush=True)
"""
HANDLER = "def handler(event, context):\n    print('handler says', event)\n    return event"


def told(bench: Workbench) -> list[tuple[str, object]]:
    events = [json.loads(line.removeprefix("EVENT ")) for line in bench.sink.messages() if line.startswith("EVENT ")]
    return [(event["type"], event["record"]) for event in events]


async def test_an_invocation_is_told_from_its_start_to_its_report(bench: Workbench, tmp_path: Path) -> None:
    agent = SUBSCRIBES + "identity = register()\nsubscribe(identity)\nfor event in events(identity): pass"
    python(bench, tmp_path, HANDLER, **layer(bench, tmp_path, agent=agent))
    outcome = await bench.invoke("fn", 1)
    assert outcome.ok, outcome
    assert await bench.sink.saw("subscribed 200")
    await bench.invoke("fn", 2)  # what came last of the first is delivered now at the latest
    await bench.sink.saw('"platform.report"')
    kinds = [kind for kind, _ in told(bench)]
    expected = [
        "platform.initStart", "platform.telemetrySubscription", "platform.initRuntimeDone", "platform.extension",
        "platform.initReport", "platform.start", "function", "platform.runtimeDone", "platform.report",
    ]  # fmt: skip
    assert [kind for kind in kinds if kind in expected][:9] == expected
    assert "platform.end" not in kinds
    facts = dict(reversed(told(bench)))
    assert facts["platform.start"] == {"requestId": outcome.request_id, "version": "$LATEST"}
    assert facts["function"] == "handler says 1"
    report = facts["platform.report"]
    assert isinstance(report, dict)
    assert (report["requestId"], report["status"]) == (outcome.request_id, "success")
    assert report["metrics"]["memorySizeMB"] == 128


async def test_the_older_logs_api_has_events_of_its_own(bench: Workbench, tmp_path: Path) -> None:
    agent = SUBSCRIBES + (
        "identity = register()\nsubscribe(identity, '/2020-08-15/logs', schemaVersion='2021-03-18')\n"
        "subscribe(identity)\nfor event in events(identity): pass"
    )
    python(bench, tmp_path, HANDLER, **layer(bench, tmp_path, agent=agent))
    await bench.invoke("fn", 1)
    assert await bench.sink.saw("subscribed 200")
    assert "exclude each other" in await bench.sink.saw("subscribed 400")
    await bench.invoke("fn", 2)
    await bench.sink.saw('"platform.end"')
    kinds = [kind for kind, _ in told(bench)]
    assert "platform.initStart" not in kinds
    assert kinds[:2] == ["platform.logsSubscription", "platform.extension"]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ("schemaVersion='1999-01-01'", "schemaVersion 1999-01-01 is not supported"),
        ("types=['everything']", "everything"),
        ("destination={'protocol': 'HTTP', 'URI': 'http://10.0.0.1:8080'}", "expected protocol HTTP and a URI"),
        ("destination={'protocol': 'TCP', 'URI': 'http://sandbox:8080'}", "expected protocol HTTP and a URI"),
        ("buffering={'timeoutMs': 1}", "timeoutMs"),
    ],
)
async def test_a_wish_that_cannot_be_met_is_refused(bench: Workbench, tmp_path: Path, changed: str, text: str) -> None:
    agent = SUBSCRIBES + f"identity = register()\nsubscribe(identity, {changed})\nfor event in events(identity): pass"
    python(bench, tmp_path, HANDLER, **layer(bench, tmp_path, agent=agent))
    await bench.invoke("fn", 1)
    assert text in await bench.sink.saw("subscribed 400")


async def test_what_is_left_comes_before_the_end(timeless: Workbench, fake_clock: FakeClock, tmp_path: Path) -> None:
    slow = "buffering={'timeoutMs': 30000}"
    agent = SUBSCRIBES + (
        f"identity = register()\nsubscribe(identity, {slow})\nfor event in events(identity): pass\ntime.sleep(1)"
    )
    python(timeless, tmp_path, HANDLER, **layer(timeless, tmp_path, agent=agent))
    await timeless.invoke("fn", 1)
    await timeless.sink.saw("END")
    assert not told(timeless)
    await fake_clock.advance(301)
    await timeless.sink.saw('"platform.report"')


async def test_nobody_listens_and_nothing_is_held_up(bench: Workbench, tmp_path: Path) -> None:
    agent = (
        SUBSCRIBES
        + "identity = register()\nlistener.server_close()\nsubscribe(identity)\n"
        + ("for event in events(identity): pass")
    )
    python(bench, tmp_path, HANDLER, **layer(bench, tmp_path, agent=agent))
    for number in range(20):
        assert (await bench.invoke("fn", number)).ok

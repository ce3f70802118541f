from __future__ import annotations

import json
from typing import Any

from eventfn.workers.child.events import HttpEvents

MODEL: dict[str, Any] = {
    "headers": {"host": "a"},
    "cookies": ["a=1"],
    "queryStringParameters": {"q": "1"},
    "requestContext": {"http": {"method": "POST"}, "requestId": "", "time": "", "timeEpoch": 0},
    "pathParameters": {"id": "1"},
    "body": "",
    "isBase64Encoded": False,
}


def expected(number: int) -> dict[str, Any]:
    own = {"requestId": f"id-{number}", "time": f"t-{number}", "timeEpoch": number}
    return MODEL | {"requestContext": MODEL["requestContext"] | own, "body": f"body {number}"}


def spoil(value: Any) -> None:
    """Changes it as deep as it goes."""
    if value.__class__ is list:
        value.append("spoiled")
    elif value.__class__ is dict:
        for inner in value.values():
            spoil(inner)
        value["spoiled"] = True


def test_what_a_handler_does_to_its_event_is_not_in_the_next_one() -> None:
    events, payload = HttpEvents(), json.dumps(MODEL).encode()
    for number in range(3):
        event = events.event(payload, f"body {number}", f"id-{number}", f"t-{number}", number)
        assert event == expected(number)
        spoil(event)


def test_any_number_of_different_heads_and_long_ones() -> None:
    events = HttpEvents()
    for number in [*range(100), *range(100)]:
        payload = json.dumps(MODEL | {"headers": {"n": str(number), "long": "x" * 1000 * (number % 20)}}).encode()
        event = events.event(payload, f"body {number}", f"id-{number}", f"t-{number}", number)
        assert event == expected(number) | {"headers": json.loads(payload)["headers"]}

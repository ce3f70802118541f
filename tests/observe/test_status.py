from __future__ import annotations

import msgspec
import pytest

from eventfn.observe.status import summary


class Settings(msgspec.Struct):
    path: str
    method: str = "ANY"
    events: list[str] = msgspec.field(default_factory=lambda: ["ObjectCreated:*"])
    is_async: bool = msgspec.field(default=False, name="async")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings("/hello"), "path=/hello"),
        (Settings("/hello", "GET"), "path=/hello method=GET"),
        (Settings("/hello", is_async=True), "path=/hello async=true"),
        (Settings("in", events=["x", "y"]), 'path=in events=["x", "y"]'),
        (Settings("https://a/b?topic=c&token=s3cret"), "path=https://a/b?topic=***&token=***"),
        (Settings("amqp://me:s3cret@a/b"), "path=amqp://me:***@a/b"),
    ],
)
def test_a_summary_shows_what_differs_from_the_defaults(settings: Settings, expected: str) -> None:
    assert summary(settings) == expected

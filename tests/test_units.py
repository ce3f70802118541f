from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.units import recognisable, without_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/stream", "https://example.com/stream"),
        ("wss://example.com:8443/a?token=s3cret", "wss://example.com:8443/a?token=***"),
        ("https://example.com/?a=1&token=s3cret&s3cret", "https://example.com/?a=***&token=***&***"),
        ("amqp://me:s3cret@host/v", "amqp://me:***@host/v"),
        ("amqp://me@host", "amqp://me@host"),
        ("queue:orders?x=1", "queue:orders?x=1"),  # no URL either
        ("http://[::1/", "http://[::1/"),  # no URL: refused elsewhere
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


@given(st.text(alphabet=st.characters(codec="ascii", exclude_characters="*/?#@:=&[]")))
def test_no_value_of_a_query_is_left(text: str) -> None:
    secret = f"s3cret{text}"
    assert secret not in without_secrets(f"https://h/p?q={secret}&r={secret}")


def test_two_urls_that_differ_only_in_their_secrets_are_told_apart() -> None:
    shown = {recognisable(f"https://h/p?token={token}") for token in ("s3cret", "other")}
    assert len(shown) == 2
    assert all(each.startswith("https://h/p?token=***#") for each in shown)
    assert recognisable("https://h/p?token=s3cret") in shown
    assert recognisable("https://h/p") == "https://h/p"

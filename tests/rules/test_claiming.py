"""How many events are claimed before they have a place."""

from __future__ import annotations

import pytest

from eventfn.rules.claiming import ClaimAhead


def test_nothing_is_claimed_ahead_before_anything_has_run() -> None:
    assert ClaimAhead().events(32) == 0


@pytest.mark.parametrize(
    ("seconds", "places", "events"),
    [
        (0.0, 1, ClaimAhead.MOST),
        (0.001, 32, ClaimAhead.MOST),
        (0.01, 1, 5),
        (0.01, 4, 20),
        (0.1, 4, 2),
        (0.1, 1, 0),
        (10.0, 32, 0),
    ],
)
def test_as_many_as_begin_soon(seconds: float, places: int, events: int) -> None:
    ahead = ClaimAhead()
    ahead.took(seconds)
    assert ahead.events(places) == events


def test_a_slow_event_is_remembered_for_a_while() -> None:
    ahead = ClaimAhead()
    ahead.took(10)
    for _ in range(50):
        ahead.took(0.001)
    assert ahead.events(4) == 0
    for _ in range(500):
        ahead.took(0.001)
    assert ahead.events(4) == ClaimAhead.MOST

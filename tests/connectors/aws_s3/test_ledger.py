"""What the ledger makes of listings."""

from __future__ import annotations

from eventfn_aws.s3.ledger import Change, Entry, Ledger, State

A, B = State("e1", 1, 1000), State("e2", 1, 1000)


def pages(ledger: Ledger, *shown: tuple[str, State], now_ms: int = 5) -> list[Change]:
    """The changes that one listing shows."""
    ledger.begin()
    return ledger.see(shown, now_ms) + ledger.missing(now_ms, 100)


def announced(ledger: Ledger, *shown: tuple[str, State], now_ms: int = 5) -> list[tuple[str, bool]]:
    """(key, whether it is there), all kept."""
    found = pages(ledger, *shown, now_ms=now_ms)
    for change in found:
        ledger.hand_out(change.key)
        ledger.keep(change)
    return [(change.key, change.entry is not None) for change in found]


def test_an_object_is_announced_once_for_each_time_that_it_is_written() -> None:
    ledger = Ledger()
    assert announced(ledger, ("a", A)) == [("a", True)]
    assert announced(ledger, ("a", A)) == []
    assert announced(ledger, ("a", B)) == [("a", True)]
    assert announced(ledger, ("a", State("e2", 1, 2000))) == [("a", True)]


def test_what_is_not_shown_any_more_is_gone_once() -> None:
    ledger = Ledger()
    announced(ledger, ("a", A), ("b", B))
    assert announced(ledger, ("b", B)) == [("a", False)]
    assert announced(ledger, ("b", B)) == []
    assert announced(ledger, ("a", A), ("b", B)) == [("a", True)]


def test_what_is_in_hand_is_left_alone_until_it_is_settled() -> None:
    ledger = Ledger()
    (change,) = pages(ledger, ("a", A))
    ledger.hand_out("a")
    assert pages(ledger, ("a", B)) == []
    ledger.keep(change)
    assert announced(ledger, ("a", B)) == [("a", True)]


def test_what_was_given_back_is_found_again() -> None:
    ledger = Ledger()
    (first,) = pages(ledger, ("a", A))
    ledger.hand_out("a")
    ledger.give_back("a")
    (again,) = pages(ledger, ("a", A))
    assert (again.key, again.was) == (first.key, None)
    announced(ledger, ("a", A))
    (removal,) = pages(ledger)
    ledger.hand_out("a")
    assert pages(ledger) == []
    ledger.give_back("a")
    assert [change.key for change in pages(ledger)] == [removal.key]


def test_a_listing_that_was_broken_off_shows_nothing_as_gone() -> None:
    ledger = Ledger()
    announced(ledger, ("a", A), ("b", B))
    ledger.begin()
    assert ledger.see([("a", A)], 5) == []
    ledger.load({"a": Entry(A, 1).encode(), "b": Entry(B, 2).encode()})
    assert ledger.missing(5, 100) == []


def test_a_new_object_that_is_settled_in_mid_listing_is_not_gone() -> None:
    ledger = Ledger()
    (change,) = pages(ledger, ("a", A))
    ledger.hand_out("a")
    ledger.begin()
    ledger.keep(change)
    assert ledger.see([("a", A)], 5) == []
    assert ledger.missing(5, 100) == []


def test_sequences_grow_although_the_clock_was_set_back() -> None:
    ledger = Ledger()
    (first,) = pages(ledger, ("a", A), now_ms=1000)
    ledger.keep(first)
    (second,) = pages(ledger, ("a", B), now_ms=10)
    ledger.keep(second)
    (gone,) = pages(ledger, now_ms=10)
    restarted = Ledger()
    assert second.entry is not None
    restarted.load({"a": second.entry.encode()})
    (third,) = pages(restarted, ("a", A), now_ms=10)
    assert first.sequence < second.sequence < third.sequence
    assert gone.sequence > second.sequence


def test_what_is_gone_is_told_in_pieces() -> None:
    ledger = Ledger()
    keys = {f"{number}" for number in range(5)}
    announced(ledger, *((key, A) for key in keys))
    ledger.begin()
    pieces = [ledger.missing(5, 2), ledger.missing(5, 2), ledger.missing(5, 2), ledger.missing(5, 2)]
    assert [len(piece) for piece in pieces] == [2, 2, 1, 0]
    assert {change.key for piece in pieces for change in piece} == keys

"""What is to be announced, decided without a disk."""

from __future__ import annotations

import itertools
import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from eventfn_files.ledger import (
    LOOK_AT_LEAST,
    UNSURE_QUIET,
    Busy,
    Change,
    Entry,
    Gone,
    Ledger,
    Look,
    Stamp,
    Unreadable,
    Whole,
)

A = Stamp(size=10, mtime_ns=100, ino=1, ctime_ns=100)
GROWN = Stamp(size=20, mtime_ns=200, ino=1, ctime_ns=200)
TOUCHED = Stamp(size=10, mtime_ns=200, ino=1, ctime_ns=200)
CHMOD = Stamp(size=10, mtime_ns=100, ino=1, ctime_ns=200)
MOVED_DISK = Stamp(size=10, mtime_ns=100, ino=77, ctime_ns=200)
QUIET = 0.5


def ledger(**known: Stamp) -> Ledger:
    return Ledger({name: Entry(stamp, "etag", 5) for name, stamp in known.items()}, QUIET)


def looked(book: Ledger, look: Look, now: float, name: str = "a") -> Change | None:
    """The close look at a file that is due now."""
    assert book.due(now, 10, 10**9) == [name]
    return book.judge(name, look, now, now_ms=1)


def test_a_file_waits_until_it_is_quiet() -> None:
    book = ledger()
    book.observe("a", A, now=0)
    assert book.due(0.4, 10, 10**9) == []
    assert book.next_due == QUIET
    book.observe("a", GROWN, now=0.4)
    assert book.due(0.6, 10, 10**9) == []
    change = looked(book, Whole(GROWN, "etag", sure=True), 0.9)
    assert change == Change("a", Entry(GROWN, "etag", 1000), None, news=True)
    assert book.next_due == math.inf


def test_saying_the_same_again_does_not_make_it_wait_longer() -> None:
    book = ledger()
    for now in (0.0, 0.2, 0.4):
        book.observe("a", A, now)
    assert book.next_due == QUIET


def test_what_was_announced_is_not_due() -> None:
    book = ledger(a=A)
    book.observe("a", A, now=0)
    assert book.next_due == math.inf


def test_what_counts_as_written() -> None:
    for stamp, etag, news in [
        (GROWN, "other", True),
        (TOUCHED, "etag", True),
        (CHMOD, "etag", False),
        (CHMOD, "other", True),  # written with its old time put back
        (MOVED_DISK, "etag", False),
        (MOVED_DISK, "other", True),
    ]:
        book = ledger(a=A)
        book.observe("a", stamp, now=0)
        change = looked(book, Whole(stamp, etag, sure=True), 1)
        assert change is not None
        assert change.news is news, (stamp, etag)
        assert change.entry is not None
        assert change.entry.stamp == stamp


def test_an_open_file_is_looked_at_again_less_and_less_often() -> None:
    book = ledger()
    book.observe("a", A, now=0)
    now, pauses = QUIET, []
    for _ in range(8):
        assert looked(book, Busy(), now) is None
        pauses.append(round(book.next_due - now, 3))
        now = book.next_due
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, LOOK_AT_LEAST, LOOK_AT_LEAST, LOOK_AT_LEAST]


def test_without_knowing_who_writes_it_must_be_quiet_for_longer() -> None:
    book = ledger()
    book.observe("a", A, now=0)
    assert looked(book, Whole(A, "etag", sure=False), QUIET) is None
    assert book.next_due == UNSURE_QUIET
    assert looked(book, Whole(A, "etag", sure=False), UNSURE_QUIET) is not None


def test_a_file_that_changed_since_waits_again() -> None:
    book = ledger()
    book.observe("a", A, now=0)
    assert looked(book, Whole(GROWN, "etag", sure=True), 1) is None
    assert book.next_due == 1 + QUIET


def test_a_file_seen_to_change_during_the_look_is_not_announced_by_it() -> None:
    book = ledger()
    book.observe("a", A, now=0)
    assert book.due(1, 10, 10**9) == ["a"]
    book.observe("a", GROWN, now=1)
    assert book.judge("a", Whole(A, "etag", sure=True), 1, 1) is None
    assert looked(book, Whole(GROWN, "etag", sure=True), 1 + QUIET) is not None


def test_a_file_that_came_and_went_is_nothing() -> None:
    book = ledger()
    book.observe("a", A, now=0)
    assert looked(book, Gone(), 1) is None
    assert book.next_due == math.inf


def test_an_unreadable_file_rests_until_it_is_seen_again() -> None:
    book = ledger()
    book.observe("a", A, now=0)
    assert looked(book, Unreadable("no"), 1) is None
    assert book.next_due == math.inf
    book.observe("a", A, now=60)
    assert looked(book, Whole(A, "etag", sure=True), 61) is not None


def test_a_removal_is_a_change_and_a_file_made_again_is_news() -> None:
    book = ledger(a=A)
    book.observe("a", None, now=0)
    change = looked(book, Gone(), 1)
    assert change == Change("a", None, Entry(A, "etag", 5), news=True)
    book.hand_out("a")
    book.keep("a", None)
    book.observe("a", A, now=2)
    again = looked(book, Whole(A, "etag", sure=True), 3)
    assert again is not None
    assert again.news


def test_a_file_replaced_in_two_steps_is_one_change() -> None:
    book = ledger(a=A)
    book.observe("a", None, now=0)
    book.observe("a", GROWN, now=0.1)
    change = looked(book, Whole(GROWN, "other", sure=True), 1)
    assert change is not None
    assert change.entry is not None


def test_a_file_that_was_away_for_a_moment_is_nothing() -> None:
    book = ledger(a=A)
    book.observe("a", None, now=0)
    book.observe("a", A, now=0.1)
    assert book.next_due == math.inf


def test_nothing_is_said_of_a_file_until_it_is_settled() -> None:
    book = ledger()
    book.observe("a", A, now=0)
    change = looked(book, Whole(A, "etag", sure=True), 1)
    assert change is not None
    book.hand_out("a")
    book.observe("a", GROWN, now=2)
    assert book.next_due == math.inf
    book.keep("a", change.entry)
    book.observe("a", GROWN, now=3)
    assert book.next_due == 3 + QUIET


def test_what_the_host_could_not_take_comes_again_after_the_pause() -> None:
    book = ledger()
    book.observe("a", A, now=0)
    change = looked(book, Whole(A, "etag", sure=True), 1)
    assert change is not None
    book.hand_out("a")
    book.retry("a", change.entry, now=1, after=5)
    book.observe("a", A, now=2)
    assert book.next_due == 6
    assert looked(book, Whole(A, "etag", sure=False), 6) is not None  # it was complete already


def test_a_look_that_was_broken_off_is_due_again() -> None:
    book = ledger()
    for name in "abc":
        book.observe(name, A, now=0)
    names = book.due(1, 10, 10**9)
    assert book.judge("a", Gone(), 1, 1) is None
    book.put_back(names, now=2)
    assert sorted(book.due(2, 10, 10**9)) == ["b", "c"]


def test_a_look_is_bounded_in_files_and_in_bytes() -> None:
    book = ledger()
    for number in range(10):
        book.observe(f"{number}", A, now=0)
    assert len(book.due(1, 3, 10**9)) == 3
    assert len(book.due(1, 10, 25)) == 3
    assert len(book.due(1, 10, 1)) == 1


def test_a_rescan_finds_what_vanished_but_not_where_it_could_not_look() -> None:
    book = ledger(**{"a": A, "b": A, "closed/c": A})
    book.vanished({"a"}, lambda name: not name.startswith("closed/"), now=0)
    assert book.due(1, 10, 10**9) == ["b"]


def test_the_files_below_a_folder() -> None:
    book = ledger(**{"x/a": A, "x/y/b": A, "xy/c": A, "d": A})
    assert sorted(book.below({"x"})) == ["x/a", "x/y/b"]


def test_sequences_grow_even_if_the_clock_does_not() -> None:
    book = Ledger({"old": Entry(A, "etag", 9_000_000)}, QUIET)
    sequences: list[int] = []
    for name in "ab":
        book.observe(name, A, now=0)
        change = looked(book, Whole(A, "etag", sure=True), 1, name)
        assert change is not None
        assert change.entry is not None
        sequences.append(change.entry.sequence)
    assert sequences == [9_000_001, 9_000_002]


def test_an_entry_survives_its_journey_to_the_disk() -> None:
    entry = Entry(A, "d41d8cd98f00b204e9800998ecf8427e", 7)
    assert msgspec.json.decode(msgspec.json.encode(entry), type=Entry) == entry


# --- all that can happen, in any order --------------------------------------------------------------------------------


@given(st.data())
def test_in_the_end_the_announcements_tell_what_is_on_the_disk(data: st.DataObject) -> None:
    """A disk of one file is written, removed and touched at random; looks are broken off, hosts refuse. Once all is
    quiet, the last announcement is the state of the disk, and no state was announced twice in a row."""
    book = ledger()
    disk: Stamp | None = None
    kept: Entry | None = None  # what the host has, durably
    announced: list[Stamp | None] = [None]
    version = 0
    now = 0.0

    def announce(refuse: bool) -> None:
        nonlocal kept
        names = book.due(now, 10, 10**9)
        if not names:
            return
        look = Gone() if disk is None else Whole(disk, f"{disk.mtime_ns}", sure=True)
        change = book.judge("a", look, now, 1)
        if change is None:
            return
        book.hand_out("a")
        if refuse:
            book.retry("a", change.entry, now, 1)
        else:
            kept = change.entry
            announced.append(change.entry.stamp if change.entry else None)
            book.keep("a", change.entry)

    for action in data.draw(st.lists(st.sampled_from(["write", "remove", "see", "wait", "look", "refuse", "restart"]))):
        match action:
            case "write":
                version += 1
                disk = Stamp(size=1, mtime_ns=version, ino=1, ctime_ns=version)
            case "remove":
                disk = None
            case "see":
                book.observe("a", disk, now)
            case "wait":
                now += 0.3
            case "look" | "refuse":
                announce(action == "refuse")
            case _:
                book = Ledger({} if kept is None else {"a": kept}, QUIET)
    for _ in range(3):
        book.observe("a", disk, now)
        now += 2
        announce(refuse=False)
    assert announced[-1] == disk
    assert all(before != after for before, after in itertools.pairwise(announced))

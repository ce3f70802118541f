"""The event stream format, by the examples of the standard and by all ways to cut it into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn_sse.parser import Event, EventStreamParser


def parsed(stream: bytes, last: str = "") -> list[tuple[str, str, str]]:
    return [(event.type, event.data, event.last_event_id) for event in EventStreamParser(last).feed(stream)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        # The standard's own examples.
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", "YHOO\n+2\n10", "")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            [("message", "first event", "1"), ("message", "second event", ""), ("message", " third event", "")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [("message", "", ""), ("message", "\n", "")]),
        (b"data:test\n\ndata: test\n\n", [("message", "test", ""), ("message", "test", "")]),
        (b"event: add\ndata: 73857293\n\n", [("add", "73857293", "")]),
        # How lines end.
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [("message", "a", ""), ("message", "b", ""), ("message", "c", "")]),
        (b"data: a\rdata: b\r\ndata: c\n\r\n", [("message", "a\nb\nc", "")]),
        # A byte order mark is one at the very beginning, and nowhere else.
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [("message", "a", "")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        # What is not complete is no event, and what has no data is none.
        (b"data: a\n", []),
        (b"event: add\n\ndata: a\n\n", [("message", "a", "")]),
        (b"id: 7\n\ndata: a\n\n", [("message", "a", "7")]),
        # Fields.
        (b"DATA: a\nData: b\nnonsense: c\n data: d\n\n", []),
        (b"data: a: b\n\n", [("message", "a: b", "")]),
        (b"event: one\nevent: two\ndata: a\n\n", [("two", "a", "")]),
        (b"event:\ndata: a\n\n", [("message", "a", "")]),
        (b"id: 1\ndata: a\n\nid: 2\x003\ndata: b\n\n", [("message", "a", "1"), ("message", "b", "1")]),
        (b"id: 1\ndata: a\n\nid:\ndata: b\n\n", [("message", "a", "1"), ("message", "b", "")]),
        # Text.
        (
            "data: Zoë 東京 \U0001f600 \u2028\x85\x0b\n\n".encode(),
            [("message", "Zoë 東京 \U0001f600 \u2028\x85\x0b", "")],
        ),
        (b"data: \xff\xc3\n\n", [("message", "��", "")]),
    ],
)
def test_the_standard(stream: bytes, expected: list[tuple[str, str, str]]) -> None:
    assert parsed(stream) == expected


def test_an_event_without_an_id_has_the_one_that_was_asked_for() -> None:
    assert parsed(b"data: a\n\n", last="41") == [("message", "a", "41")]


def test_an_event_says_whether_the_id_is_its_own() -> None:
    events = EventStreamParser().feed(b"id: 1\ndata: a\n\ndata: b\n\nid: \x00\ndata: c\n\n")
    assert [event.has_id for event in events] == [True, False, False]


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (b"retry: 1500", 1.5),
        (b"retry:0", 0),
        (b"retry: 1.5", None),
        (b"retry: -1", None),
        (b"retry", None),
        ("retry: ٣".encode(), None),
        (b"retry: 1\nretry: x", 0.001),
    ],
)
def test_how_long_to_wait(line: bytes, seconds: float | None) -> None:
    parser = EventStreamParser()
    parser.feed(line + b"\n")
    assert parser.retry == seconds


PIECES = st.sampled_from(
    [
        *(b"\n", b"\r", b"\r\n", b":", b" ", b"data", b"data: x", b"event: e", b"id: 1", b"id", b"retry: 5"),
        *(b"\0", b"\xef\xbb\xbf", "ü".encode(), b"\xff", b"x"),
    ]
)


@given(st.lists(PIECES, max_size=40), st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_how_it_is_cut_makes_no_difference(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pieces)
    whole = EventStreamParser()
    expected = whole.feed(stream)
    cut = EventStreamParser()
    found: list[Event] = []
    at = 0
    for place in range(len(stream)):
        width = cuts[place % len(cuts)]
        found += cut.feed(stream[at : at + width])
        at += width
    assert found == expected
    assert cut.retry == whole.retry


@given(st.lists(PIECES, max_size=40))
def test_it_reads_what_a_plain_reading_of_the_standard_reads(pieces: list[bytes]) -> None:
    stream = b"".join(pieces)
    assert parsed(stream) == list(by_the_letter(stream.decode(errors="replace")))


def by_the_letter(text: str) -> list[tuple[str, str, str]]:
    """The standard's steps, one after the other, over the whole stream at once."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    events = []
    data = kind = last = ""
    *lines, _ = text.split("\n")
    for line in lines:
        if not line:
            if data:
                events.append((kind or "message", data.removesuffix("\n"), last))
            data = kind = ""
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                kind = value
            elif field == "data":
                data += value + "\n"
            elif field == "id" and "\0" not in value:
                last = value
    return events


@pytest.mark.parametrize(
    "large", [b"data: " + b"x" * 200 + b"\n", b"data: " + b"x" * 60 + b"\ndata: " + b"x" * 60 + b"\n"]
)
def test_what_is_too_large_is_left_out_and_what_follows_is_read(large: bytes) -> None:
    parser = EventStreamParser(largest=100)
    stream = b"id: 1\n" + large + b"\nid: 2\ndata: small\n\n"
    events = [event for at in range(len(stream)) for event in parser.feed(stream[at : at + 1])]
    assert events == [
        Event("message", "", "1", has_id=True, too_large=True),
        Event("message", "small", "2", has_id=True),
    ]


def test_a_long_comment_is_no_large_event() -> None:
    (event,) = EventStreamParser(largest=100).feed(b":" + b"x" * 200 + b"\ndata: a\n\n")
    assert not event.too_large

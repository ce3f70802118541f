from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.event import MAX_SYNC_RESPONSE, Apart, Buffer, Invocation
from eventfn.workers import wire
from eventfn.workers.child import frames
from eventfn.workers.child.inbox import Inbox

small = st.binary(max_size=200)
answers = st.builds(
    wire.Answer,
    kind=st.integers(frames.READY, frames.CHUNK),
    logged=st.integers(0, 1),
    number=st.integers(0, 2**32 - 1),
    peak_kb=st.integers(0, 2**32 - 1),
    took_us=st.integers(0, 2**32 - 1),
    header=st.text(max_size=50),
    payload=small,
    body=small,
)


def sent(answer: wire.Answer) -> bytes:
    return frames.join(
        answer.kind,
        answer.header.encode(),
        answer.payload,
        number=answer.number,
        amount=answer.peak_kb,
        took=answer.took_us,
        flag=answer.logged,
        body=bytes(answer.body),
    )


@given(st.lists(answers, max_size=5), st.data())
def test_answers_survive_any_cutting(given_answers: list[wire.Answer], data: st.DataObject) -> None:
    stream = b"".join(map(sent, given_answers))
    reader = wire.Reader()
    received: list[wire.Answer] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        received += reader.feed(stream[:size])
        stream = stream[size:]
    assert received == given_answers


@given(st.binary(max_size=300))
def test_rubbish_is_a_protocol_error_or_unfinished(rubbish: bytes) -> None:
    reader = wire.Reader()
    with contextlib.suppress(wire.ProtocolError, wire.ResponseTooLarge):
        assert all(isinstance(answer, wire.Answer) for answer in reader.feed(rubbish))


@pytest.mark.parametrize("whole", [True, False])
def test_all_lengths_are_bounded_before_anything_is_kept(whole: bool) -> None:
    def announced(header: int, payload: int, body: int) -> bytes:
        filler = b" " * (header + payload + body) if whole else b""
        return frames.PREFIX.pack(frames.RESULT, 0, 1, 1, 0, header, payload, body) + filler

    with pytest.raises(wire.ProtocolError, match="at most 65536"):
        wire.Reader().feed(announced(frames.MAX_HEADER + 1, 0, 0))
    half = MAX_SYNC_RESPONSE // 2
    for payload, body in ((MAX_SYNC_RESPONSE + 1, 0), (0, MAX_SYNC_RESPONSE + 1), (half, half + 2)):
        with pytest.raises(wire.ResponseTooLarge):
            wire.Reader().feed(announced(0, payload, body))


@pytest.mark.parametrize("kind", [0, frames.INIT, frames.INVOKE, frames.REQUEST, frames.GONE, frames.STANDS + 1, 255])
@pytest.mark.parametrize("size", [frames.SIZE, frames.SIZE + 1])
def test_an_environment_sends_answers_and_nothing_else(kind: int, size: int) -> None:
    with pytest.raises(wire.ProtocolError, match=f"kind {kind}"):
        wire.Reader().feed(frames.join(kind, payload=b"x")[:size])


def read_by_the_child(*pieces: Buffer) -> frames.Frame | None:
    reading, writing = os.pipe()
    try:
        for piece in pieces:
            os.write(writing, piece)
        os.close(writing)
        return Inbox(reading).next()
    finally:
        os.close(reading)


ID, ARN = "id-1", "arn:aws:lambda:x"


@pytest.mark.parametrize("size", [2, 1000, 60_000])
def test_the_child_reads_what_the_supervisor_writes(size: int) -> None:
    payload = b"1" * size
    read = read_by_the_child(*wire.invoke(1, 3000, Invocation(ID, "f", payload, ARN, '{\n"a": 1}', "Root=1")))
    assert read == (frames.INVOKE, 1, 3000, f'{ID}\n{ARN}\nRoot=1\n{{\n"a": 1}}', payload, "")
    apart = Apart(b"2" * 1000, "12/Mar/2020:19:03:58 +0000", 1583348638390)
    read = read_by_the_child(*wire.invoke(2, 3000, Invocation(ID, "f", payload, ARN, apart=apart)))
    header = f"{ID}\n{ARN}\n\n12/Mar/2020:19:03:58 +0000\n1583348638390"
    assert read == (frames.REQUEST, 2, 3000, header, payload, "2" * 1000)


def test_the_child_waits_for_the_rest_of_a_frame_and_knows_the_end_of_the_channel() -> None:
    frame = frames.join(frames.INIT, payload=b"{}")
    assert read_by_the_child(frame[:3], frame[3:20], frame[20:]) == (frames.INIT, 0, 0, "", b"{}", "")
    for size in range(len(frame)):
        assert read_by_the_child(frame[:size]) is None


def test_a_large_body_is_not_copied_into_its_frame() -> None:
    body = b"x" * 100_000
    first, second = wire.invoke(1, 1, Invocation(ID, "f", b"{}", ARN, apart=Apart(body, "", 0)))
    assert second is body
    assert len(first) < 200


def test_the_limit_is_lambdas() -> None:
    assert frames.MAX_PAYLOAD == MAX_SYNC_RESPONSE


def test_a_header_that_is_no_text_breaks_the_protocol_and_nothing_else() -> None:
    with pytest.raises(wire.ProtocolError):
        wire.Reader().feed(frames.join(frames.ERROR, b"\xff\xfe", b"{}"))

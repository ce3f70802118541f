from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.event import MAX_SYNC_RESPONSE
from eventfn.workers import wire
from eventfn.workers.child import frames

answers = st.one_of(
    st.builds(wire.Ready),
    st.builds(wire.NeverStarted, st.text()),
    st.builds(wire.InitError, st.text(), st.text()),
    st.builds(wire.Result, st.integers(0, 2**31), st.integers(0, 2**31)),
    st.builds(wire.Error, st.integers(0, 2**31), st.integers(0, 2**31), st.text(), st.text()),
)


@given(st.lists(st.tuples(answers, st.binary(max_size=200)), max_size=5), st.data())
def test_answers_survive_any_cutting(sent: list[tuple[wire.Answer, bytes]], data: st.DataObject) -> None:
    stream = b"".join(frames.join(msgspec.json.encode(header), payload) for header, payload in sent)
    reader, received = wire.Reader(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        received += reader.feed(stream[:size])
        stream = stream[size:]
    assert received == sent


@given(st.binary(max_size=300))
def test_rubbish_is_a_protocol_error_or_unfinished(rubbish: bytes) -> None:
    reader = wire.Reader()
    with contextlib.suppress(wire.ProtocolError, wire.ResponseTooLarge):
        assert all(isinstance(header, wire.Answer) for header, _ in reader.feed(rubbish))


@pytest.mark.parametrize("whole", [True, False])
def test_both_lengths_are_bounded_before_anything_is_kept(whole: bool) -> None:
    large_header = frames.PREFIX.pack(frames.MAX_HEADER + 1, 0) + b" " * (frames.MAX_HEADER + 1 if whole else 0)
    with pytest.raises(wire.ProtocolError, match="at most 65536"):
        wire.Reader().feed(large_header)
    header = b'["result",1,1]'
    size = MAX_SYNC_RESPONSE + 1
    large_payload = frames.PREFIX.pack(len(header), size) + header + b" " * (size if whole else 0)
    with pytest.raises(wire.ResponseTooLarge):
        wire.Reader().feed(large_payload)


def test_the_child_reads_what_the_supervisor_writes() -> None:
    header = wire.Invoke(1, "id", 3000, "arn", None, "Root=1")
    data = wire.encode(header, b"{}")
    header_size, payload_size = frames.PREFIX.unpack_from(data)
    assert (header_size, payload_size) == (len(data) - 10, 2)
    assert data[8:-2] == b'["invoke",1,"id",3000,"arn",null,"Root=1"]'


def test_the_limit_is_lambdas() -> None:
    assert frames.MAX_PAYLOAD == MAX_SYNC_RESPONSE


def test_a_header_that_is_no_text_breaks_the_protocol_and_nothing_else() -> None:
    with pytest.raises(wire.ProtocolError):
        wire.Reader().feed(frames.join(b'["error",1,2,"\xff\xfe","x"]', b"{}"))

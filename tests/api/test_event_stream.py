from __future__ import annotations

from typing import Any

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from eventfn.api import event_stream

texts = st.text(max_size=50)
messages = st.tuples(st.dictionaries(st.text(min_size=1, max_size=60), texts, max_size=5), st.binary(max_size=500))


def read(data: bytes) -> list[Any]:
    buffer: Any = EventStreamBuffer()
    buffer.add_data(data)
    return list(buffer)


@given(st.lists(messages, max_size=4))
def test_botocore_reads_what_is_written(given: list[tuple[dict[str, str], bytes]]) -> None:
    found = read(b"".join(event_stream.message(*each) for each in given))
    assert [(each.headers, each.payload) for each in found] == given


def test_an_event_has_lambdas_headers() -> None:
    (found,) = read(event_stream.event("PayloadChunk", "application/octet-stream", memoryview(b"\0\xff")))
    assert found.headers == {
        ":event-type": "PayloadChunk",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }
    assert found.payload == b"\0\xff"


@given(st.data())
def test_botocore_notices_a_flipped_bit(data: st.DataObject) -> None:
    written = bytearray(event_stream.event("PayloadChunk", "application/octet-stream", b"some payload"))
    written[data.draw(st.integers(8, len(written) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ChecksumMismatch):
        read(bytes(written))

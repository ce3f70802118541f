"""What a connector hands its host, before anything is done with it."""

from __future__ import annotations

from typing import Any

import pytest

from eventfn.bus.source import checked
from eventfn.errors import ConnectorError
from eventfn.event import Batch, Record


@pytest.mark.parametrize(
    ("read", "said"),
    [
        ([Record("1", b"1")], "read() returned a list, where its contract says Batch"),
        (None, "read() returned a NoneType, where its contract says Batch"),
        (Batch(()), "read() returned no record, which its contract forbids"),
        (Batch((Record("1", "1"),)), "read() returned a record whose payload is '1'"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_with_what_was_read_is_said(read: Any, said: str) -> None:
    with pytest.raises((ConnectorError, TypeError)) as raised:
        checked(read)
    assert str(raised.value) == said


def test_what_is_right_is_taken_as_it_is() -> None:
    batch = Batch((Record("1", b"1"),))
    assert checked(batch) is batch

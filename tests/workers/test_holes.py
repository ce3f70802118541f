"""What the zygote's clones make stands side by side."""

from __future__ import annotations

import gc
import itertools
import sys

import pytest

from eventfn.workers.child import holes


@pytest.mark.parametrize("size", [304, 400, 512])
def test_objects_of_one_size_stand_side_by_side_once_holes_are_filled(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holes, "_filled", [])
    length = size - bytes.__basicsize__
    scattered = [bytes(length) for _ in range(100)]
    del scattered[::7]
    gc.disable()
    try:
        holes.fill()
        made = [bytes(length) for _ in range(16)]
    finally:
        gc.enable()
    assert all(sys.getsizeof(each) <= size for each in made)
    assert [after - before for before, after in itertools.pairwise(map(id, made))] == [size] * 15

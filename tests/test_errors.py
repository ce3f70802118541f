"""What errors carry can be acted on, whoever raised them."""

from __future__ import annotations

import pytest

from eventfn.errors import Backoff


@pytest.mark.parametrize(("asked", "after"), [(7, 7), (0.5, 0.5), (-3, 0), (float("nan"), 0)])
def test_a_back_off_is_a_wait_that_a_loop_can_do(asked: float, after: float) -> None:
    assert Backoff(asked, "busy").after == after

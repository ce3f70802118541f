"""A server that is not installed: its tests are left out, and in CI they fail."""

from __future__ import annotations

import os

import pytest


def need(missing: str | None) -> None:
    """`missing` says what must be done first; None when nothing must."""
    if missing is None:
        return
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)

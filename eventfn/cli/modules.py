"""Importing what a command needs, once it is known which one it is."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Generator


@contextlib.contextmanager
def uncollected() -> Generator[None]:
    """Modules are no garbage, and looking for some among them is a twentieth of a start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()

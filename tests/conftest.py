"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# No test asserts how long something takes: machines are noisy, and a slow example is no wrong one.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

"""The pytest plugin that comes with eventfn: loaded in every run of pytest beside it, so it imports nothing heavy."""

from __future__ import annotations

import pytest

# A failed assert in a conformance suite shows its values, as one in a test file does.
pytest.register_assert_rewrite("eventfn.testing.triggers", "eventfn.testing.destinations", "eventfn.testing.lint")

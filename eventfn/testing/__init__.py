"""Public: what our tests and our users' tests share. In-memory parts, a fake clock, the conformance suites."""

from eventfn.testing.clock import FakeClock

__all__ = ["FakeClock"]

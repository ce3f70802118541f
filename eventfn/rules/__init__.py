"""What is decided about an event, and nothing that does it.

PURE, the whole package: no asyncio, no socket, no os, no clock. Time comes in as a number, verdicts go out as data.
"""

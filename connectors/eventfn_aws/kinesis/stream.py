"""How eventfn.toml names a stream: "orders", or its ARN.

PURE.
"""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_ARN = re.compile(r"arn:aws[a-z-]*:kinesis:([a-z0-9-]+):\d{12}:stream/[A-Za-z0-9_.-]{1,128}")
EXPECTED = 'expected the name of a stream, such as "orders", or its ARN'


def is_stream(text: str) -> bool:
    return bool(_NAME.fullmatch(text) or _ARN.fullmatch(text))


def region_of(stream: str) -> str | None:
    """If it is an ARN."""
    arn = _ARN.fullmatch(stream)
    return arn[1] if arn else None


def parameter(stream: str) -> dict[str, str]:
    """How a request names it."""
    return {"StreamARN" if _ARN.fullmatch(stream) else "StreamName": stream}

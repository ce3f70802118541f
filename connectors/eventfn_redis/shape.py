"""An entry of a stream in the shape in which a function sees it, near SQS's.

PURE.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def record(entry: str, stream: str, fields: Sequence[bytes], *, body_field: str, receives: int) -> bytes:
    """One element of "Records", as JSON. `fields` are names and values in turn, as Redis gives them.

    What is not UTF-8 is base64: of the body, which says so, and of the other fields, which then stand in a map of
    their own. Of two fields with one name the later one is there.
    """
    body: bytes | None = None
    texts: dict[str, str] = {}
    binaries: dict[str, str] = {}
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        key = name.decode(errors="backslashreplace")
        if key == body_field:
            body = value
            continue
        text = _text(value)
        if text is None:
            binaries[key] = base64.b64encode(value).decode()
        else:
            texts[key] = text
    text = None if body is None else _text(body)
    shown: dict[str, Any] = {
        "messageId": entry,
        "body": base64.b64encode(body).decode() if body is not None and text is None else text,
        "isBase64Encoded": body is not None and text is None,
        "attributes": {"ApproximateReceiveCount": str(receives), "SentTimestamp": str(sent_ms(entry))},
        "fields": texts,
        "binaryFields": binaries,
        "eventSource": "eventfn:redis",
        "stream": stream,
    }
    return _encode(shown)


def sent_ms(entry: str) -> int:
    """When an entry was added, by the clock of the server that made its id."""
    return int(entry.partition("-")[0])


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None

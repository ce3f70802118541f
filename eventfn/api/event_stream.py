"""AWS's event stream encoding: messages with headers and checksums, one behind the other in a response's body.

    u32 total length   u32 headers' length   u32 CRC32 of these eight bytes
    headers: u8 name length, name, u8 type (7: text), u16 value length, value
    payload   u32 CRC32 of everything before it

Big-endian. Source: contract/invocation.md, section 3; AWS SDKs, "Amazon event stream encoding".

PURE.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from eventfn.event import Buffer

CONTENT_TYPE = "application/vnd.amazon.eventstream"

_PRELUDE = struct.Struct("!II")
_U32 = struct.Struct("!I")
_VALUE = struct.Struct("!BH")
_TEXT = 7


def message(headers: Mapping[str, str], payload: Buffer) -> bytes:
    """Names up to 255 bytes, values up to 65,535."""
    block = b"".join(_header(name.encode(), value.encode()) for name, value in headers.items())
    total = _PRELUDE.size + _U32.size + len(block) + len(payload) + _U32.size
    prelude = _PRELUDE.pack(total, len(block))
    checked = b"".join((prelude, _U32.pack(zlib.crc32(prelude)), block, payload))
    return checked + _U32.pack(zlib.crc32(checked))


def event(kind: str, content_type: str, payload: Buffer) -> bytes:
    return message({":event-type": kind, ":content-type": content_type, ":message-type": "event"}, payload)


def _header(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + _VALUE.pack(_TEXT, len(value)) + value

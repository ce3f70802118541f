"""MQTT's control packets as bytes, versions 3.1.1 and 5: what a client sends and is sent.

Sources: OASIS, "MQTT Version 3.1.1" and "MQTT Version 5.0", chapters 2 and 3. PURE.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

Version = Literal["3.1.1", "5"]
Properties = Mapping[str, Any]  # by name; "user_property" is a list of pairs
NONE: Properties = {}

CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 2, 3, 4, 5, 6, 7
SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 9, 11, 13, 14

PINGREQ = b"\xc0\x00"
LONGEST = 268_435_455  # bytes that a packet can have after its first two fields

_LEVEL: dict[Version, int] = {"3.1.1": 4, "5": 5}

# Chapter 2.2.2.2 of version 5: identifier, name, type.
_PROPERTIES = [
    (0x01, "payload_format_indicator", "byte"),
    (0x02, "message_expiry_interval", "four"),
    (0x03, "content_type", "text"),
    (0x08, "response_topic", "text"),
    (0x09, "correlation_data", "binary"),
    (0x0B, "subscription_identifier", "variable"),
    (0x11, "session_expiry_interval", "four"),
    (0x12, "assigned_client_identifier", "text"),
    (0x13, "server_keep_alive", "two"),
    (0x15, "authentication_method", "text"),
    (0x16, "authentication_data", "binary"),
    (0x17, "request_problem_information", "byte"),
    (0x18, "will_delay_interval", "four"),
    (0x19, "request_response_information", "byte"),
    (0x1A, "response_information", "text"),
    (0x1C, "server_reference", "text"),
    (0x1F, "reason_string", "text"),
    (0x21, "receive_maximum", "two"),
    (0x22, "topic_alias_maximum", "two"),
    (0x23, "topic_alias", "two"),
    (0x24, "maximum_qos", "byte"),
    (0x25, "retain_available", "byte"),
    (0x26, "user_property", "pair"),
    (0x27, "maximum_packet_size", "four"),
    (0x28, "wildcard_subscription_available", "byte"),
    (0x29, "subscription_identifier_available", "byte"),
    (0x2A, "shared_subscription_available", "byte"),
]
_BY_IDENTIFIER = {identifier: (name, kind) for identifier, name, kind in _PROPERTIES}
_BY_NAME = {name: (identifier, kind) for identifier, name, kind in _PROPERTIES}
_MANY = ("user_property", "subscription_identifier")  # may stand there more than once
_NUMBERS = {"byte": ">B", "two": ">H", "four": ">I"}


class Malformed(Exception):
    """The other side does not speak MQTT, or another version of it."""


class Connack(msgspec.Struct, frozen=True):
    session_present: bool
    reason: int
    properties: Properties


class Publish(msgspec.Struct, frozen=True):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    duplicate: bool
    packet: int | None  # its identifier, when the quality of service is above 0
    properties: Properties


class Answer(msgspec.Struct, frozen=True):
    """PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK: which packet it is about, and how that went."""

    kind: int
    packet: int
    reasons: tuple[int, ...]


class Goodbye(msgspec.Struct, frozen=True):
    """The server's DISCONNECT, of version 5."""

    reason: int


class Pong(msgspec.Struct, frozen=True):
    pass


Packet = Connack | Publish | Answer | Goodbye | Pong


# --- what a client sends ----------------------------------------------------------------------------------------------


def connect(
    version: Version,
    client_id: str,
    *,
    clean: bool,
    keep_alive: int,
    username: str | None,
    password: str | None,
    properties: Properties = NONE,
) -> bytes:
    flags = (0x80 if username is not None else 0) | (0x40 if password is not None else 0) | (0x02 if clean else 0)
    body = _text("MQTT") + struct.pack(">BBH", _LEVEL[version], flags, keep_alive)
    body += _properties(version, properties) + _text(client_id)
    if username is not None:
        body += _text(username)
    if password is not None:
        body += _binary(password.encode())
    return _packet(1, 0, body)


def publish(version: Version, message: Publish) -> bytes:
    flags = (0x08 if message.duplicate else 0) | message.qos << 1 | (0x01 if message.retain else 0)
    body = _text(message.topic)
    if message.packet is not None:
        body += struct.pack(">H", message.packet)
    return _packet(PUBLISH, flags, body + _properties(version, message.properties) + message.payload)


def answer(kind: int, packet: int) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP, all well: the shortest form, which is the same in both versions."""
    return _packet(kind, 0x02 if kind == PUBREL else 0, struct.pack(">H", packet))


def subscribe(version: Version, packet: int, filters: Sequence[str], qos: int) -> bytes:
    # Retained messages only for a subscription that is new: not once more with each connection.
    options = qos | (0x10 if version == "5" else 0)
    topics = b"".join(_text(each) + bytes([options]) for each in filters)
    return _packet(8, 0x02, struct.pack(">H", packet) + _properties(version, NONE) + topics)


def unsubscribe(version: Version, packet: int, filters: Sequence[str]) -> bytes:
    topics = b"".join(_text(each) for each in filters)
    return _packet(10, 0x02, struct.pack(">H", packet) + _properties(version, NONE) + topics)


def disconnect() -> bytes:
    return _packet(DISCONNECT, 0, b"")


def _packet(kind: int, flags: int, body: bytes) -> bytes:
    return bytes([kind << 4 | flags]) + variable(len(body)) + body


def _text(text: str) -> bytes:
    return _binary(text.encode())


def _binary(data: bytes) -> bytes:
    if len(data) > 65_535:
        raise ValueError("a text of MQTT has at most 65535 bytes")
    return struct.pack(">H", len(data)) + data


def variable(number: int) -> bytes:
    """A variable byte integer: seven bits in each byte, the lowest first."""
    encoded = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        encoded.append(low | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


def _properties(version: Version, properties: Properties) -> bytes:
    if version != "5":
        return b""
    encoded = b""
    for name, value in properties.items():
        identifier, kind = _BY_NAME[name]
        for each in value if name in _MANY else [value]:
            encoded += bytes([identifier]) + _property(kind, each)
    return variable(len(encoded)) + encoded


def _property(kind: str, value: Any) -> bytes:
    match kind:
        case "text":
            return _text(value)
        case "binary":
            return _binary(value)
        case "pair":
            return _text(value[0]) + _text(value[1])
        case "variable":
            return variable(value)
        case _:
            return struct.pack(_NUMBERS[kind], value)


# --- what a server sends ----------------------------------------------------------------------------------------------


def decode(version: Version, first: int, body: bytes) -> Packet:
    """The packet behind a fixed header: its first byte, and what follows the length. Raises Malformed."""
    fields = _Fields(body)
    match first >> 4:
        case 3:
            return _publish(version, first & 0x0F, fields)
        case 2:
            flags, reason = fields.number("byte"), fields.number("byte")
            return Connack(bool(flags & 1), reason, fields.properties(version, optional=True))
        case 4 | 5 | 6 | 7 as kind:
            packet = fields.number("two")
            return Answer(kind, packet, (fields.number("byte") if fields.left else 0,))
        case 9 | 11 as kind:
            packet = fields.number("two")
            fields.properties(version)
            return Answer(kind, packet, tuple(fields.rest()))
        case 13:
            return Pong()
        case 14:
            return Goodbye(fields.number("byte") if fields.left else 0)
        case kind:
            raise Malformed(f"a packet of type {kind} is nothing that a server sends")


def _publish(version: Version, flags: int, fields: _Fields) -> Publish:
    qos = flags >> 1 & 3
    if qos == 3:
        raise Malformed("a message with quality of service 3")
    topic = fields.text()
    packet = fields.number("two") if qos else None
    properties = fields.properties(version)
    return Publish(topic, fields.rest(), qos, bool(flags & 1), bool(flags & 8), packet, properties)


class _Fields:
    """What is left of a packet."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._body) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise Malformed("a packet is shorter than it says")
        self._at += count
        return self._body[self._at - count : self._at]

    def rest(self) -> bytes:
        return self.take(self.left)

    def number(self, kind: str) -> int:
        form = _NUMBERS[kind]
        number: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return number

    def variable(self) -> int:
        number = 0
        for place in range(4):
            byte = self.number("byte")
            number |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return number
        raise Malformed("a length of more than four bytes")

    def binary(self) -> bytes:
        return self.take(self.number("two"))

    def text(self) -> str:
        try:
            return self.binary().decode()
        except UnicodeDecodeError as error:
            raise Malformed("text that is no UTF-8") from error

    def properties(self, version: Version, optional: bool = False) -> Properties:
        """`optional`: a server that refuses version 5 answers in version 3.1.1, which has none."""
        if version != "5" or (optional and not self.left):
            return NONE
        fields = _Fields(self.take(self.variable()))
        found: dict[str, Any] = {}
        while fields.left:
            identifier = fields.variable()
            if identifier not in _BY_IDENTIFIER:
                raise Malformed(f"an unknown property {identifier:#04x}")
            name, kind = _BY_IDENTIFIER[identifier]
            value = fields.property(kind)
            if name in _MANY:
                found.setdefault(name, []).append(value)
            else:
                found[name] = value
        return found

    def property(self, kind: str) -> Any:
        match kind:
            case "text":
                return self.text()
            case "binary":
                return self.binary()
            case "pair":
                return (self.text(), self.text())
            case "variable":
                return self.variable()
            case _:
                return self.number(kind)


# --- reason codes -----------------------------------------------------------------------------------------------------

TOO_LARGE = 0x95

_REASONS = {
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "implementation specific error",
    0x84: "this version of MQTT is not supported, so `protocol` must be another one",
    0x85: "client identifier not valid",
    0x86: "bad user name or password",
    0x87: "not authorized",
    0x88: "server unavailable",
    0x89: "server busy",
    0x8A: "banned",
    0x8B: "server shutting down",
    0x8C: "bad authentication method",
    0x8D: "keep alive timeout",
    0x8E: "session taken over: another client has the same client_id",
    0x8F: "topic filter invalid",
    0x90: "topic name invalid",
    0x91: "packet identifier in use",
    0x93: "receive maximum exceeded",
    0x94: "topic alias invalid",
    TOO_LARGE: "packet too large",
    0x96: "message rate too high",
    0x97: "quota exceeded",
    0x98: "administrative action",
    0x99: "payload format invalid",
    0x9A: "retain not supported",
    0x9B: "quality of service not supported",
    0x9C: "use another server",
    0x9D: "server moved",
    0x9E: "shared subscriptions not supported",
    0x9F: "connection rate exceeded",
    0xA0: "maximum connect time",
    0xA1: "subscription identifiers not supported",
    0xA2: "wildcard subscriptions not supported",
}
_REFUSALS = {  # version 3.1.1's, of a connection
    1: "this version of MQTT is not supported, so `protocol` must be another one",
    2: "client identifier not valid",
    3: "server unavailable",
    4: "bad user name or password",
    5: "not authorized",
}


def reason_text(code: int) -> str:
    return _REASONS.get(code) or _REFUSALS.get(code) or f"reason {code:#04x}"

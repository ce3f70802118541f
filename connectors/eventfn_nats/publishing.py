"""Into a stream, once within its duplicate window, and stored before anything is said."""

from __future__ import annotations

from collections.abc import Mapping

from eventfn_nats.server import PATIENCE, Connection

MESSAGE_ID = "Nats-Msg-Id"  # a stream takes a message with an id that it remembers for a duplicate, and keeps the first
_HEADER_SPACE = len("NATS/1.0\r\n\r\n")


def headers_of(message_id: str, attributes: Mapping[str, str]) -> dict[str, str]:
    """A header is a line: what would end it becomes a space. Headers that are NATS' own are orders to the server: those
    of a message that is passed on were for its own stream, and its id would make a duplicate of what replaces it."""
    others = {name: " ".join(value.split()) for name, value in attributes.items() if not _is_nats_own(name)}
    return {MESSAGE_ID: message_id} | others


def _is_nats_own(header: str) -> bool:
    return header.lower().startswith("nats-")


def size(payload: bytes, headers: Mapping[str, str]) -> int:
    """What a server holds against its max_payload."""
    lines = sum(len(f"{name}: {value}\r\n".encode()) for name, value in headers.items())
    return len(payload) + lines + _HEADER_SPACE


async def publish(
    connection: Connection, subject: str, message_id: str, payload: bytes, attributes: Mapping[str, str]
) -> None:
    """Raises ConnectorError: no stream takes the subject, or nobody answers."""
    jetstream = connection.client.jetstream()
    headers = headers_of(message_id, attributes)
    await connection.answer(jetstream.publish(subject, payload, timeout=PATIENCE, headers=headers))

"""MQTT's bytes, by the examples of its specification, and whatever else a server may send."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn_mqtt import packets
from eventfn_mqtt.packets import Answer, Connack, Goodbye, Malformed, Pong, Publish, Version


def decode(version: Version, packet: bytes) -> Any:
    """Behind the fixed header, whose length must be right."""
    at = 1
    while packet[at] & 0x80:
        at += 1
    length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(packet[1 : at + 1]))
    assert length == len(packet) - at - 1
    return packets.decode(version, packet[0], packet[at + 1 :])


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (2_097_151, "ffff7f"),
        (2_097_152, "80808001"),
        (268_435_455, "ffffff7f"),
    ],
)
def test_lengths_are_as_in_the_specifications_table(number: int, encoded: str) -> None:
    assert packets.variable(number).hex() == encoded


def test_a_connect_of_version_3() -> None:
    packet = packets.connect("3.1.1", "c", clean=False, keep_alive=10, username="u", password="p")
    assert packet.hex() == "1013" + "00044d515454" + "04" + "c0" + "000a" + "000163" + "000175" + "000170"


def test_a_connect_of_version_5() -> None:
    properties = {"session_expiry_interval": 10, "receive_maximum": 20}
    packet = packets.connect("5", "", clean=True, keep_alive=10, username=None, password=None, properties=properties)
    assert packet.hex() == "1015" + "00044d515454" + "05" + "02" + "000a" + "08" + "110000000a" + "210014" + "0000"


def test_a_subscribe_asks_for_retained_messages_once() -> None:
    assert packets.subscribe("3.1.1", 10, ["a/b"], 1).hex() == "8208" + "000a" + "0003612f62" + "01"
    assert packets.subscribe("5", 10, ["a/b"], 2).hex() == "8209" + "000a" + "00" + "0003612f62" + "12"


def test_an_unsubscribe() -> None:
    assert packets.unsubscribe("5", 10, ["a"]).hex() == "a206" + "000a" + "00" + "000161"


@pytest.mark.parametrize(
    ("kind", "encoded"),
    [(packets.PUBACK, "40"), (packets.PUBREC, "50"), (packets.PUBREL, "62"), (packets.PUBCOMP, "70")],
)
def test_an_answer(kind: int, encoded: str) -> None:
    assert packets.answer(kind, 258).hex() == encoded + "020102"


def test_a_text_that_is_too_long_for_its_length_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 65535 bytes"):
        packets.unsubscribe("5", 1, ["a" * 65_536])


@pytest.mark.parametrize(
    ("version", "packet", "expected"),
    [
        ("3.1.1", "20020100", Connack(True, 0, {})),
        ("3.1.1", "20020005", Connack(False, 5, {})),
        ("5", "2006000003210014", Connack(False, 0, {"receive_maximum": 20})),
        ("5", "20020001", Connack(False, 1, {})),  # a server that knows version 3.1.1 only
        ("5", "40020007", Answer(packets.PUBACK, 7, (0,))),
        ("5", "4003000710", Answer(packets.PUBACK, 7, (0x10,))),
        ("5", "400400078700", Answer(packets.PUBACK, 7, (0x87,))),
        ("3.1.1", "90040007" + "0180", Answer(packets.SUBACK, 7, (1, 0x80))),
        ("5", "90050007" + "00" + "0187", Answer(packets.SUBACK, 7, (1, 0x87))),
        ("5", "b0040007" + "00" + "11", Answer(packets.UNSUBACK, 7, (0x11,))),
        ("3.1.1", "b0020007", Answer(packets.UNSUBACK, 7, ())),
        ("5", "62020007", Answer(packets.PUBREL, 7, (0,))),
        ("5", "d000", Pong()),
        ("5", "e000", Goodbye(0)),
        ("5", "e0028e00", Goodbye(0x8E)),
        ("3.1.1", "3006" + "000161" + "616263", Publish("a", b"abc", 0, False, False, None, {})),
        ("3.1.1", "3b05" + "000161" + "0007", Publish("a", b"", 1, True, True, 7, {})),
        (
            "5",
            "3409" + "000161" + "0007" + "020101" + "78",
            Publish("a", b"x", 2, False, False, 7, {"payload_format_indicator": 1}),
        ),
        (
            "5",
            "3013" + "000161" + "0e" + "26000161000162" + "26000161000163" + "78",
            Publish("a", b"x", 0, False, False, None, {"user_property": [("a", "b"), ("a", "c")]}),
        ),
    ],
)  # fmt: skip
def test_what_a_server_sends(version: Version, packet: str, expected: object) -> None:
    assert decode(version, bytes.fromhex(packet)) == expected


@pytest.mark.parametrize(
    "packet",
    [
        "1000",  # CONNECT
        "f000",  # AUTH
        "2001" + "00",
        "3600" + "",  # quality of service 3
        "3003" + "000561",  # a topic that ends too soon
        "3003" + "0001ff",  # a topic that is no UTF-8
        "3005" + "000161" + "017f",  # an unknown property
        "3005" + "000161" + "ff01",  # properties that end too soon
        "3007" + "000161" + "80808080",  # a length of too many bytes
        "4001" + "00",
    ],
)
def test_what_is_no_mqtt_is_malformed(packet: str) -> None:
    raw = bytes.fromhex(packet)
    with pytest.raises(Malformed):
        packets.decode("5", raw[0], raw[2:])


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
properties = st.fixed_dictionaries(
    {},
    optional={
        "payload_format_indicator": st.integers(0, 1),
        "message_expiry_interval": st.integers(0, 2**32 - 1),
        "content_type": texts,
        "response_topic": texts,
        "correlation_data": st.binary(max_size=20),
        "subscription_identifier": st.lists(st.integers(1, 268_435_455), min_size=1, max_size=3),
        "user_property": st.lists(st.tuples(texts, texts), min_size=1, max_size=4),
    },
)


@given(st.sampled_from(["3.1.1", "5"]), texts, st.binary(max_size=300), st.integers(0, 2), st.booleans(), properties)
def test_a_message_comes_out_as_it_went_in(
    version: Version, topic: str, payload: bytes, qos: int, flag: bool, properties: dict[str, Any]
) -> None:
    known = properties if version == "5" else {}
    message = Publish(topic, payload, qos, flag, flag, 9 if qos else None, known)
    assert decode(version, packets.publish(version, message)) == message


@given(st.sampled_from(["3.1.1", "5"]), st.integers(0, 255), st.binary(max_size=60))
def test_no_bytes_do_anything_but_decode_or_be_malformed(version: Version, first: int, body: bytes) -> None:
    with contextlib.suppress(Malformed):
        packets.decode(version, first, body)


def test_every_reason_has_words() -> None:
    assert packets.reason_text(0x87) == "not authorized"
    assert packets.reason_text(4) == "bad user name or password"
    assert packets.reason_text(0xEE) == "reason 0xee"

"""Topics, shapes, settings, and the order in which messages are handed out and acknowledged: no broker needed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn_mqtt import shape
from eventfn_mqtt.packets import Publish
from eventfn_mqtt.settings import Brokers, Subscription
from eventfn_mqtt.topics import filter_problem, name_problem
from eventfn_mqtt.window import Arrived, Window


@pytest.mark.parametrize("topic", ["a", "a/b", "/", "a//b", "ü ö", "a" * 65_535])
def test_topics_to_publish_to(topic: str) -> None:
    assert name_problem(topic) is None


@pytest.mark.parametrize("topic", ["", "+", "a/#", "a+b", "$SYS/a", "a\0", "ü" * 40_000])
def test_no_topics_to_publish_to(topic: str) -> None:
    assert name_problem(topic)


@pytest.mark.parametrize(
    "pattern", ["a", "+", "#", "a/+/b", "a/#", "+/+", "/+", "$SYS/#", "$share/g/a", "$share/g/a/+/#", "$share/g//"]
)
def test_topic_filters(pattern: str) -> None:
    assert filter_problem(pattern) is None


@pytest.mark.parametrize("pattern", ["", "a#", "#/a", "a+/b", "a/b+", "$share", "$share/g", "$share//a", "$share/+/a"])
def test_no_topic_filters(pattern: str) -> None:
    assert filter_problem(pattern)


def test_a_setting_that_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match=r"^topics: 'a#': # stands alone"):
        Subscription(client_id="c", topics=["a#"])


@pytest.mark.parametrize("url", ["", "h", "http://h", "mqtt://", "mqtt://h:99999", "mqtt://u:hidden@h/x"])
def test_a_bad_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"^url: expected mqtt://") as refused:
        Brokers(url=url)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "port", "encrypted", "credentials"),
    [
        ("mqtt://h", 1883, False, (None, None)),
        ("mqtts://h", 8883, True, (None, None)),
        ("mqtt://u:p%40ss@h:1234/", 1234, False, ("u", "p@ss")),
    ],
)
def test_what_a_url_says(url: str, port: int, encrypted: bool, credentials: Any) -> None:
    broker = Brokers(url=url)
    assert (broker.host, broker.port, broker.encrypted, broker.credentials) == ("h", port, encrypted, credentials)


def message(
    topic: str = "a", payload: bytes = b"", packet: int | None = 1, properties: dict[str, Any] | None = None
) -> Publish:
    return Publish(topic, payload, 1 if packet else 0, False, False, packet, properties or {})


def test_a_message_with_everything() -> None:
    properties = {
        "content_type": "text/plain",
        "response_topic": "answers",
        "correlation_data": b"\xff",
        "user_property": [("a", "b"), ("a", "c")],
        "message_expiry_interval": 60,
        "payload_format_indicator": 1,
    }
    record = shape.record(message("plant/1", "warm \u00fc".encode(), properties=properties), "id-1", 1234, "h")
    assert msgspec.json.decode(record) == {
        "messageId": "id-1",
        "topic": "plant/1",
        "payload": "warm ü",
        "isBase64Encoded": False,
        "qos": 1,
        "retain": False,
        "duplicate": False,
        "timestamp": 1234,
        "properties": {
            "contentType": "text/plain",
            "responseTopic": "answers",
            "correlationData": "/w==",
            "userProperties": [{"name": "a", "value": "b"}, {"name": "a", "value": "c"}],
            "messageExpiryInterval": 60,
            "payloadFormatIndicator": 1,
        },
        "eventSource": "eventfn:mqtt",
        "broker": "h",
    }


def test_a_payload_that_is_no_text_is_base64() -> None:
    record = msgspec.json.decode(shape.record(message(payload=b"\xff\x00"), "id", 0, "h"))
    assert (record["payload"], record["isBase64Encoded"]) == ("/wA=", True)


def test_a_message_that_is_sent_again_has_its_name_again_and_others_have_others() -> None:
    first = shape.message_id(message("a", b"x", 7), 0)
    assert shape.message_id(message("a", b"x", 7), 5) == first
    others = [message("a", b"x", 8), message("a", b"y", 7), message("b", b"x", 7), message("a", b"x", None)]
    assert len({first, *(shape.message_id(each, 0) for each in others)}) == 5
    assert shape.message_id(message("a", b"x", None), 1) != shape.message_id(message("a", b"x", None), 2)


def test_what_rests_holds_back_its_topic_and_no_other() -> None:
    window = Window()
    for number, topic in enumerate("aabab"):
        window.arrive(message(topic, packet=number + 1), 0)
    (first,) = window.take(1, now=0)
    window.retry(first, not_before=10)
    assert [each.sequence for each in window.take(9, now=5)] == [2, 4]
    assert window.due() == 10
    assert [each.sequence for each in window.take(9, now=10)] == [0, 1, 3]
    assert window.unread == 0


def test_acknowledgements_wait_for_those_before_them() -> None:
    window = Window()
    for number in range(3):
        window.arrive(message(packet=number + 1), 0)
    first, second, third = window.take(3, now=0)
    assert window.finish([second, third]) == []
    assert [each.packet for each in window.finish([first])] == [1, 2, 3]


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=25),
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5), st.integers(0, 3)), max_size=15),
    st.lists(st.booleans(), max_size=60),
)
def test_whatever_fails_when_all_is_handed_out_in_order_and_acknowledged_in_order(
    topics: list[str], turns: list[tuple[int, int, int]], failures: list[bool]
) -> None:
    window, now = Window(), 0.0
    coming = list(enumerate(topics))
    handled: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    acknowledged: list[int] = []
    while coming or window.unread:
        arriving, limit, rest = turns.pop() if turns else (25, 25, 1)
        for number, topic in coming[:arriving]:
            window.arrive(message(topic, packet=number + 1), 0)
        coming = coming[arriving:]
        failed: set[str] = set()
        finished: list[Arrived] = []
        for arrived in window.take(limit, now):
            topic = arrived.message.topic
            if topic in failed or (failures and failures.pop()):
                failed.add(topic)  # the host hands back what is behind a failure
                window.retry(arrived, now + rest)
            else:
                handled[topic].append(arrived.sequence)
                finished.append(arrived)
        acknowledged += [each.packet or 0 for each in window.finish(finished)]
        now += 1
    assert sum(len(sequences) for sequences in handled.values()) == len(topics)
    assert all(sequences == sorted(sequences) for sequences in handled.values())
    assert acknowledged == list(range(1, len(topics) + 1))

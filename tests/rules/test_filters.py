"""What a pattern sees of the records of each kind of source, row by row, and against a naive reading of the rules."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.patterns import compile_pattern as compile_plain
from eventfn.rules.filters import compile_criteria, compile_pattern
from eventfn.trigger import Filtering

# What the connectors of these sources say of themselves: (data_key, filtering).
SQS = ("body", None)
KINESIS = ("data", Filtering(root="kinesis", base64_keys=("data",)))
DYNAMODB = ("dynamodb", None)
KAFKA = ("value", Filtering(base64_keys=("value", "key"), mismatch="ignore"))
MQ = ("data", Filtering(base64_keys=("data",), mismatch="ignore"))

Source = tuple[str, Filtering | None]


def passes(source: Source, pattern: dict[str, Any], record: dict[str, Any]) -> bool:
    return compile_criteria([pattern], *source).matches(msgspec.json.encode(record))


def b64(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


# --- SQS: the record, and body as JSON or text ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "body", "expected"),
    [
        ({"body": ["x"]}, "x", True),
        ({"body": ["x"]}, "y", False),
        ({"body": ["5"]}, "5", True),
        ({"body": [{"exists": True}]}, "text", True),
        ({"body": {"kind": ["x"]}}, '{"kind": "x"}', True),
        ({"body": {"kind": ["x"]}}, '{"kind": "y"}', False),
        ({"body": {"kind": ["x"]}}, '[{"kind": "y"}, {"kind": "x"}]', True),
        ({"body.kind": ["x"]}, '{"kind": "x"}', True),
        ({"$or": [{"body": {"kind": ["x"]}}, {"messageId": ["2"]}]}, '{"kind": "x"}', True),
        # of the other kind than the data: dropped, also where absence was asked for
        ({"body": {"kind": [{"exists": False}]}}, "plain text", False),
        ({"body": {"kind": ["x"]}}, "5", False),
        ({"body": [{"prefix": "{"}]}, '{"kind": "x"}', False),
        # no pattern for the data: any data passes
        ({"attributes": {"SenderId": ["me"]}}, "{broken", True),
        ({"messageId": ["1"]}, "x", True),
        ({"messageId": ["2"]}, "x", False),
        ({"messageAttributes": {"kind": {"stringValue": ["a"]}}}, "x", True),
        # nested too deeply to be read as JSON: text
        ({"body": {"a": [1]}}, "[" * 100_000, False),
    ],
)
def test_sqs(pattern: dict[str, Any], body: str, expected: bool) -> None:
    record = {
        "messageId": "1",
        "body": body,
        "attributes": {"SenderId": "me"},
        "messageAttributes": {"kind": {"stringValue": "a", "dataType": "String"}},
    }
    assert passes(SQS, pattern, record) is expected


def test_a_key_with_the_data_keys_name_further_in_is_plain() -> None:
    assert not passes(SQS, {"a": {"body": {"kind": ["x"]}}}, {"a": {"body": '{"kind": "x"}'}})


# --- Kinesis: the content of "kinesis", and data as JSON --------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "data", "expected"),
    [
        ({"data": {"kind": ["x"]}}, '{"kind": "x"}', True),
        ({"data": {"kind": ["x"]}}, '{"kind": "y"}', False),
        ({"data.kind": ["x"]}, '{"kind": "x"}', True),
        ({"data": {"total": [{"numeric": [">", 5]}]}}, '{"total": 6}', True),
        ({"data": {"kind": ["x"]}}, '[{"kind": "x"}]', True),
        ({"$or": [{"data": {"kind": ["x"]}}, {"partitionKey": ["other"]}]}, '{"kind": "x"}', True),
        ({"partitionKey": ["key-1"], "data": {"kind": ["x"]}}, '{"kind": "x"}', True),
        ({"partitionKey": ["key-2"], "data": {"kind": ["x"]}}, '{"kind": "x"}', False),
        # no pattern for the data: any data passes
        ({"partitionKey": ["key-1"]}, b"\xff\x00", True),
        ({"sequenceNumber": [{"prefix": "49"}]}, "text", True),
        # not JSON: dropped, also where absence was asked for
        ({"data": {"kind": ["x"]}}, "text", False),
        ({"data": {"kind": ["x"]}}, "5", False),
        ({"data": {"kind": ["x"]}}, b"\xff\x00", False),
        ({"data": {"kind": ["x"]}}, "", False),
        ({"data": {"kind": [{"exists": False}]}}, "text", False),
        # the pattern is not about what surrounds "kinesis"
        ({"eventName": ["aws:kinesis:record"]}, "text", False),
        ({"kinesis": {"partitionKey": ["key-1"]}}, "text", False),
        ({"eventName": [{"exists": False}]}, "text", True),
    ],
)
def test_kinesis(pattern: dict[str, Any], data: str | bytes, expected: bool) -> None:
    content = {"partitionKey": "key-1", "sequenceNumber": "4954", "data": b64(data)}
    record = {"kinesis": content, "eventName": "aws:kinesis:record"}
    assert passes(KINESIS, pattern, record) is expected


@pytest.mark.parametrize(
    "pattern",
    [{"data": ["x"]}, {"data": [{"exists": True}]}, {"$or": [{"data": ["x"]}, {"partitionKey": ["y"]}]}],
)
def test_kinesis_refuses_a_pattern_for_data_that_is_not_json(pattern: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match='"data" must be an object: the data of this source is filtered as JSON only'):
        compile_pattern(pattern, *KINESIS)


# --- DynamoDB: the record itself, with typed values -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"eventName": ["INSERT", "MODIFY"]}, True),
        ({"eventName": ["REMOVE"]}, False),
        ({"dynamodb": {"Keys": {"Id": {"N": ["101"]}}}}, True),
        ({"dynamodb": {"Keys": {"Id": {"N": [101]}}}}, False),
        ({"dynamodb": {"Keys": {"Id": {"N": [{"numeric": ["=", 101]}]}}}}, False),
        ({"dynamodb": {"NewImage": {"Kind": {"S": [{"prefix": "or"}]}}}}, True),
        ({"dynamodb": {"NewImage": {"Tags": {"L": {"S": ["b"]}}}}}, True),
        ({"dynamodb": {"OldImage": {"Kind": {"S": [{"exists": False}]}}}}, True),
        ({"eventName": ["INSERT"], "dynamodb": {"NewImage": {"Kind": {"S": ["other"]}}}}, False),
        ({"userIdentity": {"type": ["Service"]}}, False),
    ],
)
def test_dynamodb(pattern: dict[str, Any], expected: bool) -> None:
    record = {
        "eventName": "INSERT",
        "eventSource": "aws:dynamodb",
        "dynamodb": {
            "Keys": {"Id": {"N": "101"}},
            "NewImage": {"Id": {"N": "101"}, "Kind": {"S": "order"}, "Tags": {"L": [{"S": "a"}, {"S": "b"}]}},
        },
    }
    assert passes(DYNAMODB, pattern, record) is expected


# --- Kafka and MQ: what is of the other kind than its pattern is not looked at ----------------------------------------


@pytest.mark.parametrize(
    ("pattern", "key", "value", "expected"),
    [
        ({"value": {"kind": ["x"]}}, "k", '{"kind": "x"}', True),
        ({"value": {"kind": ["x"]}}, "k", '{"kind": "y"}', False),
        ({"value": ["x"]}, "k", "x", True),
        ({"value": ["x"]}, "k", "y", False),
        ({"value": [{"suffix": "�"}]}, "k", b"a\xff", True),
        ({"key": ["k"]}, "k", "x", True),
        ({"key": ["other"]}, "k", "x", False),
        ({"key": {"id": [1]}}, '{"id": 1}', "x", True),
        ({"topic": ["orders"], "value": {"kind": ["x"]}}, "k", '{"kind": "x"}', True),
        ({"topic": ["orders"]}, "k", b"\xff\x00", True),
        ({"partition": [{"numeric": [">", 0]}]}, "k", "x", False),
        # of the other kind than the data: the other keys of the pattern decide
        ({"value": {"kind": ["x"]}}, "k", "text", True),
        ({"value": ["x"]}, "k", '{"kind": "x"}', True),
        ({"topic": ["orders"], "value": {"kind": ["x"]}}, "k", "text", True),
        ({"topic": ["other"], "value": {"kind": ["x"]}}, "k", "text", False),
        ({"key": {"id": [1]}, "value": {"kind": ["x"]}}, "k", '{"kind": "y"}', False),
        # no data at all (a tombstone, no key) is neither text nor JSON: only what asks for that matches
        ({"value": ["x"]}, "k", None, False),
        ({"value": {"kind": ["x"]}}, "k", None, False),
        ({"value": [None]}, "k", None, True),
        ({"key": ["k"]}, None, "x", False),
    ],
)
def test_kafka(pattern: dict[str, Any], key: str | None, value: str | bytes | None, expected: bool) -> None:
    record = {"topic": "orders", "partition": 0, "offset": 7} | {
        name: None if data is None else b64(data) for name, data in (("key", key), ("value", value))
    }
    assert passes(KAFKA, pattern, record) is expected


@pytest.mark.parametrize(
    ("pattern", "data", "expected"),
    [
        ({"data": {"kind": ["x"]}}, '{"kind": "x"}', True),
        ({"data": {"kind": ["x"]}}, '{"kind": "y"}', False),
        ({"data": ["x"]}, "x", True),
        ({"data": ["x"]}, "y", False),
        ({"messageType": ["jms/text-message"]}, b"\xff", True),
        ({"data": {"kind": ["x"]}}, "text", True),
        ({"data": ["x"]}, '{"kind": "x"}', True),
        ({"messageType": ["other"], "data": ["x"]}, '{"kind": "x"}', False),
    ],
)
def test_mq(pattern: dict[str, Any], data: str | bytes, expected: bool) -> None:
    assert passes(MQ, pattern, {"messageType": "jms/text-message", "data": b64(data)}) is expected


# --- what cannot be read, and when nothing has to be ------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"{", b"[" * 100_000])
def test_a_record_that_is_not_json_is_an_error(payload: bytes) -> None:
    with pytest.raises(ValueError, match="the record"):
        compile_criteria([{"a": [1]}]).matches(payload)


@pytest.mark.parametrize("source", [KINESIS, SQS])
@pytest.mark.parametrize("record", [b"null", b"[]", b'"text"', b"{}", b'{"kinesis": 5}'])
def test_a_record_of_another_shape_matches_no_value(source: Source, record: bytes) -> None:
    assert not compile_criteria([{"key": ["x"]}], *source).matches(record)


def test_data_that_is_not_base64_is_an_error_where_a_pattern_is_about_it() -> None:
    record = {"topic": "orders", "value": "abc"}
    with pytest.raises(ValueError, match="the record's data is not base64"):
        passes(KAFKA, {"value": ["x"]}, record)
    assert passes(KAFKA, {"topic": ["orders"]}, record)


def test_data_is_read_once_for_all_patterns_and_only_where_one_is_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    decode = binascii.a2b_base64

    def counted(text: str) -> bytes:
        read.append(text)
        return decode(text)

    monkeypatch.setattr(binascii, "a2b_base64", counted)
    record = msgspec.json.encode({"topic": "orders", "key": b64("k"), "value": b64('{"kind": "x"}')})
    compile_criteria([], *KAFKA).matches(b"whatever")
    compile_criteria([{"topic": ["other"]}], *KAFKA).matches(record)
    assert not read
    compile_criteria([{"value": {"kind": [kind]}} for kind in "abcx"], *KAFKA).matches(record)
    assert len(read) == 1


# --- several patterns -------------------------------------------------------------------------------------------------


def test_criteria_are_alternatives_and_none_let_everything_pass() -> None:
    assert compile_criteria([]).matches(b"whatever")
    criteria = compile_criteria([{"a": [1]}, {"b": [1]}])
    assert criteria.matches(b'{"b": 1}')
    assert not criteria.matches(b'{"c": 1}')


def test_criteria_name_the_pattern_that_is_wrong() -> None:
    with pytest.raises(ValueError, match="pattern 2: Empty arrays are not allowed"):
        compile_criteria([{"a": [1]}, {"a": []}])
    with pytest.raises(ValueError, match="at most 10 patterns, and there are 11"):
        compile_criteria([{"a": [1]}] * 11)


# --- against a naive reading of the two tables ------------------------------------------------------------------------

words = st.sampled_from(["x", "y", "5", "", "text"])
jsons = st.dictionaries(st.sampled_from("ab"), words, max_size=2)
datas = words | jsons | st.lists(jsons, max_size=2)
data_patterns = (
    st.none() | st.lists(words, min_size=1, max_size=2) | st.fixed_dictionaries({"a": st.lists(words, min_size=1)})
)


def naive(source: Source, pattern: dict[str, Any], meta: str, data: Any) -> bool:
    """The tables, read one after the other."""
    if "meta" in pattern and meta not in pattern["meta"]:
        return False
    wanted = pattern.get("data")
    if wanted is None:
        return True
    if isinstance(data, str) != isinstance(wanted, list):
        return source[1] is not None and source[1].mismatch == "ignore"
    return data in wanted if isinstance(wanted, list) else compile_plain({"d": wanted}).matches({"d": data})


@given(
    st.booleans(),
    st.sampled_from(["drop", "ignore"]),
    st.none() | st.lists(words, min_size=1, max_size=2),
    data_patterns,
    words,
    datas,
)
def test_every_kind_of_source_follows_the_tables(
    encoded: bool,
    mismatch: Literal["drop", "ignore"],
    meta_pattern: list[str] | None,
    data_pattern: Any,
    meta: str,
    data: Any,
) -> None:
    source = ("data", Filtering(base64_keys=("data",) if encoded else (), mismatch=mismatch))
    pattern = {k: v for k, v in (("meta", meta_pattern), ("data", data_pattern)) if v is not None}
    if not pattern:
        return
    if encoded and mismatch == "drop" and isinstance(data_pattern, list):
        with pytest.raises(ValueError, match="must be an object"):
            compile_pattern(pattern, *source)
        return
    text = data if isinstance(data, str) else msgspec.json.encode(data).decode()
    record = {"meta": meta, "data": b64(text) if encoded else text}
    assert passes(source, pattern, record) is naive(source, pattern, meta, data)

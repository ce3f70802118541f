from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn_aws.kinesis.kpl import MAGIC, unpacked
from tests.connectors.aws_kinesis.packing import aggregate, field, number, sealed, varint


@pytest.mark.parametrize(
    ("made", "inside"),
    [
        pytest.param(
            "84mawgoEcGstMAoEcGstMQoEcGstMhoTCAAaD3sibXNnIjoibGluZTAifRoTCAEaD3sibXNnIjoibGluZTEifRoTCAIaD3sibXNnIjoi"
            "bGluZTIifZ8hyadI+v2KZPZrUGim6cQ=",
            [("pk-0", b'{"msg":"line0"}'), ("pk-1", b'{"msg":"line1"}'), ("pk-2", b'{"msg":"line2"}')],
            id="by AWS' Python library",
        ),
        pytest.param(
            "84mawgokODE2MjJiMGUtNWFlOC00YjUzLWE1ODUtYzZjYjc3ODBlNjgwCiQyNWQ0YzNjMS0zMWZlLTQyNGYtOTFmMy04MTI0MWRjYzY1"
            "OTASCXVuZGVmaW5lZBoRCAAQABoLeyJhIjoiQUJDIn0aEQgBEAAaC3siYiI6IkRFRiJ9jU+TcO1bDHHEgOGh8mJlCw==",
            [
                ("81622b0e-5ae8-4b53-a585-c6cb7780e680", b'{"a":"ABC"}'),
                ("25d4c3c1-31fe-424f-91f3-81241dcc6590", b'{"b":"DEF"}'),
            ],
            id="by AWS' JavaScript library, with a hash key that is none",
        ),
        pytest.param(
            "84mawgoFa2V5LTAaJQgAGiFUZXN0aW5nIEtQTCBBZ2dyZWdhdGVkIFJlY29yZCAxLTBlW2Hfd6iL1WkMbznr8jc2",
            [("key-0", b"Testing KPL Aggregated Record 1-0")],
            id="one record",
        ),
    ],
)
def test_what_other_libraries_have_packed(made: str, inside: list[tuple[str, bytes]]) -> None:
    assert unpacked(base64.b64decode(made)) == inside


records = st.lists(st.tuples(st.text(min_size=1, max_size=20), st.binary(max_size=400)), max_size=20)


@given(records, st.none() | st.just("170141183460469231731687303715884105728"), st.booleans())
def test_what_was_packed_comes_out(packed: list[tuple[str, bytes]], hash_key: str | None, tags: bool) -> None:
    assert unpacked(aggregate(packed, hash_key=hash_key, tags=tags)) == packed


def test_the_order_of_fields_does_not_matter_and_unknown_ones_are_passed_over() -> None:
    record = field(3, number(1, 0) + field(3, b"data"))
    unknown = number(9, 7) + field(10, b"x") + varint(11 << 3 | 1) + bytes(8) + varint(12 << 3 | 5) + bytes(4)
    assert unpacked(sealed(unknown + record + field(1, b"key"))) == [("key", b"data")]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain",
        MAGIC,
        MAGIC + bytes(16),
        aggregate([("a", b"1")])[:-1],
        aggregate([("a", b"1")]) + b"\n",
        sealed(field(3, number(1, 0) + field(3, b"a key that is not there"))),
        sealed(field(1, b"key") + field(3, number(1, 0))),
        sealed(field(1, b"key") + field(3, field(3, b"no key"))),
        sealed(field(1, b"\xff") + field(3, number(1, 0) + field(3, b"data"))),
        sealed(varint(3 << 3 | 2) + varint(99) + b"cut"),
        sealed(varint(3 << 3 | 4)),
        sealed(b"\x80"),
        sealed(b"\xff" * 11),
    ],
)
def test_what_is_no_aggregate_or_a_damaged_one_is_handed_on_as_it_is(data: bytes) -> None:
    assert unpacked(data) is None


def test_an_aggregate_of_nothing_holds_nothing() -> None:
    assert unpacked(sealed(b"")) == []


@given(st.binary(max_size=300))
def test_no_bytes_break_it(message: bytes) -> None:
    assert unpacked(message) is None
    inside = unpacked(sealed(message))
    assert inside is None or isinstance(inside, list)

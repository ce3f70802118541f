"""Under which keys records are written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from eventfn.destination import ORIGIN, SHAPE, OutgoingRecord
from eventfn_aws.s3.keys import Place, folder_and_name


def record(shape: str, payload: Any, record_id: str = "8f1a-on-failure", origin: str = "fn:work") -> OutgoingRecord:
    return OutgoingRecord(record_id, msgspec.json.encode(payload), {ORIGIN: origin, SHAPE: shape})


KINESIS = {
    "requestContext": {"requestId": "r"},
    "version": "1.0",
    "timestamp": "2026-11-14T00:38:06.021Z",
    "KinesisBatchInfo": {"shardId": "shardId-000000000006", "streamArn": "arn:aws:kinesis:eu-west-1:1:stream/s"},
    "payload": {"Records": []},
}


def test_a_destination_record_is_where_lambda_puts_it() -> None:
    found = folder_and_name(record("record", {"version": "1.0", "timestamp": "2026-11-14T18:16:05.568Z"}))
    assert found == ("aws/lambda/async/work/2026/11/14", "2026-11-14T18.16.05-8f1a-on-failure")


def test_a_batch_of_a_stream_is_in_the_folder_of_its_shard() -> None:
    folder, name = folder_and_name(record("batch", KINESIS, "b-1"))
    assert folder == "aws/lambda/2f882d63-2177-5950-ae5c-db47c2a4cb28/shardId-000000000006/2026/11/14"
    assert name == "2026-11-14T00.38.06-b-1"


def test_functions_and_streams_have_folders_of_their_own() -> None:
    other = KINESIS | {"KinesisBatchInfo": {"shardId": "shardId-000000000006", "streamArn": "other"}}
    folders = {
        folder_and_name(each)[0]
        for each in (record("batch", KINESIS), record("batch", other), record("batch", KINESIS, origin="fn:play"))
    }
    assert len(folders) == 3


def test_a_batch_of_kafka_is_in_the_folder_of_its_partition() -> None:
    info = {"eventSourceArn": "arn:aws:kafka:eu-west-1:1:cluster/c", "recordsInfo": {"orders-3": {"batchSize": 1}}}
    payload = {"timestamp": "2026-11-14T00:38:06.021Z", "KafkaBatchInfo": info}
    assert folder_and_name(record("batch", payload))[0].split("/")[3] == "orders-3"


def test_a_dead_letter_has_no_time_whatever_is_in_it() -> None:
    found = folder_and_name(record("event", {"timestamp": "2026-11-14T00:38:06.021Z"}, "e/1"))
    assert found == ("aws/lambda/async/work", "e%2F1")


def test_a_dead_letter_need_be_no_object() -> None:
    assert folder_and_name(OutgoingRecord("e-1", b"[1]", {SHAPE: "event"})) == ("aws/lambda/async/eventfn", "e-1")


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("//photos", Place("photos", "")),
        ("//photos/", Place("photos", "")),
        ("//photos/failed", Place("photos", "failed/")),
        ("//photos/failed/", Place("photos", "failed/")),
        ("//photos/a b/c", Place("photos", "a b/c/")),
    ],
)
def test_a_target_names_a_bucket_and_a_folder(target: str, place: Place) -> None:
    assert Place.parse(target) == place

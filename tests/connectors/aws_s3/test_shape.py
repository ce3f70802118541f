"""Events in S3's shape, of notifications as stores write them."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from eventfn_aws.s3.shape import Origin, Told, object_key, told
from eventfn_aws.s3.wanted import EVENTS, Wanted, is_bucket

ORIGIN = Origin("hello/s3/0", "eu-west-1", "000000000000")
NOW = 1_700_000_000_000

# As S3 writes it: an example of its documentation.
AWS: dict[str, Any] = {
    "eventVersion": "2.1",
    "eventSource": "aws:s3",
    "awsRegion": "us-west-2",
    "eventTime": "2026-01-02T03:04:05.678Z",
    "eventName": "ObjectCreated:Put",
    "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
    "requestParameters": {"sourceIPAddress": "203.0.113.1"},
    "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9"},
    "s3": {
        "s3SchemaVersion": "1.0",
        "configurationId": "testConfigRule",
        "bucket": {
            "name": "mybucket",
            "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
            "arn": "arn:aws:s3:::mybucket",
        },
        "object": {
            "key": "holidays/red+flower%2B1.jpg",
            "size": 1024,
            "eTag": "d41d8cd98f00b204e9800998ecf8427e",
            "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
            "sequencer": "0055AED6DCD90281E5",
        },
    },
}
MINIO: dict[str, Any] = {
    "eventVersion": "2.0",
    "eventSource": "minio:s3",
    "awsRegion": "",
    "eventTime": "2026-01-02T03:04:05.678Z",
    "eventName": "s3:ObjectCreated:Put",
    "userIdentity": {"principalId": "minio"},
    "requestParameters": {"principalId": "minio", "region": "", "sourceIPAddress": "127.0.0.1"},
    "responseElements": {"x-amz-request-id": "17", "x-minio-origin-endpoint": "http://127.0.0.1:9000"},
    "s3": {
        "s3SchemaVersion": "1.0",
        "configurationId": "Config",
        "bucket": {"name": "photos", "ownerIdentity": {"principalId": "minio"}, "arn": "arn:aws:s3:::photos"},
        "object": {
            "key": "in%2Fred+flower.jpg",
            "size": 4,
            "eTag": "e",
            "contentType": "image/jpeg",
            "userMetadata": {"content-type": "image/jpeg"},
            "sequencer": "17EEB5",
        },
    },
    "source": {"host": "127.0.0.1", "port": "", "userAgent": "mc"},
}
CEPH: dict[str, Any] = {
    "eventVersion": "2.2",
    "eventSource": "ceph:s3",
    "awsRegion": "default",
    "eventTime": "2026-01-02T03:04:05.124724Z",
    "eventName": "ObjectCreated:Put",
    "userIdentity": {"principalId": "tester"},
    "requestParameters": {"sourceIPAddress": ""},
    "responseElements": {"x-amz-request-id": "503a", "x-amz-id-2": "14d2-zone1-zonegroup1"},
    "s3": {
        "s3SchemaVersion": "1.0",
        "configurationId": "mynotif1",
        "bucket": {"name": "b-1", "ownerIdentity": {"principalId": "tester"}, "arn": "arn:aws:s3:::b-1", "id": "5332"},
        "object": {
            "key": "a b+50%.jpg",
            "size": "1024",
            "eTag": "37b51d194a7513e45b56f6524f2d51f2",
            "versionId": "",
            "sequencer": "F7E6D75DC742D108",
            "metadata": [],
            "tags": [],
        },
    },
    "eventId": "",
    "opaqueData": "",
}


def one(record: dict[str, Any]) -> Told:
    (found,) = told(msgspec.json.encode({"Records": [record]}), ORIGIN, NOW)
    return found


def changed(record: dict[str, Any], name: str, **facts: Any) -> dict[str, Any]:
    """`facts` of the object; None takes one away."""
    record = copy.deepcopy(record) | {"eventName": name}
    found = record["s3"]["object"] | facts
    record["s3"]["object"] = {key: value for key, value in found.items() if value is not None}
    return record


def test_what_s3_writes_is_not_changed() -> None:
    found = one(AWS)
    assert found.record == AWS
    assert (found.event, found.bucket, found.key) == ("ObjectCreated:Put", "mybucket", "holidays/red flower+1.jpg")
    assert found.time_ms == 1_767_323_045_678


def test_what_minio_writes_is_in_shape() -> None:
    found = one(MINIO)
    record = found.record
    assert found.key == "in/red flower.jpg"
    assert record["s3"]["object"]["key"] == "in/red+flower.jpg"
    assert record["eventName"] == "ObjectCreated:Put"
    assert record["eventSource"] == "aws:s3"
    assert record["eventVersion"] == "2.1"
    assert record["awsRegion"] == "eu-west-1"
    assert record["source"]["userAgent"] == "mc"
    assert record["s3"]["object"]["contentType"] == "image/jpeg"


def test_what_ceph_writes_is_in_shape() -> None:
    found = one(CEPH)
    shown = found.record["s3"]["object"]
    assert found.key == "a b+50%.jpg"
    assert shown["key"] == "a+b%2B50%25.jpg"
    assert shown["size"] == 1024
    assert "versionId" not in shown
    assert found.record["eventVersion"] == "2.2"


def test_what_is_missing_is_filled_in() -> None:
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "photos"}, "object": {"key": "a.jpg"}}}
    assert one(record).record == {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "eu-west-1",
        "eventTime": "2023-11-14T22:13:20.000Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "000000000000"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "", "x-amz-id-2": ""},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "hello/s3/0",
            "bucket": {
                "name": "photos",
                "ownerIdentity": {"principalId": "000000000000"},
                "arn": "arn:aws:s3:::photos",
            },
            "object": {"key": "a.jpg", "sequencer": "00060A24181E4000"},
        },
    }


def test_a_removal_has_neither_size_nor_etag() -> None:
    for name in ("ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated"):
        shown = one(changed(AWS, name)).record["s3"]["object"]
        assert list(shown) == ["key", "versionId", "sequencer"]


@pytest.mark.parametrize("name", ["ObjectTagging:Put", "ObjectTagging:Delete"])
def test_tagging_has_neither_size_nor_sequencer_and_is_newer(name: str) -> None:
    record = one(changed(AWS, name)).record
    assert list(record["s3"]["object"]) == ["key", "eTag", "versionId"]
    assert record["eventVersion"] == "2.3"


@pytest.mark.parametrize(
    ("name", "written", "version"),
    [
        ("ObjectCreated:Put", "", "2.1"),
        ("ObjectCreated:Put", "2.0", "2.1"),
        ("ObjectCreated:Put", "2.6", "2.6"),
        ("ObjectCreated:Put", "3", "2.1"),
        ("ObjectTagging:Put", "2.1", "2.3"),
        ("ObjectAcl:Put", "2.4", "2.4"),
        ("ObjectRestore:Delete", "2.1", "2.3"),
        ("ObjectRestore:Post", "2.1", "2.1"),
        ("IntelligentTiering", "2.1", "2.3"),
        ("Replication:OperationNotTracked", "2.2", "2.2"),
    ],
)
def test_its_version_is_as_new_as_the_event(name: str, written: str, version: str) -> None:
    assert one(changed(AWS, name) | {"eventVersion": written}).record["eventVersion"] == version


def test_it_is_the_same_when_it_is_told_again_and_another_otherwise() -> None:
    ids = [
        one(record).id
        for record in (
            AWS,
            changed(AWS, "ObjectCreated:Put", sequencer="0055AED6DCD90281E6"),
            changed(AWS, "ObjectCreated:Put", key="other"),
            changed(AWS, "ObjectCreated:Put", versionId="other"),
            changed(AWS, "ObjectCreated:Copy"),
            changed(AWS, "ObjectCreated:Put", sequencer=None),
            changed(AWS, "ObjectCreated:Put", sequencer=None) | {"eventTime": "2026-01-02T03:04:05.679Z"},
        )
    ]
    assert len(set(ids)) == len(ids)
    assert one(AWS | {"awsRegion": "elsewhere"}).id == ids[0]


def test_sns_wraps_it() -> None:
    inner = msgspec.json.encode({"Records": [AWS]}).decode()
    body = msgspec.json.encode({"Type": "Notification", "TopicArn": "arn:aws:sns:x:1:t", "Message": inner})
    assert told(body, ORIGIN, NOW) == [one(AWS)]


def test_the_test_event_is_nothing() -> None:
    event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-01-02T03:04:05.678Z", "Bucket": "b"}
    assert told(msgspec.json.encode(event), ORIGIN, NOW) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"[]",
        b"{}",
        b'{"Records": {}}',
        b'{"Records": [1]}',
        b'{"Records": [{}]}',
        b'{"Records": [{"eventName": 1, "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}]}',
        b'{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {}, "object": {"key": "k"}}}]}',
        b'{"Type": "Notification", "Message": "hello"}',
        b'{"Type": "SubscriptionConfirmation", "Token": "t"}',
    ],
)
def test_what_is_no_notification_is_told(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        told(body, ORIGIN, NOW)


def test_a_key_is_written_as_s3_writes_it() -> None:
    assert object_key("a/b c+d%é.jpg") == "a/b+c%2Bd%25%C3%A9.jpg"


# --- which are meant --------------------------------------------------------------------------------------------------


def test_a_star_is_every_event_of_its_kind() -> None:
    wanted = Wanted(None, ("ObjectCreated:*", "ObjectRemoved:Delete", "LifecycleTransition"), "", "")
    assert wanted.has_event("ObjectCreated:CompleteMultipartUpload")
    assert wanted.has_event("ObjectRemoved:Delete")
    assert wanted.has_event("LifecycleTransition")
    assert not wanted.has_event("ObjectRemoved:DeleteMarkerCreated")
    assert not wanted.has_event("ObjectTagging:Put")


def test_bucket_prefix_and_suffix_are_all_asked() -> None:
    wanted = Wanted("photos", (), "in/", ".jpg")
    assert wanted.has_object("photos", "in/a.jpg")
    assert not wanted.has_object("other", "in/a.jpg")
    assert not wanted.has_object("photos", "out/a.jpg")
    assert not wanted.has_object("photos", "in/a.png")


def test_all_events_of_s3_are_known() -> None:
    assert len(EVENTS) == len(set(EVENTS)) == 27
    assert "TestEvent" not in EVENTS


@pytest.mark.parametrize("name", ["abc", "my.bucket-1", "a" * 63])
def test_a_bucket_has_a_name(name: str) -> None:
    assert is_bucket(name)


@pytest.mark.parametrize("name", ["", "ab", "a" * 64, "A-b", "a_b", "a..b", "-ab", "a/b"])
def test_nothing_else_is_a_bucket(name: str) -> None:
    assert not is_bucket(name)

"""S3's event, and names that are hard to spell."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote_plus

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.units import Duration
from eventfn_files.s3 import Origin, name_of, notification, object_key
from eventfn_files.settings import CREATED, REMOVED, FilesSettings, Rules

ORIGIN = Origin("/srv/project/inbox", "thumbnail/files/0", "eu-central-1", "000000000000")


def event(name: str, kind: str = CREATED) -> Any:
    payload = notification(
        ORIGIN, kind, name, request_id="C3D13FE58DE4C810", now_ms=1_795_000_000_123, size=1024, etag="abc", sequence=255
    )
    return msgspec.json.decode(payload)


def test_a_creation() -> None:
    assert event("photos/red flower.jpg") == {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": "eu-central-1",
                "eventTime": "2026-11-18T11:06:40.123Z",
                "eventName": "ObjectCreated:Put",
                "userIdentity": {"principalId": "000000000000"},
                "requestParameters": {"sourceIPAddress": "127.0.0.1"},
                "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "C3D13FE58DE4C810"},
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "thumbnail/files/0",
                    "bucket": {
                        "name": "inbox",
                        "ownerIdentity": {"principalId": "000000000000"},
                        "arn": "arn:aws:s3:::inbox",
                    },
                    "object": {
                        "key": "photos/red+flower.jpg",
                        "sequencer": "00000000000000FF",
                        "size": 1024,
                        "eTag": "abc",
                    },
                },
                "eventfn": {"path": "/srv/project/inbox/photos/red flower.jpg", "folder": "/srv/project/inbox"},
            }
        ]
    }


def test_a_removal_has_neither_size_nor_etag() -> None:
    record = event("a", REMOVED)["Records"][0]
    assert record["eventName"] == "ObjectRemoved:Delete"
    assert record["s3"]["object"] == {"key": "a", "sequencer": "00000000000000FF"}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("plain.jpg", "plain.jpg"),
        ("a b", "a+b"),
        ("a+b", "a%2Bb"),
        ("50%.txt", "50%25.txt"),
        ("f(1).txt", "f%281%29.txt"),
        ("grün/日本.txt", "gr%C3%BCn/%E6%97%A5%E6%9C%AC.txt"),
        ("new\nline", "new%0Aline"),
        (os.fsdecode(b"\xff\xfe.bin"), "%FF%FE.bin"),
    ],
)
def test_keys_are_url_encoded(name: str, key: str) -> None:
    assert object_key(name) == key
    assert name_of(key) == name


@given(st.binary(min_size=1))
def test_a_key_names_one_file_and_its_file_one_key(raw: bytes) -> None:
    name = os.fsdecode(raw)
    assert name_of(object_key(name)) == name
    assert object_key(name).isascii()


def test_a_function_reads_the_key_as_it_would_from_s3() -> None:
    assert unquote_plus(event("grün & more/a+b c.jpg")["Records"][0]["s3"]["object"]["key"]) == "grün & more/a+b c.jpg"


def test_a_name_that_is_no_utf_8_has_no_path_in_json() -> None:
    record = event(os.fsdecode(b"\xff.bin"))["Records"][0]
    assert record["eventfn"] == {"path": None, "folder": "/srv/project/inbox"}
    assert record["s3"]["object"]["key"] == "%FF.bin"


# --- which files are meant --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("a.jpg", True),
        ("deep/er/a.jpg", True),
        ("a.JPG", False),
        ("a.png", False),
        (".a.jpg", False),
        (".git/a.jpg", False),
        ("x.tmp/a.jpg", False),
        ("a~/a.jpg", False),
    ],
)
def test_suffixes_and_ignored_names(name: str, meant: bool) -> None:
    assert Rules(FilesSettings(path="inbox", suffix=".jpg")).mean(name) is meant


@pytest.mark.parametrize("name", ["a.part", "a.partial", "a.crdownload", "a.tmp", "a~", ".a.swp"])
def test_unfinished_names_are_ignored_unless_they_are_wanted(name: str) -> None:
    assert not Rules(FilesSettings(path="inbox")).mean(name)
    assert Rules(FilesSettings(path="inbox", ignore=())).mean(name)


def test_prefixes_are_of_the_whole_name() -> None:
    rules = Rules(FilesSettings(path="inbox", prefix="photos/a"))
    assert rules.mean("photos/abc.jpg")
    assert not rules.mean("more/photos/abc.jpg")


def test_without_recursion_only_the_folder_itself_is_meant() -> None:
    rules = Rules(FilesSettings(path="inbox", recursive=False))
    assert rules.mean("a")
    assert not rules.mean("x/a")


def test_each_name_of_an_event_works() -> None:
    for name, kind in [
        ("ObjectCreated:*", CREATED),
        (CREATED, CREATED),
        ("ObjectRemoved:*", REMOVED),
        (REMOVED, REMOVED),
    ]:
        rules = Rules(FilesSettings(path="inbox", events=(name,)))
        assert [rules.announces(event) for event in (CREATED, REMOVED)] == [kind == CREATED, kind == REMOVED]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "path"),
        ({"path": ""}, "path: expected a folder"),
        ({"path": "inbox", "events": []}, "events: expected at least one"),
        ({"path": "inbox", "events": ["s3:ObjectCreated:*"]}, r"events: expected ObjectCreated:\*, .*not 's3:"),
        ({"path": "inbox", "ignore": ["a/b"]}, "ignore: expected patterns"),
        ({"path": "inbox", "rescan": 0.5}, "rescan: expected"),
        ({"path": "inbox", "quiet_time": "2h"}, "quiet_time: expected"),
    ],
)
def test_a_mistake_in_the_settings_names_the_key(table: dict[str, Any], message: str) -> None:
    def friendly(wanted: type, value: Any) -> Any:
        assert wanted is Duration
        return Duration.parse(value)

    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(table, FilesSettings, dec_hook=friendly)

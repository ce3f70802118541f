"""What the documentation lists is what there is."""

from pathlib import Path

import msgspec
import pytest

from eventfn.functions.model import AccessKey, Admin, Aws, FileSystem, Function, Intake, Limits, Queue, Workers

AWS = (Path(__file__).parents[1] / "docs" / "aws.md").read_text()
DECLARING = (Path(__file__).parents[1] / "docs" / "declaring.md").read_text()
TOLD_OTHERWISE = {"name", "where", "triggers"}  # headings of tables, not keys in them


@pytest.mark.parametrize("kind", [Function, FileSystem, Intake, Queue, Limits, Workers, Admin, Aws])
def test_every_key_is_documented(kind: type[msgspec.Struct]) -> None:
    listed = {
        word.strip("`").split()[-1]
        for row in DECLARING.splitlines()
        if row.startswith("| `")
        for word in row.split(" | ")[0].removeprefix("| ").split(", ")
    }
    assert [key for key in kind.__struct_fields__ if key not in listed | TOLD_OTHERWISE] == []


@pytest.mark.parametrize("kind", [Aws, AccessKey])
def test_every_key_of_aws_has_its_row(kind: type[msgspec.Struct]) -> None:
    rows = {row.split("`")[1] for row in AWS.splitlines() if row.startswith("| `")}
    assert [key for key in kind.__struct_fields__ if key not in rows] == []

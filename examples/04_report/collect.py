"""A batch of log lines, one a message: adds what they say to seen/lines.jsonl, and names those it could not read."""

import json
import os
import re
from pathlib import Path

SEEN = Path(os.environ["SEEN"]) / "lines.jsonl"
LINE = re.compile(r"(?P<day>\d{4}-\d\d-\d\d) (?P<time>\d\d:\d\d:\d\d) (?P<action>\S+) (?P<rest>.+)")


def handler(event, context):
    rows, failures = [], []
    for record in event["Records"]:
        line = LINE.fullmatch(record["body"].strip())
        if line is None:
            failures.append({"itemIdentifier": record["messageId"]})
        else:
            rows.append({"id": record["messageId"], **line.groupdict()})
    with SEEN.open("a") as seen:
        seen.writelines(json.dumps(row) + "\n" for row in rows)
    return {"batchItemFailures": failures}

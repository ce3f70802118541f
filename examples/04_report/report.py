"""Every minute: counts what collect.py has seen into report.json. A line seen twice counts once."""

import collections
import json
import os
from pathlib import Path

FOLDER = Path(os.environ["LAMBDA_TASK_ROOT"])


def handler(event, context):
    seen = FOLDER / "seen.jsonl"
    lines = seen.read_text().splitlines() if seen.exists() else []
    rows = {row["id"]: row for row in map(json.loads, lines)}
    report = {
        "time": event.get("time"),
        "lines": len(rows),
        "actions": dict(collections.Counter(row["action"] for row in rows.values()).most_common()),
    }
    unfinished = FOLDER / ".report.json"
    unfinished.write_text(json.dumps(report, indent=2))
    unfinished.rename(FOLDER / "report.json")
    return report

"""Every minute: counts what collect.py has seen into reports/report.json. A line seen twice counts once."""

import collections
import json
import os
from pathlib import Path

SEEN = Path(os.environ["SEEN"]) / "lines.jsonl"
REPORTS = Path(os.environ["REPORTS"])


def handler(event, context):
    lines = SEEN.read_text().splitlines() if SEEN.exists() else []
    rows = {row["id"]: row for row in map(json.loads, lines)}
    report = {
        "time": event.get("time"),
        "lines": len(rows),
        "actions": dict(collections.Counter(row["action"] for row in rows.values()).most_common()),
    }
    unfinished = REPORTS / ".report.json"
    unfinished.write_text(json.dumps(report, indent=2))
    unfinished.rename(REPORTS / "report.json")
    return report

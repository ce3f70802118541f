import json
import os
from collections import Counter
from pathlib import Path


def count(event, context):
    pages = Counter(json.loads(record["value"])["page"] for record in event["Records"])  # all of them, or none
    file = Path(os.environ["COUNTS"]) / "pages.json"
    counted = Counter(json.loads(file.read_text())) if file.exists() else Counter()
    new = file.with_suffix(".new")
    new.write_text(json.dumps(counted + pages, indent=2, sort_keys=True))
    new.rename(file)

import json
import os
from pathlib import Path


def run(event, context):
    failed = []
    for record in event["Records"]:
        try:
            job = json.loads(record["body"])
            (Path(os.environ["RESULTS"]) / f"{job['id']}.txt").write_text(str(sum(job["numbers"])))
        except Exception as error:
            print(f"{record['messageId']} failed: {error!r}")
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}

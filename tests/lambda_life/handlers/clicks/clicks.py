"""Counts clicks by page, window by window, with the state that Lambda carries from call to call."""

import base64
import json


def handler(event, context):
    counts = dict(event["state"])
    for record in event["Records"]:
        page = json.loads(base64.b64decode(record["kinesis"]["data"]))["page"]
        counts[page] = counts.get(page, 0) + 1
    if event["isFinalInvokeForWindow"]:
        print("WINDOW " + json.dumps({"start": event["window"]["start"], "counts": counts}, sort_keys=True))
        return {}
    return {"state": counts}

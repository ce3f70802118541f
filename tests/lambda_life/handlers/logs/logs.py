"""A subscription of a log group: what is an error is handed on."""

import base64
import gzip
import json


def handler(event, context):
    data = json.loads(gzip.decompress(base64.b64decode(event["awslogs"]["data"])))
    return [line["message"] for line in data["logEvents"] if "ERROR" in line["message"]]

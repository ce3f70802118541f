import json
import os
from pathlib import Path


def handler(event, context):
    for record in event["Records"]:
        message = json.loads(record["body"])
        with (Path(os.environ["LETTERS"]) / f"{message['customer']}.txt").open("a") as letters:
            letters.write(f"{message['kind']}: {message['order']}\n")

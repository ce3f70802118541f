import json
import os
from pathlib import Path


def handler(event, context):
    trade = json.loads(event["body"])
    (Path(os.environ["PRICES"]) / f"{trade['symbol']}.txt").write_text(str(trade["price"]))

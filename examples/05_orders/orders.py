import json
import os
from pathlib import Path


def place(event, context):
    """What it returns goes to the bus, since it is run asynchronously and has `on_success`."""
    order = json.loads(event["body"])
    total = sum(line["price"] * line["pieces"] for line in order["lines"])
    return {"order": order["id"], "total": total, "lines": order["lines"]}


def invoice(placed, context):
    lines = [f"{line['pieces']} x {line['name']}: {line['price'] * line['pieces']}" for line in placed["lines"]]
    text = "\n".join([f"Invoice for order {placed['order']}", *lines, f"Total: {placed['total']}", ""])
    (Path(os.environ["INVOICES"]) / f"{placed['order']}.txt").write_text(text)

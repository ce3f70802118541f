"""Every night: what is in a table goes into a bucket as CSV."""

import csv
import io
import os

import boto3

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])
bucket = boto3.resource("s3").Bucket(os.environ["BUCKET"])


def handler(event, context):
    rows = sorted(table.scan()["Items"], key=lambda row: row["id"])
    text = io.StringIO()
    writer = csv.DictWriter(text, ["id", "amount"])
    writer.writeheader()
    writer.writerows(rows)
    key = f"reports/{event['time'][:10]}.csv"
    bucket.put_object(Key=key, Body=text.getvalue().encode())
    return {"key": key, "rows": len(rows)}

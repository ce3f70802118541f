"""A picture comes into a bucket, a small one goes beside it."""

import io
import os
from urllib.parse import unquote_plus

import boto3
from PIL import Image

s3 = boto3.client("s3")
SIZE = int(os.environ["SIZE"])


def handler(event, context):
    made = []
    for record in event["Records"]:
        bucket, key = record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])
        picture = Image.open(io.BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read()))
        picture.thumbnail((SIZE, SIZE))
        small = io.BytesIO()
        picture.save(small, "PNG")
        made.append(f"small/{key.removeprefix('in/')}")
        s3.put_object(Bucket=bucket, Key=made[-1], Body=small.getvalue(), ContentType="image/png")
    return made

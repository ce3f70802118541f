import os
from pathlib import Path

from PIL import Image, ImageOps

SIZE = int(os.environ["SIZE"])
OUTBOX = Path(os.environ["OUTBOX"])


def handler(event, context):
    made = []
    for record in event["Records"]:
        photograph = Path(record["eventfn"]["path"])  # where the object lies on this machine
        with Image.open(photograph) as image:
            thumbnail = ImageOps.exif_transpose(image)
            thumbnail.thumbnail((SIZE, SIZE))
            # Written beside and renamed: whoever watches outbox/ never sees half a picture.
            unfinished = OUTBOX / f".{photograph.name}.{context.aws_request_id}"
            thumbnail.save(unfinished, format="JPEG", quality=85)
            unfinished.rename(OUTBOX / photograph.name)
        made.append({"key": record["s3"]["object"]["key"], "width": thumbnail.width, "height": thumbnail.height})
    return made

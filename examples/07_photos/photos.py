from urllib.parse import unquote_plus


def handler(event, context):
    (record,) = event["Records"]
    photo = record["s3"]["object"]
    key = unquote_plus(photo["key"])
    if photo["size"] == 0:
        raise ValueError(f"{key} is empty")
    return {"album": key.split("/")[1], "key": key, "bytes": photo["size"]}

"""What changes in a table, as plain values."""

from boto3.dynamodb.types import TypeDeserializer

plain = TypeDeserializer().deserialize


def image(record, name):
    found = record["dynamodb"].get(name)
    return found and {key: plain(value) for key, value in found.items()}


def handler(event, context):
    changes = []
    for record in event["Records"]:
        old, new = image(record, "OldImage") or {}, image(record, "NewImage") or {}
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        changes.append({"what": record["eventName"], "changed": changed, "new": {k: str(v) for k, v in new.items()}})
    return changes

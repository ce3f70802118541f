import base64
import hashlib
import hmac
import json
import os

SECRET = os.environ["WEBHOOK_SECRET"].encode()


def handler(event, context):
    body = base64.b64decode(event["body"]) if event["isBase64Encoded"] else event["body"].encode()
    signed = "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(signed, event["headers"].get("x-hub-signature-256", "")):
        raise PermissionError("the signature does not match the body")
    delivery = json.loads(body)
    return {
        "event": event["headers"]["x-github-event"],
        "action": delivery.get("action"),
        "repository": delivery.get("repository", {}).get("full_name"),
        "sender": delivery.get("sender", {}).get("login"),
    }

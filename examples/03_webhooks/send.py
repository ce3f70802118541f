"""Sends a payload the way GitHub does: python send.py [--url URL] [--secret SECRET] FILE ..."""

import argparse
import hashlib
import hmac
import urllib.error
import urllib.request
import uuid
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("files", nargs="+", type=Path)
parser.add_argument("--url", default="http://127.0.0.1:8080/github")
parser.add_argument("--secret", default="It's a Secret to Everybody")
options = parser.parse_args()

for file in options.files:
    body = file.read_bytes()
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": file.stem,
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-Hub-Signature-256": "sha256=" + hmac.new(options.secret.encode(), body, hashlib.sha256).hexdigest(),
    }
    try:
        with urllib.request.urlopen(urllib.request.Request(options.url, body, headers)) as answer:
            print(answer.status, answer.read().decode())
    except urllib.error.URLError as error:  # not taken, or nobody is there
        parser.exit(1, f"{options.url}: {error}\n")

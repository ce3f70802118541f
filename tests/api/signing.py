"""A request with a function's own credentials, by the standard library alone: the tests put this file into its code."""

import datetime
import hashlib
import hmac
import os
import urllib.parse
import urllib.request


def signed(method: str, url: str, body: bytes = b"", service: str = "lambda", **more: str) -> urllib.request.Request:
    """`more` headers, with `_` for `-`. Source: AWS Signature Version 4."""
    split = urllib.parse.urlsplit(url)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {name.replace("_", "-").lower(): value for name, value in more.items()}
    headers |= {"host": split.netloc, "x-amz-date": now, "x-amz-security-token": os.environ["AWS_SESSION_TOKEN"]}
    names = ";".join(sorted(headers))
    path = urllib.parse.quote(split.path or "/", safe="/-_.~")
    said = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"{method}\n{path}\n{split.query}\n{said}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{now[:8]}/{os.environ['AWS_REGION']}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    headers["authorization"] = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
    return urllib.request.Request(url, body or None, headers, method=method)

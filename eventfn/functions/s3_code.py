"""Code of functions and layers that lies in S3: fetched once, when something is made of it.

Source of the texts: functions-api, "S3 code missing". Not here: how S3 is reached (aws/clients.py), what a zip may
hold (uploads.py).
"""

from __future__ import annotations

from eventfn.aws.clients import Clients, ServiceError
from eventfn.errors import ConnectorError
from eventfn.functions.archives import MAX_UNPACKED
from eventfn.functions.refusals import Refusal, invalid


async def fetch(clients: Clients, bucket: str, key: str, version: str | None, region: str) -> bytes:
    """The object. Raises Refusal: it is not there, S3 cannot be reached, or it is larger than any code may be."""
    of_version = {} if version is None else {"VersionId": version}
    try:
        found = await clients.call("s3", "get_object", region=region, Bucket=bucket, Key=key, **of_version)
        content = await clients.read(found["Body"], MAX_UNPACKED)  # what unpacks to that is no larger packed
    except ServiceError as error:
        raise _refused(error) from error
    except ConnectorError as error:
        raise invalid(f"Error occurred while GetObject. {error}") from error
    if content is None:
        raise invalid(f"Unzipped size must be smaller than {MAX_UNPACKED} bytes")
    return content


def _refused(error: ServiceError) -> Refusal:
    said = f"S3 Error Code: {error.code}. S3 Error Message: {error.message}"
    if error.code == "AccessDenied":
        denied = "Your access has been denied by S3, please make sure your request credentials have permission to"
        return Refusal("AccessDeniedException", f"{denied} GetObject for the bucket and key. {said}", typed=False)
    return invalid(f"Error occurred while GetObject. {said}")

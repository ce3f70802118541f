"""Code as a request brings it -> Code that can be kept: a zip that is checked to the last byte, or a folder.

Not here: keeping it as a blob (api/code_sources.py), unpacking it where it runs (deployment.py), fetching it from S3
(s3_code.py), what a request says (api/).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import os
import zipfile
from pathlib import Path

from eventfn.functions import archives, runs
from eventfn.functions.archives import MAX_UNPACKED, BadArchive, TooMuch
from eventfn.functions.managed import Code
from eventfn.functions.refusals import Refusal, invalid

MAX_ZIPPED = 52_428_800  # bytes of a zip that comes in the request itself
LOCAL_FOLDER = "local-folder"  # as S3Bucket: S3Key is a folder of this machine


def check_request(archive: bytes) -> None:
    """Raises Refusal: too large for a zip that comes in the request itself."""
    if len(archive) > MAX_ZIPPED:
        raise Refusal("RequestEntityTooLargeException", f"Zipped size must be smaller than {MAX_ZIPPED} bytes")


def checked(archive: bytes) -> Code:
    """A zip, which is then kept as the blob that it names. Writes nothing, and blocks for as long as unpacking
    it takes. Raises Refusal."""
    try:
        found = archives.check(io.BytesIO(archive))
    except TooMuch as error:
        raise invalid(f"Unzipped size must be smaller than {MAX_UNPACKED} bytes") from error
    except BadArchive as error:
        raise invalid("Could not unzip uploaded file. Please check your file, then try to upload again.") from error
    digest = hashlib.sha256(archive)
    return Code(
        sha256=base64.b64encode(digest.digest()).decode(),
        size=len(archive),
        unpacked=found.unpacked,
        blob=digest.hexdigest(),
        bootstrap=runs.BOOTSTRAP in found.programs,
    )


async def of_folder(path: str, data: str) -> Code:
    """Of a folder that is used where it is: its digest is the digest of its path. Raises Refusal."""
    return await asyncio.to_thread(_of_folder, path, data)


def _of_folder(path: str, data: str) -> Code:
    real = os.path.realpath(path)
    if not Path(path).is_absolute() or "\0" in path:
        raise invalid(f"With the bucket '{LOCAL_FOLDER}' the key is the absolute path of a folder, not '{path}'")
    if not Path(real).is_dir():
        raise invalid(f"With the bucket '{LOCAL_FOLDER}' the key is a folder of this machine, and {path} is none")
    if Path(os.path.realpath(data)).is_relative_to(real) or Path(real).is_relative_to(os.path.realpath(data)):
        raise invalid(f"{path} holds, or is within, eventfn's own data folder, which no function sees")
    digest = base64.b64encode(hashlib.sha256(os.fsencode(real)).digest()).decode()
    return Code(sha256=digest, size=0, folder=real)


def zipped(folder: str) -> bytes:
    """A folder as it would be uploaded, without what Python has compiled. Blocks. Raises Refusal, OSError."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for place, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
            for name in sorted(names):
                path = Path(place, name)
                if path.is_file():
                    archive.write(path, path.relative_to(folder))
                if buffer.tell() > MAX_UNPACKED:
                    raise invalid(f"{folder} is too large to be handed out as a zip")
    return buffer.getvalue()

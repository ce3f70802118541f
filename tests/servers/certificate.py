"""A certificate for 127.0.0.1 that is its own authority: a server shows it, a client believes it, or shows it too."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def missing() -> str | None:
    """What to install, or None."""
    return None if shutil.which("openssl") else "apt-get install openssl"


def make(folder: Path) -> tuple[Path, Path]:
    """(certificate, key), PEM."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    name = ("-subj", "/CN=tests", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key))
    command = ("openssl", "req", "-x509", *curve, "-nodes", "-days", "2", *name, "-out", str(certificate))
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key

"""awslambdaric, on the machine's /usr/bin/python3."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.clients.build import SOURCES, Build, bootstrap, pip

VERSION = "4.2.2"


def _make(folder: Path) -> None:
    asked = ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    pip(folder, f"awslambdaric=={VERSION}", python=found)
    shutil.copy(SOURCES / "python" / "function.py", folder)
    bootstrap(folder, '/usr/bin/python3 -m awslambdaric "$_HANDLER"')


BUILD = Build(
    "awslambdaric",
    VERSION,
    _make,
    {},
    [SOURCES / "python", Path(__file__)],
    {"/usr/bin/python3": "apt-get install python3"},
)

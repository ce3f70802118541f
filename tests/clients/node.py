"""aws-lambda-ric: npm builds its native part out of the curl and the C++ runtime that it brings."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.clients.build import SOURCES, Build, bootstrap, run

VERSION = "4.0.2"


def _make(folder: Path) -> None:
    install = ["npm", "install", "--loglevel=error", "--no-audit", "--no-fund", "--foreground-scripts"]
    # Built once and run for a second: without the optimiser it takes half of the time.
    run([*install, f"aws-lambda-ric@{VERSION}"], folder, CFLAGS="-O0", CXXFLAGS="-O0")
    if not (folder / "node_modules/aws-lambda-ric/rapid-client.node").is_file():
        raise SystemExit("npm did not build the native part of aws-lambda-ric")
    # What only building needed: 60 MB of the 250 that a function may have.
    for name in ("node-gyp", "node-addon-api"):
        shutil.rmtree(folder / "node_modules" / name, ignore_errors=True)
    shutil.copy(SOURCES / "node" / "index.mjs", folder)
    bootstrap(folder, 'node node_modules/aws-lambda-ric/index.mjs "$_HANDLER"')


BUILD = Build(
    "aws-lambda-ric",
    VERSION,
    _make,
    {"cmake": "apt-get install cmake g++ make", "g++": "apt-get install g++ make", "npm": "apt-get install npm"},
    [SOURCES / "node", Path(__file__)],
    {"node": "apt-get install nodejs"},
)
